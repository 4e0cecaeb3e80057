package lambdaedge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
)

func batchOf(n int) events.SQSEvent {
	var event events.SQSEvent
	for i := range n {
		event.Records = append(event.Records, events.SQSMessage{MessageId: fmt.Sprintf("m%d", i), Body: fmt.Sprint(i)})
	}
	return event
}

// ignore delays and dead-letters nothing.
var ignore = lambdaedge.Source{
	ChangeVisibility: func(context.Context, string, string, time.Duration) error { return nil },
	DeadLetter:       func(context.Context, string, audit.TenantID, string) error { return nil },
}

// queueOf returns the function that hands each message to handle.
func queueOf(handle func(context.Context, string) error, source lambdaedge.Source) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
	return lambdaedge.Queue(lambdaedge.EachMessage(handle), source)
}

func failed(response events.SQSEventResponse) []string {
	var ids []string
	for _, f := range response.BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return ids
}

func TestQueueReportsOnlyFailedMessages(t *testing.T) {
	log := captureLog(t)
	for _, c := range []struct {
		name   string
		handle func(context.Context, string) error
		want   []string
	}{
		{"none fails", func(context.Context, string) error { return nil }, nil},
		{"one fails", func(_ context.Context, body string) error {
			if body == "second" {
				return errors.New("store is down")
			}
			return nil
		}, []string{"2e1424d4-f796-459a-8184-9c92662be6da"}},
		{"one panics", func(_ context.Context, body string) error {
			if body == "first" {
				panic("entry content")
			}
			return nil
		}, []string{"059f36b4-87a3-44ab-83d2-661975830a7d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			response, err := queueOf(c.handle, ignore)(t.Context(), load[events.SQSEvent](t, "sqs.json"))
			if err != nil {
				t.Fatal(err)
			}
			if got := failed(response); !slices.Equal(got, c.want) {
				t.Errorf("got failed messages %v, want %v", got, c.want)
			}
			if text, _ := json.Marshal(response); strings.Contains(string(text), "null") {
				t.Errorf("got response %s, want it without null", text)
			}
		})
	}
	text := log.String()
	for _, want := range []string{`"queue":"ingest"`, `"message_id":"2e1424d4-f796-459a-8184-9c92662be6da"`, `"receive_count":"4"`, "store is down"} {
		if !strings.Contains(text, want) {
			t.Errorf("got log %s, want it to contain %s", text, want)
		}
	}
	for _, content := range []string{"second", "entry content"} {
		if strings.Contains(text, content) {
			t.Errorf("got log %s, want it without %q", text, content)
		}
	}
}

func TestQueueRejectsEventsNotFromSQS(t *testing.T) {
	_, err := queueOf(func(context.Context, string) error { t.Error("a message was handled, want none"); return nil }, ignore)(
		t.Context(), events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: "x"}, {Body: "y"}}})
	if err == nil {
		t.Error("got no error, want one")
	}
}

func TestQueueRunsTenMessagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		var mu sync.Mutex
		seen := map[string]int{}
		response, err := queueOf(func(_ context.Context, body string) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			seen[body]++
			return nil
		}, ignore)(t.Context(), batchOf(25))
		if err != nil {
			t.Fatal(err)
		}
		if len(response.BatchItemFailures) > 0 {
			t.Errorf("got batch item failures %v, want none", response.BatchItemFailures)
		}
		if len(seen) != 25 {
			t.Errorf("handled %d messages, want 25", len(seen))
		}
		if most.Load() != 10 {
			t.Errorf("most %d, want 10", most.Load())
		}
	})
}

func TestQueueStartsNothingNearTheDeadline(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		// Ten at a time, 12 s each: the third ten would begin at 24 s and fit, the
		// fourth at 36 s.
		response, err := queueOf(func(context.Context, string) error { time.Sleep(12 * time.Second); return nil }, ignore)(ctx, batchOf(25))
		if err != nil {
			t.Fatal(err)
		}
		// What started at 24 s is still running when the outcome must be reported.
		if got := failed(response); len(got) != 5 {
			t.Errorf("got %d items, want 5", len(got))
		} else if got[0] != "m20" {
			t.Errorf("got item 0 %q, want %q", got[0], "m20")
		}
		if took, before := time.Since(began), 30*time.Second; took >= before {
			t.Errorf("answered after %v, want less than %v", took, before)
		}
		time.Sleep(time.Minute) // let the abandoned handlers end
	})
}

func TestQueueReportsMessagesNotStarted(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var started atomic.Int64
		response, err := queueOf(func(context.Context, string) error {
			started.Add(1)
			time.Sleep(26 * time.Second)
			return nil
		}, ignore)(ctx, batchOf(12))
		if err != nil {
			t.Fatal(err)
		}
		if started.Load() != 10 {
			t.Errorf("started %d, want 10", started.Load())
		}
		if !slices.Equal(failed(response), []string{"m10", "m11"}) {
			t.Errorf("got failed %q, want %q", failed(response), []string{"m10", "m11"})
		}
	})
}

