package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

// gathering returns the queue as one that has its deliveries in memory.
func gathering(q *sqlite.Queue) *sqlite.Queue {
	return q.WithBacklog(sqlite.Backlog{Gather: time.Millisecond})
}

func TestQueueInMemory(t *testing.T) {
	conformance.Queue(t, func(t *testing.T, visibility time.Duration, maxReceives int) conformance.MessageQueue {
		return messageQueue{gathering(open(t).Queue("q", visibility, maxReceives))}
	})
}

func receive(t *testing.T, q *sqlite.Queue, n int) []sqlite.Message {
	t.Helper()
	messages, err := q.Receive(t.Context(), n, 0)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func wantBodies(t *testing.T, when string, got []sqlite.Message, want ...string) {
	t.Helper()
	bodies := []string{}
	for _, m := range got {
		bodies = append(bodies, m.Body)
	}
	slices.Sort(bodies)
	if !slices.Equal(bodies, want) {
		t.Errorf("%s: received %q, want %q", when, bodies, want)
	}
}

// TestLateDeliveriesComeAgain: they take new turns, and their receipts are stale once they have come again.
func TestLateDeliveriesComeAgain(t *testing.T) {
	now := time.Now()
	q := gathering(open(t, sqlite.WithClock(func() time.Time { return now })).Queue("q", time.Minute, 3))
	sendMany(t, q, "acme", 3)
	var stale []string
	for count := 1; count <= 3; count++ {
		got := receive(t, q, 10)
		wantBodies(t, fmt.Sprint("time ", count), got, "0", "1", "2")
		wantDepth(t, q, 0, 3, 0)
		for _, m := range got {
			if m.ReceiveCount != count {
				t.Errorf("the receive count of %s is %d, want %d", m.Body, m.ReceiveCount, count)
			}
		}
		if err := q.Delete(t.Context(), stale); err != nil {
			t.Fatal(err)
		}
		if len(stale) > 0 {
			if err := q.ChangeVisibility(t.Context(), stale[0], 0); err != nil {
				t.Fatal(err)
			}
		}
		wantBodies(t, "while they are in flight", receive(t, q, 10))
		stale = nil
		for _, m := range got {
			stale = append(stale, m.Receipt)
		}
		now = now.Add(2 * time.Minute)
	}
	// A delivery that took too long may still be finished until the message comes again.
	if err := q.Delete(t.Context(), stale[:1]); err != nil {
		t.Fatal(err)
	}
	wantBodies(t, "after the last time", receive(t, q, 10))
	wantDepth(t, q, 0, 0, 2)
	moved, err := q.Redrive(t.Context())
	if err != nil || moved != 2 {
		t.Fatalf("moved %d messages (%v), want 2", moved, err)
	}
	wantBodies(t, "after a redrive", receive(t, q, 10), "1", "2")
}

func recoverAll(t *testing.T, db *sqlite.DB) {
	t.Helper()
	if err := db.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestDeliveriesEndWithTheirProcess: the next one delivers again what was in flight, and what was sent meanwhile.
func TestDeliveriesEndWithTheirProcess(t *testing.T) {
	for name, shared := range map[string][]sqlite.Option{"alone": nil, "shared": {sqlite.WithSharedFile()}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "o.db")
			var stale []string
			for restart := range 30 { // more often than a message may be received, but maxUncounted
				db := openAt(t, path)
				recoverAll(t, db)
				q := gathering(db.Queue("q", time.Hour, 2))
				if restart == 0 {
					sendMany(t, q, "acme", 5)
				}
				if err := q.Delete(t.Context(), stale); err != nil {
					t.Fatal(err)
				}
				stale = nil
				got := receive(t, q, 3)
				if restart < 20 && len(got) != 3 || restart > 25 && len(got) > 2 {
					t.Fatalf("start %d: received %d messages", restart, len(got))
				}
				for _, m := range got {
					if restart < 20 && m.ReceiveCount != 1 {
						t.Fatalf("start %d: the receive count is %d, want 1", restart, m.ReceiveCount)
					}
					stale = append(stale, m.Receipt)
				}
				closeDB(t, db)
				if restart == 10 {
					other := openAt(t, path, shared...)
					wantDepth(t, other.Queue("q", time.Hour, 2), 5, 0, 0)
					wantBodies(t, "another process", receive(t, other.Queue("q", time.Hour, 100), 10), "0", "1", "2", "3", "4")
					recoverAll(t, other)
					closeDB(t, other)
				}
			}
			db := openAt(t, path)
			recoverAll(t, db)
			q := db.Queue("q", time.Hour, 2)
			receive(t, q, 10)
			_, inFlight, dead, err := q.Depth(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if inFlight+dead != 5 || dead < 3 {
				t.Errorf("%d messages are in flight and %d are dead letters, want 5 and at least those 3 that each process had", inFlight, dead)
			}
		})
	}
}

