package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// QueueMessage is one delivery of a message.
type QueueMessage struct {
	ID, Body, Receipt string
	ReceiveCount      int
	Tenant            audit.TenantID
}

// MessageQueue is the sending and receiving side of a queue.
type MessageQueue interface {
	ingest.Queue
	stream.Queue
	// Receive returns up to n messages. If there is none, it waits for one, up to wait.
	Receive(ctx context.Context, n int, wait time.Duration) ([]QueueMessage, error)
	// Delete removes the messages of these deliveries; stale ones remove nothing.
	Delete(ctx context.Context, receipts []string) error
	// ChangeVisibility makes a message visible again d from now on.
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
	// Depth counts the messages that are visible, in flight or delayed, and in the dead-letter
	// queue.
	Depth(ctx context.Context) (visible, inFlight, dead int64, err error)
	// Redrive moves the dead letters back.
	Redrive(ctx context.Context) error
}

// Queue tests what consumers rely on. open returns a new, empty queue with this visibility
// timeout, whose messages become dead letters after maxReceives receives.
func Queue(t *testing.T, open func(t *testing.T, visibility time.Duration, maxReceives int) MessageQueue) {
	for name, test := range map[string]func(t *testing.T, open func(visibility time.Duration, maxReceives int) MessageQueue){
		"DeliversWhatWasSent":          queueDelivers,
		"BodiesComeBackExactly":        queueKeepsBodies,
		"HidesAMessageForAWhile":       queueHides,
		"StaleReceiptsDeleteNothing":   queueIgnoresStaleReceipts,
		"VisibilityCanBeChanged":       queueChangesVisibility,
		"WaitsForAMessage":             queueWaits,
		"DelaysAMessage":               queueDelays,
		"WakesUpForADelayedMessage":    queueWakesUp,
		"DelaysUpToALimit":             queueLimitsDelays,
		"DeadLettersAfterMaxReceives":  queueBuries,
		"RedriveBringsDeadLettersBack": queueRedrives,
		"ConsumersAtOnceGetEachOnce":   queueConcurrently,
		"CancelledCallsDoNoHarm":       queueCancelled,
		"NamesTheTenant":               queueNamesTheTenant,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(visibility time.Duration, maxReceives int) MessageQueue { return open(t, visibility, maxReceives) })
		})
	}
}

// receive receives n messages.
func receive(t *testing.T, q MessageQueue, n int) []QueueMessage {
	t.Helper()
	var got []QueueMessage
	deadline := time.Now().Add(timeout)
	for len(got) < n && time.Now().Before(deadline) {
		got = append(got, must[[]QueueMessage](t)(q.Receive(t.Context(), min(10, n-len(got)), 100*time.Millisecond))...)
	}
	if len(got) < n {
		t.Fatalf("received %d messages, want %d", len(got), n)
	}
	return got
}

func wantEmpty(t *testing.T, q MessageQueue) {
	t.Helper()
	if got := must[[]QueueMessage](t)(q.Receive(t.Context(), 10, 0)); len(got) > 0 {
		t.Fatalf("received %d messages, want none", len(got))
	}
}

func wantDepth(t *testing.T, q MessageQueue, visible, inFlight, dead int64) {
	t.Helper()
	var got [3]int64
	want := [3]int64{visible, inFlight, dead}
	for deadline := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		var err error
		got[0], got[1], got[2], err = q.Depth(t.Context())
		noError(t, err)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("visible, in flight, dead = %v, want %v", got, want)
		}
	}
}

func sortedBodies(messages []QueueMessage) []string {
	var bodies []string
	for _, m := range messages {
		bodies = append(bodies, m.Body)
	}
	slices.Sort(bodies)
	return bodies
}

