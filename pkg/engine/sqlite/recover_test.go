package sqlite_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

func TestRecoverReleasesMessagesOfTheLastProcess(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.Send(t.Context(), "acme", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for range 5 { // more often than a message may be received
		got, err := queue.Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 {
			t.Fatalf("received %d messages, want 1", len(got))
		}
		if got[0].ReceiveCount != 1 {
			t.Fatalf("the receive count is %d, want 1", got[0].ReceiveCount)
		}
		if err := db.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := queue.Delete(t.Context(), []string{got[0].Receipt}); err != nil { // stale now
			t.Fatal(err)
		}
	}
	wantDepth(t, queue, 1, 0, 0)
}

func wantDepth(t *testing.T, queue *sqlite.Queue, visible, inFlight, dead int64) {
	t.Helper()
	v, f, d, err := queue.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := [...]int64{v, f, d}, [...]int64{visible, inFlight, dead}; got != want {
		t.Errorf("visible, in flight and dead messages are %v, want %v", got, want)
	}
}

func TestMessageThatEndsEachProcessBecomesADeadLetter(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.Send(t.Context(), "acme", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := queue.Receive(t.Context(), 10, 0); err != nil {
			t.Fatal(err)
		}
		if err := db.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantDepth(t, queue, 0, 0, 1)
}

func TestRecoverKeepsDelays(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	db := open(t, sqlite.WithClock(func() time.Time { return now }))
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.SendAfter(t.Context(), "acme", time.Minute, "a"); err != nil {
		t.Fatal(err)
	}
	if err := db.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{time.Minute - 1, 0}, {1, 1}} {
		now = now.Add(step.wait)
		got, err := queue.Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != step.want {
			t.Fatalf("at %s: received %d messages, want %d", now, len(got), step.want)
		}
	}
}

// TestMessagesComeBackAfterAClockIsSetBack: what is hidden until a day later than any delay is ready at once.
func TestMessagesComeBackAfterAClockIsSetBack(t *testing.T) {
	t.Run("deliveries in the file", func(t *testing.T) { checkClockSetBack(t, sqlite.Backlog{}) })
	t.Run("deliveries in memory", func(t *testing.T) { checkClockSetBack(t, sqlite.Backlog{Gather: time.Millisecond}) })
}

func checkClockSetBack(t *testing.T, backlog sqlite.Backlog) {
	t.Helper()
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	db := open(t, sqlite.WithClock(func() time.Time { return now }))
	queue := db.Queue("q", 3*time.Minute, 5).WithBacklog(backlog)
	received := func() int {
		t.Helper()
		got, err := queue.Receive(t.Context(), 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if err := queue.Send(t.Context(), "acme", []string{"in flight"}); err != nil {
		t.Fatal(err)
	}
	if got := received(); got != 1 {
		t.Fatalf("received %d messages, want 1", got)
	}
	if err := queue.SendAfter(t.Context(), "acme", jobs.MaxDelay, "delayed"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-30 * time.Second) // as clocks are corrected
	if got := received(); got != 0 {
		t.Errorf("after a correction: received %d messages, want 0", got)
	}
	now = now.Add(-24 * time.Hour)
	if got := received(); got != 2 {
		t.Errorf("a day back: received %d messages, want 2", got)
	}
	if got := received(); got != 0 {
		t.Errorf("again: received %d messages, want 0", got)
	}
	now = now.Add(3 * time.Minute)
	if got := received(); got != 2 {
		t.Errorf("after the visibility timeout: received %d messages, want 2", got)
	}
}

// TestRecoverFreesTheJobsOfTheLastProcess: a job whose worker was killed stands still at once. A
// job that waits in the queue does not.
func TestRecoverFreesTheJobsOfTheLastProcess(t *testing.T) {
	db := open(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	for id, state := range map[string]jobs.State{"running": jobs.StateRunning, "queued": jobs.StateQueued} {
		job := jobs.Job{ID: id, Kind: jobs.KindPurgeTenant, Tenant: "acme", State: state, CreatedAt: now, ResumeAt: now.Add(3 * time.Minute)}
		if err := db.Jobs().CreateJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	overdue := func() (ids []string) {
		t.Helper()
		list, err := db.Jobs().OverdueJobs(t.Context(), time.Now(), now.Add(time.Hour), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range list {
			ids = append(ids, job.ID)
		}
		return ids
	}
	if got := overdue(); len(got) > 0 {
		t.Errorf("before: the jobs %v stand still, want none", got)
	}
	if err := db.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := overdue(), []string{"running"}; !slices.Equal(got, want) {
		t.Errorf("afterwards: the jobs %v stand still, want %v", got, want)
	}
	list, err := db.Jobs().OverdueJobs(t.Context(), time.Now(), now.Add(time.Hour), 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("got the jobs %v and error %v, want one", list, err)
	}
	if err := db.Jobs().PostponeJob(t.Context(), list[0], now.Add(time.Minute)); err != nil {
		t.Errorf("Plan resumes the job: got error %v, want none", err)
	}
}
