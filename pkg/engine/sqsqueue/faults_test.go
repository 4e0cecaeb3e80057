package sqsqueue_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const (
	faultMessages   = 10_000
	faultVisibility = 3 * time.Second // after which a message comes again whose delivery was lost
	faultTimeout    = 5 * time.Minute
)

func TestConformanceThroughAProxyThatDoesHarm(t *testing.T) {
	engine := enginetest.StartSQS(t).URL() // its own: AWS's signatures would not pass a proxy
	proxy := enginetest.NewHTTPProxy(t, engine)
	q := newQueue(t, clientOf(engine), faultVisibility, 1000)
	harmed := sqsqueue.New(clientOf(proxy.URL()), q.Name(), sqsqueue.Options{})
	var calls atomic.Int64
	faults := []enginetest.HTTPFault{
		enginetest.Answer(http.StatusInternalServerError, `{"__type":"com.amazonaws.sqs#InternalError"}`),
		enginetest.LoseAnswer(),
		enginetest.Answer(http.StatusServiceUnavailable, ``),
		enginetest.Cut(),
		enginetest.Answer(http.StatusTooManyRequests, `{"__type":"com.amazonaws.sqs#RequestThrottled"}`),
		enginetest.Delay(100 * time.Millisecond),
	}
	proxy.Inject(func(*http.Request) enginetest.HTTPFault {
		n := calls.Add(1)
		if n%7 != 0 {
			return nil
		}
		return faults[n/7%int64(len(faults))]
	})
	got := passThrough(t, harmed, nil)
	wantAll(t, q, got)
	t.Logf("%d calls, a seventh of them harmed; %d deliveries of %d messages", calls.Load(), got.deliveries, faultMessages)
}

func TestCrashOfTheServiceUnderWay(t *testing.T) {
	engine := enginetest.StartSQS(t)
	q := newQueue(t, clientOf(engine.URL()), faultVisibility, 1000)
	got := passThrough(t, q, func(received int) {
		switch received {
		case faultMessages / 4, faultMessages / 2:
			if err := engine.Kill(); err != nil {
				t.Error(err)
			}
			time.Sleep(500 * time.Millisecond)
			if err := engine.Start(); err != nil {
				t.Error(err)
			}
		}
	})
	wantAll(t, q, got)
	t.Logf("killed twice; %d deliveries of %d messages", got.deliveries, faultMessages)
}

// passed is what consumers got.
type passed struct {
	mu         sync.Mutex
	seen       map[string]bool
	deliveries int
}

// passThrough sends and consumes until every message came. Senders and consumers
// repeat what fails, as clients and Lambda do. at is told how many different
// messages came so far, once for each.
func passThrough(t *testing.T, q *sqsqueue.Queue, at func(received int)) *passed {
	t.Helper()
	const senders, consumers, each = 8, 4, 25
	ctx, cancel := context.WithTimeout(t.Context(), faultTimeout)
	defer cancel()
	var running sync.WaitGroup
	for sender := range senders {
		running.Go(func() {
			for from := sender * each; from < faultMessages; from += senders * each {
				var bodies []string
				for i := from; i < from+each; i++ {
					bodies = append(bodies, fmt.Sprintf("message %d", i))
				}
				for q.Send(ctx, "acme", bodies) != nil && ctx.Err() == nil {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	got := &passed{seen: map[string]bool{}}
	for range consumers {
		running.Go(func() {
			for ctx.Err() == nil {
				messages, err := q.Receive(ctx, sqsqueue.MaxBatch, time.Second)
				if err != nil {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				var receipts []string
				for _, m := range messages {
					receipts = append(receipts, m.Receipt)
				}
				all := got.add(messages, at)
				_ = q.Delete(ctx, receipts) // what is not deleted comes again
				if all {
					cancel()
				}
			}
		})
	}
	running.Wait()
	return got
}

// add notes a delivery and reports whether every message has come.
func (p *passed) add(messages []sqsqueue.Message, at func(received int)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deliveries += len(messages)
	for _, m := range messages {
		if p.seen[m.Body] {
			continue
		}
		p.seen[m.Body] = true
		if at != nil {
			at(len(p.seen))
		}
	}
	return len(p.seen) >= faultMessages
}

// wantAll fails the test unless exactly what was sent came, and none is among the dead letters.
func wantAll(t *testing.T, q *sqsqueue.Queue, got *passed) {
	t.Helper()
	if len(got.seen) != faultMessages {
		t.Fatalf("%d messages came, want %d", len(got.seen), faultMessages)
	}
	for i := range faultMessages {
		if !got.seen[fmt.Sprintf("message %d", i)] {
			t.Fatalf("message %d is lost, want it received", i)
		}
	}
	if _, _, dead, err := q.Depth(t.Context()); err != nil {
		t.Error(err)
	} else if dead != 0 {
		t.Errorf("%d dead letters, want 0", dead)
	}
}
