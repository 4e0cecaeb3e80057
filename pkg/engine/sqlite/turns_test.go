package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

// receiveTenants receives n messages and returns how many are of each tenant.
func receiveTenants(t *testing.T, q *sqlite.Queue, n int) map[audit.TenantID]int {
	t.Helper()
	messages, err := q.Receive(t.Context(), n, 0)
	if err != nil {
		t.Fatal(err)
	}
	of := map[audit.TenantID]int{}
	receipts := make([]string, len(messages))
	for i, m := range messages {
		of[m.Tenant]++
		receipts[i] = m.Receipt
	}
	if err := q.Delete(t.Context(), receipts); err != nil {
		t.Fatal(err)
	}
	return of
}

func sendMany(t *testing.T, q *sqlite.Queue, tenant audit.TenantID, n int) {
	t.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i)
	}
	if err := q.Send(t.Context(), tenant, bodies); err != nil {
		t.Fatal(err)
	}
}

// TestTenantsTakeTurns: a tenant that sends a little is served at once, whatever the backlog
// of another, each time it sends.
func TestTenantsTakeTurns(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5)
	sendMany(t, q, "big", 2000)
	receiveTenants(t, q, 100)
	for round := range 5 {
		sendMany(t, q, "big", 100)
		sendMany(t, q, "small", 5)
		if got := receiveTenants(t, q, 10)["small"]; got != 5 {
			t.Errorf("round %d: %d of the next 10 messages are of the small tenant, want all its 5", round, got)
		}
	}
	sendMany(t, q, "small", 500)
	of := receiveTenants(t, q, 400)
	for _, tenant := range []audit.TenantID{"big", "small"} {
		if of[tenant] != 200 {
			t.Errorf("%d of 400 messages are of %s, want half of them: both have a backlog", of[tenant], tenant)
		}
	}
}

// TestTurnsAreNotSaved: a tenant that had the queue for itself has no disadvantage later.
func TestTurnsAreNotSaved(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5)
	sendMany(t, q, "first", 1000)
	receiveTenants(t, q, 1000)
	receiveTenants(t, q, 1) // finds the queue empty
	sendMany(t, q, "first", 100)
	sendMany(t, q, "second", 100)
	if got := receiveTenants(t, q, 100)["first"]; got != 50 {
		t.Errorf("%d of 100 messages are of the first tenant, want 50", got)
	}
}

// TestReturningMessagesTakeNewTurns: messages that fail again and again do not delay those of
// another tenant.
func TestReturningMessagesTakeNewTurns(t *testing.T) {
	now := time.Now()
	q := open(t, sqlite.WithClock(func() time.Time { return now })).Queue("q", time.Minute, 100)
	sendMany(t, q, "failing", 500)
	for range 3 {
		for n := 0; n < 500; n += 100 {
			if _, err := q.Receive(t.Context(), 100, 0); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(2 * time.Minute) // all come again
		sendMany(t, q, "small", 1)
		if got := receiveTenants(t, q, 10)["small"]; got != 1 {
			t.Errorf("%d of the next 10 messages are of the small tenant, want its one", got)
		}
	}
}

func TestMessagesOfATenantArePurged(t *testing.T) {
	db := open(t)
	sendMany(t, db.Queue("q-dlq", time.Minute, 0), "acme", 25)
	sendMany(t, db.Queue("q-dlq", time.Minute, 0), "other", 3)
	sendMany(t, db.Queue("q", time.Minute, 5), "acme", 2)
	sendMany(t, db.Queue("jobs", time.Minute, 5), "acme", 1)
	purgeStore(t, "messages", db.Messages("jobs"), "acme", 10)
	for name, want := range map[string]int64{"q-dlq": 3, "q": 0, "jobs": 1} {
		visible, _, _, err := db.Queue(name, time.Minute, 5).Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if visible != want {
			t.Errorf("the queue %s has %d messages, want %d", name, visible, want)
		}
	}
}

// TestBacklog: a tenant with many waiting messages is slowed down, and refused once its share
// is full. Others are not.
func TestBacklog(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Slow: 10, Full: 20})
	duration := func(tenant audit.TenantID) time.Duration {
		t.Helper()
		begun := time.Now()
		sendMany(t, q, tenant, 1)
		return time.Since(begun)
	}
	sendMany(t, q, "big", 10)
	if d := duration("big"); d < 900*time.Millisecond {
		t.Errorf("sending took %s with a backlog of 10, want about a second", d)
	}
	sendMany(t, q, "other", 1)
	var received atomic.Bool
	go func() {
		time.Sleep(50 * time.Millisecond)
		received.Store(true) // before the sender can see it
		if _, err := q.Receive(context.Background(), 5, 0); err != nil {
			t.Error(err)
		}
	}()
	sendMany(t, q, "big", 9) // waits until some were received
	if !received.Load() {
		t.Error("sending did not wait for the consumer, want it to")
	}
	for n := 0; ; n++ {
		err := q.Send(t.Context(), "big", []string{"x", "y", "z"})
		if errors.Is(err, audit.ErrBacklog) {
			break
		}
		if err != nil || n > 3 {
			t.Fatalf("send %d more: %v, want ErrBacklog soon", n, err)
		}
	}
	sendMany(t, q, "other", 1)
}

