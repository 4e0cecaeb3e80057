package httpapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// addJob stores a job of a tenant. The newest has the highest number.
func (w *world) addJob(tenant audit.TenantID, number int, state jobs.State) {
	w.t.Helper()
	job := jobs.Job{
		ID: fmt.Sprintf("job-%02d", number), Kind: jobs.KindPurgeTenant, Tenant: tenant, State: state, CreatedBy: "op",
		CreatedAt: start.Add(time.Duration(number) * time.Second), ResumeAt: start,
	}
	if state.Finished() {
		job.StartedAt, job.FinishedAt, job.Progress = start, start.Add(time.Minute), 1
	}
	if err := w.db.Jobs().CreateJob(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
}

// jobPage is an answer of GET /jobs.
type jobPage struct {
	Items      []struct{ ID, State string }
	Next, Prev *string
}

func (p jobPage) ids() string {
	text := ""
	for _, item := range p.Items {
		text += item.ID[4:] + " "
	}
	return text
}

func TestJobsAreListedTheNewestFirst(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.addJob("acme", n, jobs.StateSucceeded)
	}
	w.addJob("acme", 5, jobs.StateQueued)
	w.addJob("globex", 6, jobs.StateQueued)
	list := func(query string) jobPage {
		var page jobPage
		w.call("auditor", "GET", "/jobs"+query, "", nil).want(t, 200, "").decode(t, &page)
		return page
	}
	if got, want := list("").ids(), "05 04 03 02 01 00 "; got != want {
		t.Errorf("listed %s, want %s", got, want)
	}
	if got, want := list("?state=queued").ids(), "05 "; got != want {
		t.Errorf("listed %s in this state, want %s", got, want)
	}
	first := list("?limit=4")
	if got, want := first.ids(), "05 04 03 02 "; got != want {
		t.Errorf("the first page has %s, want %s", got, want)
	}
	second := list("?limit=4&cursor=" + *first.Next)
	if got, want := second.ids(), "01 00 "; got != want {
		t.Errorf("the second page has %s, want %s", got, want)
	}
	if second.Next != nil {
		t.Errorf("the last page has the next cursor %q, want none", *second.Next)
	}
	if got, want := list("?limit=4&cursor="+*second.Prev).ids(), first.ids(); got != want {
		t.Errorf("back on the first page: %s, want %s", got, want)
	}
	w.call("auditor", "GET", "/jobs?state=queued&cursor="+*first.Next, "", nil).want(t, 422, "invalid")
	w.call("auditor", "GET", "/jobs?kind=dance", "", nil).want(t, 422, "invalid")
	w.call("auditor", "GET", "/jobs?state=done", "", nil).want(t, 422, "invalid")
}

func TestOneJob(t *testing.T) {
	w := newWorld(t)
	w.addJob("acme", 1, jobs.StateSucceeded)
	w.call("auditor", "GET", "/jobs/job-01", "", nil).want(t, 200, "").is(t, `{"id":"job-01","kind":"purge_tenant","tenant_id":"acme",`+
		`"state":"succeeded","progress":1,"count":0,"created_by":"op","created_at":"2026-03-02T09:30:01.000Z",`+
		`"started_at":"2026-03-02T09:30:00.000Z","finished_at":"2026-03-02T09:31:00.000Z"}`)
	w.call("auditor", "GET", "/jobs/job-02", "", nil).want(t, 404, "not_found")
	w.call("foreign", "GET", "/jobs/job-01", "", map[string]string{"X-Tenant-ID": "globex"}).want(t, 404, "not_found")
	w.call("foreign", "GET", "/jobs/job-01", "", nil).want(t, 403, "forbidden")
	w.call("user", "GET", "/jobs/job-01", "", nil).want(t, 403, "forbidden")
}

func TestADeletionCannotBeCancelled(t *testing.T) {
	w := newWorld(t)
	w.addJob("acme", 1, jobs.StateQueued)
	w.addJob("acme", 2, jobs.StateSucceeded)
	w.call("auditor", "DELETE", "/jobs/job-01", "", nil).want(t, 403, "forbidden")
	w.call("operator", "DELETE", "/jobs/job-01", "", nil).want(t, 409, "conflict")
	w.call("operator", "DELETE", "/jobs/job-02", "", nil).want(t, 409, "conflict")
	w.call("operator", "DELETE", "/jobs/job-03", "", nil).want(t, 404, "not_found")
}

// TestJobsOfADeletedTenant: operators see them, nobody else does.
func TestJobsOfADeletedTenant(t *testing.T) {
	w := newWorld(t)
	for n, tenant := range []audit.TenantID{"leaving", "no-such"} {
		w.addJob(tenant, n, jobs.StateRunning)
		header := map[string]string{"X-Tenant-ID": string(tenant)}
		target := fmt.Sprintf("/jobs/job-%02d", n)
		w.call("operator", "GET", target, "", header).want(t, 200, "")
		var page jobPage
		if w.call("operator", "GET", "/jobs", "", header).want(t, 200, "").decode(t, &page); len(page.Items) != 1 {
			t.Errorf("%s has %d jobs, want 1", tenant, len(page.Items))
		}
		w.call("admin", "GET", target, "", header).want(t, 403, "forbidden")
		w.call("operator", "GET", "/logs", "", header).want(t, 403, "forbidden")
	}
}
