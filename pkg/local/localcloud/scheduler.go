package localcloud

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// scheduleFunction is a schedule's function as Lambda invokes it.
type scheduleFunction func(context.Context, events.EventBridgeEvent) error

func (p inProcess) ofSchedule(f manifest.Function) scheduleFunction {
	return lambdaedge.Schedule(ScheduleFunctions(p.services)[f.Name])
}

func (b *bootstraps) ofSchedule(f manifest.Function) scheduleFunction {
	host := b.hosts[f.Name]
	return func(ctx context.Context, event events.EventBridgeEvent) error {
		var nothing any
		return invoke(ctx, host, event, &nothing)
	}
}

// scheduler stands in for EventBridge Scheduler for one function. As with a rate expression,
// the first run starts at once.
type scheduler struct {
	name     string
	every    time.Duration
	timeout  time.Duration
	function scheduleFunction
	log      *slog.Logger

	running sync.Mutex // held by a run
}

// run invokes the function until ctx ends.
func (s *scheduler) run(ctx context.Context) {
	ticks := time.NewTicker(s.every)
	defer ticks.Stop()
	for ctx.Err() == nil {
		_ = s.invoke(ctx) // it is in the log
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
}

// invoke runs the function once, after the run that is under way. It logs the error that it
// returns.
func (s *scheduler) invoke(ctx context.Context) error {
	s.running.Lock()
	defer s.running.Unlock()
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.function(bounded, s.event(time.Now()))
	if err != nil && ctx.Err() == nil {
		s.log.Error("scheduled run failed", "function", s.name, "error", err)
	}
	return err
}

// event returns what EventBridge Scheduler sends for a schedule without its own input. Its
// detail is a text.
func (s *scheduler) event(at time.Time) events.EventBridgeEvent {
	return events.EventBridgeEvent{
		Version: "0", ID: uuid.NewString(), DetailType: "Scheduled Event", Source: "aws.scheduler", AccountID: apiAccount, Region: "local",
		Time: at.UTC().Truncate(time.Second), Resources: []string{"arn:aws:scheduler:local:" + apiAccount + ":schedule/default/" + s.name},
		Detail: []byte(`"{}"`),
	}
}
