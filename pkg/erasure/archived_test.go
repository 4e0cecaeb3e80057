package erasure_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// Head implements archive.Places.
func (w *world) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// putEncrypted stores an entry of a user with a value of user-42, amid others without one.
func (w *world) putEncrypted(user string, value encrypted, others int) {
	w.t.Helper()
	entries := []audit.Entry{{
		ID: value.id, Tenant: "acme", UserID: user, Action: "VIEW", ResourceType: "order", Timestamp: value.id.Time(), ReceivedAt: w.now,
		Encrypted: []audit.Encrypted{value.element},
	}}
	for i := range others {
		e := entries[0]
		e.Timestamp = w.now.Add(time.Duration(i-others/2) * time.Second).Truncate(time.Millisecond)
		e.ID, e.Encrypted = audit.NewEntryID(e.Timestamp, [10]byte{2}), nil
		entries = append(entries, e)
	}
	if _, err := w.db.Entries().Append(w.t.Context(), "acme", entries); err != nil {
		w.t.Fatal(err)
	}
}

// leave archives the month of all entries, and removes them from the system of record.
func (w *world) leave() {
	w.t.Helper()
	w.tenant.Settings.Archive = true
	w.worker.Runners[jobs.KindArchive] = &archive.Runner{
		Store: w.db.Entries(), Blobs: w.archive, Holds: w.db.Holds(), Tenants: w, Places: w, Recorder: w, Now: w.clock, Random: random, MaxRows: 250,
	}
	service := &jobs.Service{Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Now: w.clock}
	job := jobs.Job{ID: "archive", Kind: jobs.KindArchive, Tenant: "acme", CreatedBy: "service", Checkpoint: json.RawMessage(`{"month":"2026-03"}`)}
	if _, err := service.Start(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
	w.work(1)
	of := retention.Selection{}
	for {
		page, err := w.db.Entries().Retained(w.t.Context(), "acme", of, retention.MaxEntries)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			return
		}
		var ids []audit.EntryID
		for i := range page {
			ids = append(ids, page[i].ID)
		}
		if err := w.db.Entries().Mark(w.t.Context(), "acme", ids, -time.Second); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.db.Entries().RemoveDue(w.t.Context(), "acme", ids); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A hold covers an entry that is in the archive alone.
func TestAHoldOnAnArchivedEntryStopsAnErasure(t *testing.T) {
	for name, test := range map[string]struct {
		held string
		want jobs.State
	}{"an entry of another user has a value": {"eve", jobs.StateFailed}, "no entry has": {"adam", jobs.StateRunning}} {
		w := newWorld(t)
		value := w.encrypt(w.process(), 1)
		w.putEncrypted("eve", value, 700)
		w.leave()
		created := w.create(0)
		w.hold(test.held)
		w.work(1)
		if job := w.job(created.ID); !job.Archive {
			t.Errorf("%s: the job is %s and not for the workers of the archive", name, job.State)
		}
		w.work(3)
		w.wantState(created.ID, test.want)
		w.wantOpens(w.process(), value, test.want == jobs.StateFailed)
		if job := w.job(created.ID); test.want == jobs.StateFailed && !strings.Contains(job.Error, "legal hold") {
			t.Errorf("%s: it failed with %q, want the hold", name, job.Error)
		}
	}
}

func (w *world) job(id string) jobs.Job {
	w.t.Helper()
	job, err := w.db.Jobs().Job(w.t.Context(), "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	return job
}

// A hold is set after the archive was checked for others. The check begins again.
func TestAHoldThatIsSetAfterTheArchiveWasCheckedCounts(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.putEncrypted("eve", value, 10)
	w.leave()
	created := w.create(0)
	w.hold("adam")
	w.work(2) // both checks
	if job := w.job(created.ID); job.Archive || job.Committed {
		t.Fatalf("the job is for the workers of the archive: %t, committed: %t, want it before its commitment", job.Archive, job.Committed)
	}
	w.hold("eve")
	w.work(3)
	w.wantState(created.ID, jobs.StateFailed)
	w.wantOpens(w.process(), value, true)
}

// The slices of the check are short, and messages come twice. The last entry counts.
func TestAnArchiveIsCheckedInSlices(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.putEncrypted("eve", value, 2000)
	last := value
	last.id = audit.NewEntryID(w.now.Add(2*time.Hour), [10]byte{1})
	w.putEncrypted("mallory", last, 0)
	w.leave()
	created := w.create(0)
	w.hold("mallory")
	w.worker.SliceTime = time.Nanosecond
	w.worker.Now = func() time.Time { w.now = w.now.Add(time.Microsecond); return w.now }
	slices := 0
	for ; slices < 200 && !w.job(created.ID).State.Finished(); slices++ {
		message := w.messages[len(w.messages)-1]
		for range 2 { // the second time it is stale
			if err := w.worker.Handle(t.Context(), message); err != nil {
				t.Error(err)
			}
		}
	}
	w.wantState(created.ID, jobs.StateFailed)
	if slices < 20 {
		t.Errorf("the checks took %d slices, want many", slices)
	}
	w.wantOpens(w.process(), value, true)
}

// What cannot be read can be what a hold covers.
func TestADamagedArchiveStopsAnErasure(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.putEncrypted("eve", value, 10)
	w.leave()
	if err := w.archive.Delete(t.Context(), "acme", "month=2026-03/part-000001.parquet"); err != nil {
		t.Fatal(err)
	}
	created := w.create(0)
	w.hold("adam")
	w.work(3)
	w.wantState(created.ID, jobs.StateFailed)
	if job := w.job(created.ID); !strings.Contains(job.Error, "part-000001.parquet of 2026-03 is missing") {
		t.Errorf("it failed with %q, want the part", job.Error)
	}
	w.wantOpens(w.process(), value, true)
}
