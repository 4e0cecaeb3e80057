package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// TestDeliveriesFollowTheirTransaction: memory has nothing of a receive or a deletion that was rolled back.
func TestDeliveriesFollowTheirTransaction(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "o.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := db.Queue("q", time.Hour, 5).WithBacklog(Backlog{Gather: time.Millisecond})
	if err := q.Send(t.Context(), "acme", []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failure")
	fail := func(do func(b *batch) error) {
		t.Helper()
		err := db.write(t.Context(), func(b *batch) error {
			if err := do(b); err != nil {
				t.Error(err)
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Fatalf("got error %v, want %v", err, failure)
		}
	}
	deliver := func(b *batch) error {
		messages, _, err := b.deliver(q, db.now(), 1, nil)
		if len(messages) != 1 {
			t.Errorf("received %d messages, want 1", len(messages))
		}
		return err
	}
	fail(deliver)
	messages, err := q.Receive(t.Context(), 1, 0)
	if err != nil || len(messages) != 1 || messages[0].Body != "a" {
		t.Fatalf("received %v (%v), want the first message", messages, err)
	}
	fail(func(b *batch) error {
		return errors.Join(b.deleteMessages(q.name, []string{messages[0].Receipt}), deliver(b))
	})
	fail((*batch).releaseAll)
	if visible, inFlight, _, err := q.Depth(t.Context()); visible != 1 || inFlight != 1 || err != nil {
		t.Errorf("%d messages are visible and %d in flight (%v), want one each", visible, inFlight, err)
	}
	if err := q.Delete(t.Context(), []string{messages[0].Receipt}); err != nil {
		t.Fatal(err)
	}
	second, err := q.Receive(t.Context(), 10, 0)
	if err != nil || len(second) != 1 || second[0].Body != "b" {
		t.Fatalf("received %v (%v), want the second message", second, err)
	}
	if len(db.writer.undo) > 0 {
		t.Errorf("%d changes could be undone after all transactions, want none", len(db.writer.undo))
	}
}