func TestQueueDelaysFailedMessages(t *testing.T) {
	log := captureLog(t)
	type call struct {
		queue, receipt string
		after          time.Duration
	}
	var mu sync.Mutex
	var calls []call
	changeVisibility := func(_ context.Context, queue, receipt string, after time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, call{queue, receipt, after})
		if receipt == "r2" {
			return errors.New("queue is down")
		}
		return nil
	}
	event := batchOf(4)
	for i, received := range []string{"1", "3", "1000", "1"} {
		m := &event.Records[i]
		m.ReceiptHandle, m.EventSourceARN = fmt.Sprintf("r%d", i), "arn:aws:sqs:eu-west-1:1:prod-index"
		m.Attributes = map[string]string{"ApproximateReceiveCount": received}
	}
	response, err := queueOf(func(_ context.Context, body string) error {
		if body == "3" {
			return nil
		}
		return errors.New("store is down")
	}, lambdaedge.Source{ChangeVisibility: changeVisibility})(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := failed(response), []string{"m0", "m1", "m2"}; !slices.Equal(got, want) {
		t.Fatalf("got failed messages %v, want %v", got, want)
	}
	slices.SortFunc(calls, func(a, b call) int { return strings.Compare(a.receipt, b.receipt) })
	want := []call{{"prod-index", "r0", 2 * time.Second}, {"prod-index", "r1", 8 * time.Second}, {"prod-index", "r2", 2 * time.Minute}}
	if !slices.Equal(calls, want) {
		t.Errorf("delayed %v, want %v", calls, want)
	}
	if text := log.String(); !strings.Contains(text, "message not delayed") {
		t.Errorf("got text %q, want it to contain %q", text, "message not delayed")
	} else if !strings.Contains(text, "queue is down") {
		t.Errorf("got text %q, want it to contain %q", text, "queue is down")
	}
}

func TestQueueReturnsInTimeIfDelayingHangs(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		event := batchOf(12)
		for i := range event.Records {
			event.Records[i].Attributes = map[string]string{"ApproximateReceiveCount": "1"}
		}
		var calls atomic.Int64
		response, err := queueOf(func(context.Context, string) error { time.Sleep(26 * time.Second); return errors.New("store is down") },
			lambdaedge.Source{ChangeVisibility: func(ctx context.Context, _, _ string, _ time.Duration) error {
				calls.Add(1)
				<-ctx.Done()
				return ctx.Err()
			}})(ctx, event)
		if err != nil {
			t.Fatal(err)
		}
		if len(failed(response)) != 12 {
			t.Errorf("got %d failed messages, want 12", len(failed(response)))
		}
		if calls.Load() != 12 {
			t.Errorf("got %d calls, want 12", calls.Load())
		}
		if ctx.Err() != nil {
			t.Errorf("got context error %v, want none", ctx.Err())
		}
	})
}

func TestQueueDoesNotDelayUnfinishedMessages(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		response, err := queueOf(func(context.Context, string) error { time.Sleep(time.Minute); return nil },
			lambdaedge.Source{ChangeVisibility: func(_ context.Context, _, receipt string, _ time.Duration) error {
				t.Errorf("delayed %q, want no call", receipt)
				return nil
			}})(ctx, batchOf(3))
		if err != nil {
			t.Fatal(err)
		}
		if got := failed(response); len(got) != 3 {
			t.Errorf("got failed messages %v, want 3", got)
		}
		time.Sleep(time.Minute) // let the abandoned handlers end
	})
}