func queueDelivers(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	wantEmpty(t, q)
	noError(t, q.Send(t.Context(), "acme", nil))
	var sent []string
	for i := range 25 {
		sent = append(sent, fmt.Sprintf("body %02d", i))
	}
	noError(t, q.Send(t.Context(), "acme", sent))
	wantDepth(t, q, 25, 0, 0)
	got := receive(t, q, 25)
	if bodies := sortedBodies(got); !slices.Equal(bodies, sent) {
		t.Fatalf("received %q, want %q", bodies, sent)
	}
	ids := map[string]bool{}
	for _, m := range got {
		ids[m.ID] = true
		if m.ReceiveCount != 1 {
			t.Fatalf("receive count is %d, want 1", m.ReceiveCount)
		}
		noError(t, q.Delete(t.Context(), []string{m.Receipt}))
	}
	if len(ids) != 25 {
		t.Fatalf("%d different ids, want 25", len(ids))
	}
	wantDepth(t, q, 0, 0, 0)
}

func queueKeepsBodies(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	large := make([]byte, 60<<10) // the size of a packed message
	for i := range large {
		large[i] = "ABCabc+/="[i*i%9]
	}
	sent := []string{string(large), `{"json":"\u0000"}`, `'; DROP TABLE messages; --`, "größe 日本", "x"}
	noError(t, q.Send(t.Context(), "acme", sent))
	slices.Sort(sent)
	if got := sortedBodies(receive(t, q, len(sent))); !slices.Equal(got, sent) {
		t.Fatalf("got the bodies %q, want %q", got, sent)
	}
}

func queueHides(t *testing.T, open func(time.Duration, int) MessageQueue) {
	const visibility = 3 * time.Second
	q := open(visibility, 5)
	noError(t, q.Send(t.Context(), "acme", []string{"one"}))
	received := time.Now()
	first := receive(t, q, 1)[0]
	wantEmpty(t, q)
	second := receive(t, q, 1)[0]
	if hidden := time.Since(received); hidden < visibility {
		t.Fatalf("the message was delivered again after %v, want at least the visibility timeout of %v", hidden, visibility)
	}
	if second.ReceiveCount != 2 {
		t.Fatalf("the second delivery: got receive count %d, want 2", second.ReceiveCount)
	}
	if second.ID != first.ID {
		t.Fatalf("the second delivery: got ID %q, want %q", second.ID, first.ID)
	}
	if second.Receipt == first.Receipt {
		t.Fatalf("the second delivery: got receipt %q, want it to differ from %q", second.Receipt, first.Receipt)
	}
}

func queueIgnoresStaleReceipts(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	noError(t, q.Send(t.Context(), "acme", []string{"one", "two"}))
	got := receive(t, q, 2)
	noError(t, q.ChangeVisibility(t.Context(), got[0].Receipt, 0))
	again := receive(t, q, 1)[0]
	noError(t, q.Delete(t.Context(), []string{got[0].Receipt, got[1].Receipt})) // the first is stale by now
	wantDepth(t, q, 0, 1, 0)
	noError(t, q.ChangeVisibility(t.Context(), got[0].Receipt, 0))
	wantEmpty(t, q)
	noError(t, q.Delete(t.Context(), []string{again.Receipt, again.Receipt}))
	noError(t, q.Delete(t.Context(), []string{again.Receipt}))
	wantDepth(t, q, 0, 0, 0)
}

func queueChangesVisibility(t *testing.T, open func(time.Duration, int) MessageQueue) {
	const visibility = 3 * time.Second
	q := open(visibility, 5)
	noError(t, q.Send(t.Context(), "acme", []string{"one"}))
	m := receive(t, q, 1)[0]
	noError(t, q.ChangeVisibility(t.Context(), m.Receipt, time.Minute))
	time.Sleep(visibility + 200*time.Millisecond) // past the queue's own timeout
	wantEmpty(t, q)
	noError(t, q.ChangeVisibility(t.Context(), m.Receipt, 0))
	receive(t, q, 1)
}

func queueWaits(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	started := time.Now()
	if got := must[[]QueueMessage](t)(q.Receive(t.Context(), 1, time.Second)); len(got) > 0 {
		t.Fatalf("an empty queue: got %d messages, want none", len(got))
	} else if time.Since(started) < 900*time.Millisecond {
		t.Fatalf("an empty queue: took %v, want at least %v", time.Since(started), 900*time.Millisecond)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		time.Sleep(200 * time.Millisecond)
		if err := q.Send(t.Context(), "acme", []string{"late"}); err != nil {
			t.Error(err)
		}
	})
	started = time.Now()
	got := must[[]QueueMessage](t)(q.Receive(t.Context(), 1, timeout))
	sender.Wait()
	if len(got) != 1 {
		t.Fatalf("got %d messages, want 1", len(got))
	}
	if time.Since(started) > timeout/2 {
		t.Fatalf("took %v, want at most %v", time.Since(started), timeout/2)
	}
}

