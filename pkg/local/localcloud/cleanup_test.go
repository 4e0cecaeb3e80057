package localcloud_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
)

// previewAnswer is the answer of a dry run of a cleanup.
type previewAnswer struct {
	Count, Held    int
	Oldest, Newest *string
}

// jobAnswer is an answer about a job.
type jobAnswer struct {
	ID, Kind, State, Error string
	Count                  int
}

// cleanup removes entries, and waits for the end of the job.
func (c caller) cleanup(query url.Values) (job jobAnswer) {
	c.t.Helper()
	got := c.do("DELETE", "/logs/cleanup?"+query.Encode(), "", nil)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("cleanup: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	decode(c.t, got.body, &job)
	if at, want := got.header.Get("Location"), "/api/v1/jobs/"+job.ID; at != want {
		c.t.Errorf("got Location %q, want %q", at, want)
	}
	return c.finishedJob(job.ID)
}

// finishedJob waits for the end of a job.
func (c caller) finishedJob(id string) (job jobAnswer) {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		decode(c.t, c.get("/jobs/"+id, nil).body, &job)
		if job.State != "queued" && job.State != "running" {
			return job
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the job is %s after a minute, want it to end", job.State)
		}
	}
}

func (c caller) previewCleanup(query url.Values) (p previewAnswer) {
	c.t.Helper()
	query.Set("dry_run", "true")
	got := c.do("DELETE", "/logs/cleanup?"+query.Encode(), "", nil)
	if got.status != http.StatusOK {
		c.t.Fatalf("preview: got status %d, want %d: %s", got.status, http.StatusOK, got.body)
	}
	decode(c.t, got.body, &p)
	return p
}

func TestEndToEndCleanup(t *testing.T) { everyWay(t, aCleanup) }

// aCleanup removes some of the entries of one of two tenants with the same entries.
func aCleanup(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	admin, other := s.tenantAdmin("acme"), s.tenantAdmin("globex")
	const sent = 50 // of ten users in turn
	var entries []string
	for n := range sent {
		entries = append(entries, entryText(n))
	}
	admin.bulk(entries)
	other.bulk(entries)
	hold := admin.do("POST", "/tenants/acme/legal-holds", `{"matter":"Case 17","reason":"letter","user_ids":["user-3"]}`, nil)
	if hold.status != http.StatusAccepted {
		t.Fatalf("hold: got status %d, want %d: %s", hold.status, http.StatusAccepted, hold.body)
	}
	admin.eventually(sent + 1) // with the record of the hold
	other.eventually(sent)
	id := string(admin.list(url.Values{"resource_id": {"order-7"}}).Items[0]["id"])

	query := func() url.Values { return url.Values{"before": {"2027-01-01"}, "user_id": {"user-3", "user-7"}} }
	preview := admin.previewCleanup(query())
	if preview.Count != 5 || preview.Held != 5 {
		t.Errorf("the preview counts %d and %d held, want 5 and 5", preview.Count, preview.Held)
	}
	narrow := s.as(s.token(access.Claims{Subject: "n", Tenants: []string{"acme"}, Role: access.RoleAdmin, Resources: []string{"order:order-7"}}), "acme")
	if got := narrow.previewCleanup(query()).Count; got != 1 {
		t.Errorf("the preview of a credential for one order counts %d, want 1", got)
	}
	job := admin.cleanup(query())
	if job.State != "succeeded" || job.Count != preview.Count {
		t.Errorf("the job is %s (%s) with the count %d, want succeeded with %d", job.State, job.Error, job.Count, preview.Count)
	}
	admin.eventually(sent + 3 - preview.Count) // the hold, and the start and the end of the cleanup, are recorded
	other.eventually(sent)
	if got := admin.get("/logs/"+id[1:len(id)-1], nil); got.status != http.StatusNotFound {
		t.Errorf("a removed entry: got status %d, want %d", got.status, http.StatusNotFound)
	}
	if got := len(admin.list(url.Values{"q": {fmt.Sprintf("action:(cleanup.create OR cleanup.finish) resource_id:%s", job.ID)}}).Items); got != 2 {
		t.Errorf("found %d records of the cleanup, want 2", got)
	}
	if got := admin.cleanup(url.Values{"before": {"2027-01-01"}}); got.Count != sent-10 {
		t.Errorf("a cleanup of the rest counts %d, want %d", got.Count, sent-10)
	}
	admin.eventually(5 + 5) // what is held, and the service's own entries
}