// TestTurnsSurviveARestart: they follow from the messages that wait.
func TestTurnsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	q := db.Queue("q", time.Minute, 5)
	sendMany(t, q, "big", 100)
	receiveTenants(t, q, 10)
	closeDB(t, db)
	q = openAt(t, path).Queue("q", time.Minute, 5)
	sendMany(t, q, "big", 100)
	sendMany(t, q, "small", 5)
	if got := receiveTenants(t, q, 10)["small"]; got != 5 {
		t.Errorf("%d of the next 10 messages are of the small tenant, want all its 5", got)
	}
	if got := receiveTenants(t, q, 200)["big"]; got != 185 {
		t.Errorf("received %d messages of the big tenant, want all its 185", got)
	}
}

// TestTurnsSurviveSharing: processes that share the file go by what a process left that had it alone.
func TestTurnsSurviveSharing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	bounds := sqlite.Backlog{Full: 20}
	shared := openAt(t, path, sqlite.WithSharedFile())
	sendMany(t, shared.Queue("q", time.Minute, 5), "big", 30)
	closeDB(t, shared)
	alone := openAt(t, path)
	receiveTenants(t, alone.Queue("q", time.Minute, 5), 25)
	if err := alone.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeDB(t, alone)
	q := openAt(t, path, sqlite.WithSharedFile()).Queue("q", time.Minute, 5).WithBacklog(bounds)
	sendMany(t, q, "big", 10) // 5 wait
	sendMany(t, q, "small", 5)
	if got := receiveTenants(t, q, 12)["small"]; got != 5 {
		t.Errorf("%d of the next 12 messages are of the small tenant, want all its 5", got)
	}
}

// TestReceiveGathers: what has gathered is received once nothing more comes, or as much is there as one
// receive returns.
func TestReceiveGathers(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Ahead: 4 * sqlite.MaxReceived, Gather: time.Hour})
	receive := func(want int) {
		t.Helper()
		messages, err := q.Receive(t.Context(), 100, time.Minute)
		if err != nil || len(messages) != want {
			t.Fatalf("received %d messages (%v), want %d", len(messages), err, want)
		}
	}
	sendMany(t, q, "acme", 20)
	receive(20)
	sendMany(t, q, "acme", 20)
	receive(20) // none comes any more
	large := strings.Repeat("x", sqlite.MaxReceived)
	for range 2 {
		if err := q.Send(t.Context(), "big", []string{large}); err != nil {
			t.Fatal(err)
		}
	}
	receive(1)
	receive(1) // after few
	sendMany(t, q, "acme", 20)
	receive(20)
	if messages, err := q.Receive(t.Context(), 100, 0); err != nil || len(messages) > 0 {
		t.Errorf("a receive that does not wait returned %d messages (%v), want none", len(messages), err)
	}
}

// TestOneTenantGathers: the bound for processes that share a file does not hold up a tenant whose messages
// gather.
func TestOneTenantGathers(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Ahead: sqlite.MaxReceived, Slow: 10})
	sendMany(t, q, "acme", 15)
	begun := time.Now()
	sendMany(t, q, "acme", 1)
	if d := time.Since(begun); d > 900*time.Millisecond {
		t.Errorf("sending took %s, want no wait", d)
	}
}