// receiveUntil receives n messages one by one and returns when each arrived.
func receiveUntil(t *testing.T, q MessageQueue, n int) map[string]time.Time {
	t.Helper()
	came := map[string]time.Time{}
	for deadline := time.Now().Add(timeout); len(came) < n; {
		for _, m := range must[[]QueueMessage](t)(q.Receive(t.Context(), 1, time.Second)) {
			came[m.Body] = time.Now()
			if m.ReceiveCount != 1 {
				t.Fatalf("receive count is %d, want 1", m.ReceiveCount)
			}
			noError(t, q.Delete(t.Context(), []string{m.Receipt}))
		}
		if time.Now().After(deadline) {
			t.Fatalf("received %d messages, want %d", len(came), n)
		}
	}
	return came
}

func queueDelays(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	delays := map[string]time.Duration{
		"long": 2 * time.Second, "short": time.Second, "fraction": 1200 * time.Millisecond, "none": 0, "less than none": -time.Hour,
	}
	sent := map[string]time.Time{}
	for body, delay := range delays {
		sent[body] = time.Now() // before it is in the queue
		noError(t, q.SendAfter(t.Context(), "acme", delay, body))
	}
	for body, at := range receiveUntil(t, q, len(delays)) {
		least, most := delays[body], max(0, delays[body])+timeout/2
		if after := at.Sub(sent[body]); after < least || after > most {
			t.Errorf("%s was delivered after %v, want %v to %v", body, after, least, most)
		}
	}
	wantDepth(t, q, 0, 0, 0)
}

func queueWakesUp(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	var sender sync.WaitGroup
	sender.Go(func() { // while the other side waits
		time.Sleep(200 * time.Millisecond)
		if err := q.SendAfter(t.Context(), "acme", time.Second, "late"); err != nil {
			t.Error(err)
		}
	})
	started := time.Now()
	got := must[[]QueueMessage](t)(q.Receive(t.Context(), 1, timeout))
	waited := time.Since(started)
	sender.Wait()
	if len(got) != 1 {
		t.Fatalf("got %d messages, want 1", len(got))
	}
	if got[0].Body != "late" {
		t.Fatalf("got body %q, want %q", got[0].Body, "late")
	}
	if waited < 1200*time.Millisecond || waited > timeout/2 {
		t.Fatalf("waited %v, want %v to %v", waited, 1200*time.Millisecond, timeout/2)
	}
}

func queueLimitsDelays(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	const limit = jobs.MaxDelay
	if err := q.SendAfter(t.Context(), "acme", limit+1, "never"); err == nil {
		t.Error("a delay over the limit was accepted, want an error")
	}
	wantDepth(t, q, 0, 0, 0)
	noError(t, q.SendAfter(t.Context(), "acme", limit, "later"))
	wantDepth(t, q, 0, 1, 0)
	wantEmpty(t, q)
}

// deadLetter receives a message until it is a dead letter.
func deadLetter(t *testing.T, q MessageQueue, maxReceives int) {
	t.Helper()
	for range maxReceives {
		m := receive(t, q, 1)[0]
		noError(t, q.ChangeVisibility(t.Context(), m.Receipt, 0))
	}
	wantEmpty(t, q)
}

func queueBuries(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 2)
	noError(t, q.Send(t.Context(), "acme", []string{"poison"}))
	first := receive(t, q, 1)[0]
	noError(t, q.ChangeVisibility(t.Context(), first.Receipt, 0))
	deadLetter(t, q, 1)
	wantDepth(t, q, 0, 0, 1)
	noError(t, q.Delete(t.Context(), []string{first.Receipt})) // stale: the letter stays
	wantDepth(t, q, 0, 0, 1)
}

