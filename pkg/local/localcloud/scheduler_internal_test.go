package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// The manifest's schedules are too slow for a test from outside.

func TestSchedulerRunsAtOnceAndThenAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
		defer cancel()
		began := time.Now()
		var at []time.Duration
		s := scheduler{name: "f", every: 15 * time.Minute, timeout: 10 * time.Minute, log: slog.New(slog.DiscardHandler)}
		s.function = func(ctx context.Context, _ events.EventBridgeEvent) error {
			at = append(at, time.Since(began))
			<-ctx.Done() // takes all the time it has
			return ctx.Err()
		}
		s.run(ctx)
		switch {
		case len(at) != 5:
			t.Errorf("got %d runs, want 5", len(at))
		case at[0] != 0:
			t.Errorf("run 0: at %v, want 0", at[0])
		case at[1] != 15*time.Minute:
			t.Errorf("run 1: at %v, want %v", at[1], 15*time.Minute)
		case at[4] != time.Hour:
			t.Errorf("run 4: at %v, want %v", at[4], time.Hour)
		}
		if took := time.Since(began); took != time.Hour+time.Second {
			t.Errorf("ended after %v, want %v", took, time.Hour+time.Second)
		}
	})
}

func TestSchedulerGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var log bytes.Buffer
		runs := 0
		s := scheduler{name: "reconcile-index", every: time.Minute, timeout: time.Second, log: slog.New(slog.NewJSONHandler(&log, nil))}
		s.function = func(context.Context, events.EventBridgeEvent) error {
			if runs++; runs == 3 {
				cancel()
				return ctx.Err()
			}
			return errors.New("the store is down")
		}
		s.run(ctx)
		switch text := log.String(); {
		case runs != 3:
			t.Errorf("got %d runs, want 3", runs)
		case strings.Count(text, "\n") != 2:
			t.Errorf("got %d times %q in %q, want 2", strings.Count(text, "\n"), "\n", text)
		case !strings.Contains(text, `"function":"reconcile-index"`):
			t.Errorf("got text %q, want it to contain %q", text, `"function":"reconcile-index"`)
		}
	})
}

func TestSchedulerSendsWhatEventBridgeSends(t *testing.T) {
	s := scheduler{name: "reconcile-index"}
	text, err := json.Marshal(s.event(time.Date(2026, 3, 1, 10, 15, 0, 7, time.UTC)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"detail-type":"Scheduled Event"`, `"source":"aws.scheduler"`, `"time":"2026-03-01T10:15:00Z"`, `"detail":"{}"`, `schedule/default/reconcile-index"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("got event %s, want it to contain %s", text, want)
		}
	}
}