// TestAWaitThatGathersHearsOfMessages: one that comes during the wait is received soon, if no other follows.
func TestAWaitThatGathersHearsOfMessages(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Ahead: sqlite.MaxReceived, Gather: time.Hour})
	sendMany(t, q, "acme", 20)
	if _, err := q.Receive(t.Context(), 100, 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { // once the receive gathers
		if err := q.Send(context.Background(), "acme", []string{"x"}); err != nil {
			t.Error(err)
		}
	})
	begun := time.Now()
	if messages, err := q.Receive(t.Context(), 100, time.Minute); err != nil || len(messages) != 1 || time.Since(begun) > 30*time.Second {
		t.Errorf("received %d messages (%v) after %s, want 1 soon", len(messages), err, time.Since(begun))
	}
}

// TestGatheringEndsWithItsCaller: nobody waits for messages after the end of the call or of the file.
func TestGatheringEndsWithItsCaller(t *testing.T) {
	db := open(t)
	q := db.Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Ahead: sqlite.MaxReceived, Gather: time.Hour})
	sendMany(t, q, "acme", 20)
	if _, err := q.Receive(t.Context(), 100, time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := q.Receive(ctx, 1, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a receive whose call ended: %v, want the deadline's error", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = db.Close() }) // the test closes it again
	if _, err := q.Receive(t.Context(), 1, time.Minute); err == nil {
		t.Error("a receive went on after the file was closed, want an error")
	}
}

// TestLargeMessagesAreReceivedOneByOne: the message of another tenant does not wait for a batch
// of ten, and has its turn after the one that was received.
func TestLargeMessagesAreReceivedOneByOne(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5)
	large := strings.Repeat("x", sqlite.MaxReceived)
	if err := q.Send(t.Context(), "big", []string{large, large, large, large}); err != nil {
		t.Fatal(err)
	}
	if got := receiveTenants(t, q, 10)["big"]; got != 1 {
		t.Errorf("received %d large messages at once, want 1", got)
	}
	sendMany(t, q, "small", 1)
	receiveTenants(t, q, 10) // the one whose turn it was already
	of := receiveTenants(t, q, 10)
	if of["small"] != 1 {
		t.Errorf("the message of the small tenant is not in the second batch after it was sent, want it there: %v", of)
	}
}

func TestWaitingMessagesAreCounted(t *testing.T) {
	db := open(t)
	first, second := db.Queue("first", time.Minute, 5), db.Queue("second", time.Minute, 5)
	sendMany(t, first, "acme", 20)
	sendMany(t, second, "acme", 5)
	sendMany(t, db.Queue("third", time.Minute, 5), "acme", 100)
	if _, err := first.Receive(t.Context(), 4, 0); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int64]int64{1000: 21, 21: 21, 18: 18, 10: 10} {
		got, err := db.Waiting(t.Context(), limit, "first", "second")
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("up to %d, counted %d messages, want %d", limit, got, want)
		}
	}
}

// TestAcceptingGoesOnOnceAConsumerReceives: a client waits while much is ahead of it.
func TestAcceptingGoesOnOnceAConsumerReceives(t *testing.T) {
	q := open(t).Queue("q", time.Minute, 5).WithBacklog(sqlite.Backlog{Ahead: 1000})
	large := []string{strings.Repeat("x", 4000)}
	if err := q.Send(t.Context(), "big", large); err != nil {
		t.Fatal(err)
	}
	if err := q.Send(cancelledSoon(t), "big", large); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that goes while it waits: got error %v, want %v", err, context.Canceled)
	}
	if _, err := q.Receive(t.Context(), 100, 0); err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), "big", large); err != nil {
		t.Fatal(err)
	}
	if got, want := receiveTenants(t, q, 100)["big"], 1; got != want {
		t.Errorf("received %d more messages, want %d", got, want)
	}
}

// cancelledSoon returns a context that ends before Send stops waiting.
func cancelledSoon(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	return ctx
}