func TestQueueDeadLettersUnreadableMessages(t *testing.T) {
	log := captureLog(t)
	var mu sync.Mutex
	var deadLettered, delayed []string
	source := lambdaedge.Source{
		ChangeVisibility: func(_ context.Context, _, receipt string, _ time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			delayed = append(delayed, receipt)
			return nil
		},
		DeadLetter: func(_ context.Context, queue string, _ audit.TenantID, body string) error {
			if body == "2" {
				return errors.New("queue is down")
			}
			deadLettered = append(deadLettered, queue+" "+body)
			return nil
		},
	}
	event := batchOf(3)
	for i := range event.Records {
		m := &event.Records[i]
		m.ReceiptHandle, m.EventSourceARN = fmt.Sprintf("r%d", i), "arn:aws:sqs:eu-west-1:1:prod-index"
		m.Attributes = map[string]string{"ApproximateReceiveCount": "1"}
	}
	response, err := queueOf(func(_ context.Context, body string) error {
		if body == "0" {
			return nil
		}
		return fmt.Errorf("index: %w: not its JSON form", audit.ErrUnreadable)
	}, source)(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(failed(response), []string{"m2"}) {
		t.Errorf("failed %v, want the message that could not be dead-lettered", failed(response))
	}
	if !slices.Equal(deadLettered, []string{"prod-index 1"}) {
		t.Errorf("got dead lettered %q, want %q", deadLettered, []string{"prod-index 1"})
	}
	if !slices.Equal(delayed, []string{"r2"}) {
		t.Errorf("got delayed %q, want %q", delayed, []string{"r2"})
	}
	if text := log.String(); !strings.Contains(text, "goes to the dead-letter queue") {
		t.Errorf("got text %q, want it to contain %q", text, "goes to the dead-letter queue")
	} else if !strings.Contains(text, "not its JSON form") {
		t.Errorf("got text %q, want it to contain %q", text, "not its JSON form")
	}
}

func TestQueueHandsOverTheWholeBatch(t *testing.T) {
	captureLog(t)
	calls := 0
	response, err := lambdaedge.Queue(func(_ context.Context, bodies []string) []error {
		calls++
		outcomes := make([]error, len(bodies))
		outcomes[7] = errors.New("store is down")
		return outcomes
	}, ignore)(t.Context(), batchOf(100))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := failed(response), []string{"m7"}; !slices.Equal(got, want) {
		t.Errorf("failed messages are %v, want %v", got, want)
	}
	if calls != 1 {
		t.Errorf("the handler got %d calls, want 1", calls)
	}
}

func TestQueueHandsOverEachMessageAloneAfterAPanic(t *testing.T) {
	captureLog(t)
	response, err := lambdaedge.Queue(func(_ context.Context, bodies []string) []error {
		if slices.Contains(bodies, "3") {
			panic("entry content")
		}
		return make([]error, len(bodies))
	}, ignore)(t.Context(), batchOf(5))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := failed(response), []string{"m3"}; !slices.Equal(got, want) {
		t.Errorf("failed messages are %v, want %v", got, want)
	}
}

func TestQueueReportsABatchThatDoesNotEnd(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		release := make(chan struct{})
		defer close(release)
		response, err := lambdaedge.Queue(func(_ context.Context, bodies []string) []error {
			<-release
			return make([]error, len(bodies))
		}, ignore)(ctx, batchOf(3))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(response.BatchItemFailures), 3; got != want {
			t.Errorf("%d messages failed, want %d", got, want)
		}
		if ctx.Err() != nil {
			t.Errorf("the function answered after its deadline, want before: %v", ctx.Err())
		}
	})
}

// Each message waits for an engine that does not answer. What was finished before stays
// finished, and the others are delayed, because the handler's context ends early.
func TestTogetherReturnsOutcomesBeforeTheDeadline(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var delayed atomic.Int64
		source := lambdaedge.Source{
			ChangeVisibility: func(context.Context, string, string, time.Duration) error { delayed.Add(1); return nil },
			DeadLetter:       func(context.Context, string, audit.TenantID, string) error { return nil },
		}
		event := batchOf(10)
		for i := range event.Records {
			event.Records[i].Attributes = map[string]string{"ApproximateReceiveCount": "1"}
		}
		response, err := lambdaedge.Queue(lambdaedge.Together(func(ctx context.Context, bodies []string) []error {
			outcomes := make([]error, len(bodies))
			for i := range bodies {
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
					outcomes[i] = ctx.Err()
				}
			}
			return outcomes
		}), source)(ctx, event)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(response.BatchItemFailures), 10-5; got != want && got != want+1 {
			t.Errorf("%d messages failed, want %d or %d", got, want, want+1)
		}
		if got, want := delayed.Load(), int64(len(response.BatchItemFailures)); got != want {
			t.Errorf("%d messages were delayed, want %d", got, want)
		}
	})
}

func TestManyUnreadableMessagesDoNotPassTheDeadline(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		source := lambdaedge.Source{
			ChangeVisibility: func(context.Context, string, string, time.Duration) error { return nil },
			DeadLetter: func(ctx context.Context, _ string, _ audit.TenantID, _ string) error {
				select {
				case <-time.After(time.Minute):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		}
		response, err := lambdaedge.Queue(func(_ context.Context, bodies []string) []error {
			outcomes := make([]error, len(bodies))
			for i := range outcomes {
				outcomes[i] = audit.ErrUnreadable
			}
			return outcomes
		}, source)(ctx, batchOf(100))
		if err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Errorf("the function answered after its deadline, want before: %v", ctx.Err())
		}
		if got, want := len(response.BatchItemFailures), 100; got != want {
			t.Errorf("%d messages failed, want %d", got, want)
		}
	})
}
