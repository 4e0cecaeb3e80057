package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

func TestRecoverReleasesWhatTheLastProcessHadTakenUp(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.Send(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for range 5 { // more often than a message may be received
		got, err := queue.Receive(t.Context(), 10, 0)
		if err != nil || len(got) != 1 || got[0].ReceiveCount != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		if err := db.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := queue.Delete(t.Context(), []string{got[0].Receipt}); err != nil { // stale now
			t.Fatal(err)
		}
	}
	if visible, inFlight, dead, err := queue.Depth(t.Context()); visible != 1 || inFlight+dead != 0 || err != nil {
		t.Errorf("%d visible, %d in flight, %d dead, %v", visible, inFlight, dead, err)
	}
}

func TestAMessageThatEndsEveryProcessBecomesADeadLetter(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.Send(t.Context(), []string{"a"}); err != nil {
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
	if visible, inFlight, dead, err := queue.Depth(t.Context()); visible+inFlight != 0 || dead != 1 || err != nil {
		t.Errorf("%d visible, %d in flight, %d dead, %v", visible, inFlight, dead, err)
	}
}

func TestRecoverLeavesDelaysAlone(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	db := open(t, sqlite.WithClock(func() time.Time { return now }))
	queue := db.Queue("q", time.Hour, 2)
	if err := queue.SendAfter(t.Context(), time.Minute, "a"); err != nil {
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
		if err != nil || len(got) != step.want {
			t.Fatalf("at %s: %+v, %v, want %d messages", now, got, err, step.want)
		}
	}
}