func queueRedrives(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 2)
	for range 2 { // the same letter may die and be brought back again and again
		noError(t, q.Send(t.Context(), "acme", []string{"poison"}))
		deadLetter(t, q, 2)
		wantDepth(t, q, 0, 0, 1)
		noError(t, q.Redrive(t.Context()))
		m := receive(t, q, 1)[0]
		if m.Body != "poison" {
			t.Fatalf("after the redrive: got body %q, want %q", m.Body, "poison")
		}
		if m.ReceiveCount != 1 {
			t.Fatalf("after the redrive: got receive count %d, want 1", m.ReceiveCount)
		}
		noError(t, q.ChangeVisibility(t.Context(), m.Receipt, 0))
		deadLetter(t, q, 1)
		noError(t, q.Redrive(t.Context()))
		noError(t, q.Delete(t.Context(), []string{receive(t, q, 1)[0].Receipt}))
		wantDepth(t, q, 0, 0, 0)
	}
	noError(t, q.Redrive(t.Context()))
}

func queueConcurrently(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Minute, 5)
	const senders, each = 8, 50
	var mu sync.Mutex
	received := map[string]int{}
	total := 0
	ctx, cancel := context.WithTimeout(t.Context(), 6*timeout)
	defer cancel()
	var workers sync.WaitGroup
	for s := range senders {
		workers.Go(func() {
			for i := range each {
				if err := q.Send(ctx, "acme", []string{fmt.Sprintf("%d-%d", s, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 8 {
		workers.Go(func() {
			for ctx.Err() == nil {
				messages, err := q.Receive(ctx, 5, time.Second)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				for _, m := range messages {
					if err := q.Delete(ctx, []string{m.Receipt}); err != nil {
						t.Error(err)
					}
				}
				mu.Lock()
				for _, m := range messages {
					received[m.Body]++
				}
				if total += len(messages); total >= senders*each {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if len(received) != senders*each {
		t.Fatalf("got %d different messages, want %d", len(received), senders*each)
	}
	if total != senders*each {
		t.Fatalf("got %d deliveries, want %d", total, senders*each)
	}
	wantDepth(t, q, 0, 0, 0)
}

func queueCancelled(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Second, 100)
	if err := q.Send(cancelled(t), "acme", []string{"never"}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Send with a cancelled context: %v, want context.Canceled", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := q.Receive(ctx, 1, timeout); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Receive whose context ended: %v, want context.DeadlineExceeded", err)
	}
	var sent []string
	for i := range 40 {
		body := fmt.Sprint(i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*50)*time.Microsecond)
		if q.Send(ctx, "acme", []string{body}) == nil {
			sent = append(sent, body)
		}
		_, _ = q.Receive(ctx, 1, 0) // received messages return after the visibility timeout
		cancel()
	}
	noError(t, q.Send(t.Context(), "acme", []string{"last"}))
	got := map[string]bool{}
	eventually(t, "receiving what was acknowledged", func() bool {
		for _, m := range must[[]QueueMessage](t)(q.Receive(t.Context(), 10, 100*time.Millisecond)) {
			got[m.Body] = true
		}
		return got["last"] && !slices.ContainsFunc(sent, func(body string) bool { return !got[body] })
	})
}

// queueNamesTheTenant: the tenant of a message stays known, also as a dead letter and after a
// redrive.
func queueNamesTheTenant(t *testing.T, open func(time.Duration, int) MessageQueue) {
	q := open(time.Millisecond, 1)
	want := map[string]audit.TenantID{"a": "acme", "b": "globex-2", "none": ""}
	for body, tenant := range want {
		noError(t, q.Send(t.Context(), tenant, []string{body}))
	}
	check := func() {
		t.Helper()
		for _, m := range receive(t, q, len(want)) {
			if m.Tenant != want[m.Body] {
				t.Errorf("message %q is of tenant %q, want %q", m.Body, m.Tenant, want[m.Body])
			}
		}
	}
	check()
	for deadline := time.Now().Add(timeout); ; time.Sleep(10 * time.Millisecond) {
		must[[]QueueMessage](t)(q.Receive(t.Context(), 10, 0)) // moves what was received too often
		_, _, dead, err := q.Depth(t.Context())
		noError(t, err)
		if dead == int64(len(want)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are dead letters, want %d", dead, len(want))
		}
	}
	noError(t, q.Redrive(t.Context()))
	check()
}
