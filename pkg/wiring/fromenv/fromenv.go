// Package fromenv starts a Lambda: it reads the environment, opens the
// dependencies that the function was granted, and puts them under the use cases.
// A main names its dependencies, so that a binary links only the clients it uses.
package fromenv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// Opening is a function's start: its settings, and what was opened so far.
type Opening struct {
	Settings Settings
	Log      *slog.Logger
	Stores   wiring.Stores
	Security wiring.Security
	// Secrets fetches secrets by ARN. It is nil until the first one is needed.
	Secrets interface {
		Resolve(ctx context.Context, arn string) (string, error)
	}
	// Shared is what one dependency opened and others use too, such as the embedded engine.
	Shared any
}

// Dependency is one dependency of a function and the way to open it. Open sets
// fields of Stores or Security. It connects to nothing: clients connect when they are used.
type Dependency struct {
	Name manifest.Dependency
	Open func(ctx context.Context, o *Opening) error
}

// Services returns the use cases of a Lambda over its dependencies. These are the
// engines of production, or the embedded engine if the Lambda was built with the tag
// "embedded". Log lines go to standard output as JSON and become slog.Default. Metrics
// go to standard output. Segments of traces go to the daemon that the environment names.
func Services(ctx context.Context, dependencies ...Dependency) (*wiring.Services, error) {
	needs := make([]manifest.Dependency, len(dependencies))
	for i, d := range dependencies {
		needs[i] = d.Name
	}
	settings, err := read(needs...)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	log := slog.New(trace.Logging(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: settings.LogLevel})))
	slog.SetDefault(log)
	recordTraces(ctx, log, settings.Name, settings.TraceDaemon)
	o := &Opening{Settings: settings, Log: log, Stores: wiring.Stores{
		ConsumerTenantTTL: ConsumerTenantTTL, DrainPeriod: wiring.DrainPeriodOf(ConsumerTenantTTL), Grace: wiring.DefaultGrace, StreamURL: httpapi.StreamURL(settings.StreamURL), Origins: settings.Origins,
		Limits: wiring.LimitsOf(settings.Rates), MaxBacklog: int64(settings.MaxBacklog), UsageKeys: settings.UsageKeys, KeyBackupTime: settings.KeyBackupDays.Duration(),
	}}
	var faults []error
	for _, d := range dependencies {
		if err := d.Open(ctx, o); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	services := wiring.New(o.Stores, o.Security, log)
	services.Metrics = os.Stdout
	return services, nil
}

// recordTraces has the segments of traces sent to a daemon. A function works without them.
func recordTraces(ctx context.Context, log *slog.Logger, function, daemon string) {
	if daemon == "" {
		return
	}
	recorder, err := trace.NewRecorder(daemon, function)
	if err != nil {
		log.WarnContext(ctx, "traces are not recorded", "error", err)
		return
	}
	trace.SetRecorder(recorder)
}
