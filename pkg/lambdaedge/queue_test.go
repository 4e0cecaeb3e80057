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

	"github.com/ocelot-audit/ocelot/pkg/lambdaedge"
)

func batchOf(n int) events.SQSEvent {
	var event events.SQSEvent
	for i := range n {
		event.Records = append(event.Records, events.SQSMessage{MessageId: fmt.Sprintf("m%d", i), Body: fmt.Sprint(i)})
	}
	return event
}

func failed(response events.SQSEventResponse) []string {
	var ids []string
	for _, f := range response.BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return ids
}

func TestQueueReportsOnlyWhatFailed(t *testing.T) {
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
			response, err := lambdaedge.Queue(c.handle)(t.Context(), load[events.SQSEvent](t, "sqs.json"))
			if err != nil || !slices.Equal(failed(response), c.want) {
				t.Errorf("response %+v, error %v", response, err)
			}
			if text, _ := json.Marshal(response); strings.Contains(string(text), "null") {
				t.Errorf("response %s", text)
			}
		})
	}
	text := log.String()
	for _, want := range []string{`"queue":"ingest"`, `"message_id":"2e1424d4-f796-459a-8184-9c92662be6da"`, `"receive_count":"4"`, "store is down"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s: %s", want, text)
		}
	}
	for _, content := range []string{"second", "entry content"} {
		if strings.Contains(text, content) {
			t.Errorf("the log has %q: %s", content, text)
		}
	}
}

func TestQueueRefusesWhatIsNotOfSQS(t *testing.T) {
	_, err := lambdaedge.Queue(func(context.Context, string) error { t.Error("handled"); return nil })(
		t.Context(), events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: "x"}, {Body: "y"}}})
	if err == nil {
		t.Error("no error")
	}
}

func TestQueueRunsMessagesAtOnceButNotTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		var mu sync.Mutex
		seen := map[string]int{}
		response, err := lambdaedge.Queue(func(_ context.Context, body string) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			seen[body]++
			return nil
		})(t.Context(), batchOf(25))
		if err != nil || len(response.BatchItemFailures) > 0 || len(seen) != 25 || most.Load() != 10 {
			t.Errorf("%d of 25 handled, %d at once, response %+v, error %v", len(seen), most.Load(), response, err)
		}
	})
}

func TestQueueBeginsNothingNearTheDeadline(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		// Ten at a time, 12 s each: the third ten would begin at 24 s and fit, the
		// fourth at 36 s.
		response, err := lambdaedge.Queue(func(context.Context, string) error { time.Sleep(12 * time.Second); return nil })(ctx, batchOf(25))
		if err != nil {
			t.Fatal(err)
		}
		// What began at 24 s is still running when the outcome has to be told.
		if got := failed(response); len(got) != 5 || got[0] != "m20" {
			t.Errorf("failed %v", got)
		}
		if took := time.Since(began); took >= 30*time.Second {
			t.Errorf("answered after %v", took)
		}
		time.Sleep(time.Minute) // let what was abandoned end
	})
}

func TestQueueReportsWhatItNeverBegan(t *testing.T) {
	captureLog(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var begun atomic.Int64
		response, err := lambdaedge.Queue(func(context.Context, string) error {
			begun.Add(1)
			time.Sleep(26 * time.Second)
			return nil
		})(ctx, batchOf(12))
		if err != nil || begun.Load() != 10 || !slices.Equal(failed(response), []string{"m10", "m11"}) {
			t.Errorf("%d begun, failed %v, error %v", begun.Load(), failed(response), err)
		}
	})
}
