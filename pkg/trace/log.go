package trace

import (
	"context"
	"log/slog"
	"time"
)

// logKey is the attribute of a log line that has the trace's id.
const logKey = "trace_id"

// Logging returns a handler that adds the id of the context's trace to each line.
func Logging(next slog.Handler) slog.Handler { return handler{next} }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if t, has := From(ctx); has {
		r = r.Clone()
		r.AddAttrs(slog.String(logKey, t.ID.String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// maxIDs bounds the ids of one line, so that a line stays far below the limits of log services.
const maxIDs = 500

// Work is what a step did for the requests of one tenant.
type Work struct {
	Tenant string
	Traces []Trace // of the requests
	Start  time.Time
	Attrs  []slog.Attr // numbers that describe it; never content
}

// Log logs the work, with the ids of the traces in as many lines as they need.
func (w Work) Log(ctx context.Context, log *slog.Logger, message string) {
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := append([]slog.Attr{slog.String("tenant", w.Tenant)}, w.Attrs...)
	for first, traces := true, w.Traces; first || len(traces) > 0; first = false {
		n := min(len(traces), maxIDs)
		log.LogAttrs(ctx, slog.LevelInfo, message, append(attrs[:len(attrs):len(attrs)], IDs(traces[:n]))...)
		traces = traces[n:]
	}
}

// IDs returns an attribute with the ids of traces.
func IDs(traces []Trace) slog.Attr {
	ids := make([]string, len(traces))
	for i := range ids {
		ids[i] = traces[i].ID.String()
	}
	return slog.Any("traces", ids)
}
