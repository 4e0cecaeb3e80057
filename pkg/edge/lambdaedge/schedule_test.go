package lambdaedge_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
)

func TestScheduleRunsOnceForEachEvent(t *testing.T) {
	log := captureLog(t)
	runs := 0
	function := lambdaedge.Schedule(func(context.Context) error { runs++; return nil })
	for range 2 {
		if err := function(t.Context(), load[events.EventBridgeEvent](t, "schedule.json")); err != nil {
			t.Fatal(err)
		}
	}
	if runs != 2 {
		t.Errorf("got %d runs, want 2", runs)
	}
	if log.String() != "" {
		t.Errorf("got log %q, want none", log.String())
	}
}

func TestScheduleTellsFailures(t *testing.T) {
	log := captureLog(t)
	failure := errors.New("store is down")
	event := load[events.EventBridgeEvent](t, "schedule.json")
	if err := lambdaedge.Schedule(func(context.Context) error { return failure })(t.Context(), event); !errors.Is(err, failure) {
		t.Errorf("error %v, want %v", err, failure)
	}
	if err := lambdaedge.Schedule(func(context.Context) error { panic("entry content") })(t.Context(), event); err == nil {
		t.Error("a panic: got no error, want one")
	}
	text := log.String()
	for _, want := range []string{"store is down", `"event_id":"39a7b0a6-3c2d-4b8e-9f0a-0d5c4f1e2a3b"`, "panicked"} {
		if !strings.Contains(text, want) {
			t.Errorf("got log %s, want it to contain %s", text, want)
		}
	}
	if strings.Contains(text, "entry content") {
		t.Errorf("got log %s, want it without entry content", text)
	}
}

func TestScheduleRefusesOtherEvents(t *testing.T) {
	function := lambdaedge.Schedule(func(context.Context) error { t.Error("the schedule ran, want no call"); return nil })
	for _, event := range []events.EventBridgeEvent{{}, {DetailType: "EC2 Instance State-change Notification", Source: "aws.ec2"}} {
		if err := function(t.Context(), event); err == nil {
			t.Errorf("%+v: got no error, want one", event)
		}
	}
}

func TestScheduleLeavesTimeToTell(t *testing.T) {
	captureLog(t)
	for _, c := range []struct{ timeout, want time.Duration }{{10 * time.Minute, 5 * time.Second}, {10 * time.Second, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			began := time.Now()
			err := lambdaedge.Schedule(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })(ctx, events.EventBridgeEvent{DetailType: "Scheduled Event"})
			if left := c.timeout - time.Since(began); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
			} else if left != c.want {
				t.Errorf("left %v, want %v", left, c.want)
			}
		})
	}
}