// TestHandlesOfOneQueueAgree: what one has in memory is in flight for the others.
func TestHandlesOfOneQueueAgree(t *testing.T) {
	db := open(t)
	written := db.Queue("q", time.Hour, 5)
	memory := gathering(written)
	sendMany(t, written, "acme", 4)
	var receipts []string
	for i, q := range []*sqlite.Queue{memory, written, memory, written} {
		got := receive(t, q, 1)
		wantBodies(t, "one after the other", got, fmt.Sprint(i))
		receipts = append(receipts, got[0].Receipt)
	}
	wantDepth(t, written, 0, 4, 0)
	if err := written.ChangeVisibility(t.Context(), receipts[0], 0); err != nil {
		t.Fatal(err)
	}
	if err := memory.ChangeVisibility(t.Context(), receipts[1], 0); err != nil {
		t.Fatal(err)
	}
	wantDepth(t, memory, 2, 2, 0)
	if err := memory.Delete(t.Context(), receipts[2:]); err != nil {
		t.Fatal(err)
	}
	got := receive(t, memory, 10)
	wantBodies(t, "released", got, "0", "1")
	for _, m := range got {
		if m.ReceiveCount != 2 {
			t.Errorf("the receive count of %s is %d, want 2", m.Body, m.ReceiveCount)
		}
	}
	if err := written.Delete(t.Context(), []string{got[0].Receipt, got[1].Receipt}); err != nil {
		t.Fatal(err)
	}
	wantDepth(t, memory, 0, 0, 0)
}

// TestPurgedDeliveries: messages of a tenant that were removed while they were in flight do not come again.
func TestPurgedDeliveries(t *testing.T) {
	now := time.Now()
	db := open(t, sqlite.WithClock(func() time.Time { return now }))
	q := gathering(db.Queue("q", time.Minute, 5))
	sendMany(t, q, "acme", 3)
	sendMany(t, q, "other", 1)
	receive(t, q, 4)
	purgeStore(t, "messages", db.Messages(), "acme", 10)
	sendMany(t, q, "acme", 1) // it was accepted before
	wantDepth(t, q, 1, 1, 0)
	wantBodies(t, "after the purge", receive(t, q, 10), "0")
	now = now.Add(2 * time.Minute)
	if got := receive(t, q, 10); len(got) != 2 {
		t.Errorf("received %d messages again, want 2", len(got))
	}
}

// TestAProcessWithoutRecover delivers what was in flight, whatever the file says was received.
func TestAProcessWithoutRecover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	for range 3 {
		db := openAt(t, path)
		q := gathering(db.Queue("q", time.Hour, 2))
		sendMany(t, q, "acme", 1)
		if got := receive(t, q, 10); len(got) == 0 {
			t.Error("received no message, want at least the one that was sent")
		}
		closeDB(t, db)
	}
	wantBodies(t, "after three processes", receive(t, openAt(t, path).Queue("q", time.Hour, 2), 10), "0", "0", "0")
}

// TestMessagesOfOlderFilesHaveTheirBodies: the bodies had a table of their own.
func TestMessagesOfOlderFilesHaveTheirBodies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	older := sqlite.MigrationsBefore("received_places")
	file, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, err = file.ExecContext(t.Context(), strings.Join(older, "")+fmt.Sprintf(`
		PRAGMA application_id = %d; PRAGMA user_version = %d;
		INSERT INTO messages (number, queue, tenant, turn, visible, lease, receives, sent) VALUES (7, 'q', 'acme', 1, 0, 0, 0, 1), (8, 'q', 'acme', 2, 0, 0, 0, 1);
		INSERT INTO bodies VALUES (7, 'seven'), (8, 'eight');`, sqlite.ApplicationID, len(older)))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	wantBodies(t, "of an older file", receive(t, openAt(t, path).Queue("q", time.Minute, 5), 10), "eight", "seven")
}
