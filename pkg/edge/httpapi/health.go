package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Dependency is something that the service needs and that GetHealth checks.
type Dependency struct {
	Name string // as the answer names it, such as "entries"
	// Essential is true if the service cannot accept entries without it.
	Essential bool
	// Check returns nil if the dependency responds.
	Check func(ctx context.Context) error
}

// healthTimeout limits the checks of one request.
const healthTimeout = 2 * time.Second

// The words of a health answer.
const (
	HealthOK          = "ok"
	HealthDegraded    = "degraded"    // something that is not essential is missing
	HealthUnavailable = "unavailable" // something essential is missing
)

// HealthStorageFull is the reason in a health answer for a dependency without space.
const HealthStorageFull = "storage_full"

// Version is the version of the running program.
type Version string

// GetHealth answers GET /health with the version and the state of each dependency: 200, or 503
// if an essential one is unavailable. The response contains no error's text.
func GetHealth(gate *Gate, version Version, dependencies []Dependency) http.Handler {
	return gate.endpoint("get-health", func(req *request) (*response, error) {
		ctx, cancel := context.WithTimeout(req.Context(), healthTimeout)
		defer cancel()
		results := checkAll(ctx, dependencies)
		overall, status := HealthOK, http.StatusOK
		w := writer{b: make([]byte, 0, 128+48*len(dependencies))}
		w.open('{')
		w.name("dependencies")
		w.open('[')
		for i, err := range results {
			state := HealthOK
			if err != nil {
				state = HealthUnavailable
				overall, status = worse(overall, status, dependencies[i].Essential)
				gate.Log.LogAttrs(req.Context(), slog.LevelWarn, "dependency unavailable",
					slog.String("dependency", dependencies[i].Name), slog.String("error", err.Error()), slog.String("request_id", req.id))
			}
			w.open('{')
			w.text("name", dependencies[i].Name)
			w.word("status", state)
			if errors.Is(err, audit.ErrStorageFull) {
				w.word("reason", HealthStorageFull)
			}
			w.close('}')
		}
		w.close(']')
		w.word("status", overall)
		w.text("version", string(version))
		w.close('}')
		return jsonResponse(status, &w), nil
	})
}

func worse(overall string, status int, essential bool) (string, int) {
	if essential {
		return HealthUnavailable, http.StatusServiceUnavailable
	}
	if overall == HealthOK {
		return HealthDegraded, status
	}
	return overall, status
}

// checkAll asks every dependency at once and waits no longer than ctx allows.
func checkAll(ctx context.Context, dependencies []Dependency) []error {
	answers := make([]chan error, len(dependencies))
	for i, d := range dependencies {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- check(ctx, d) }()
	}
	results := make([]error, len(dependencies))
	for i := range answers {
		select {
		case results[i] = <-answers[i]:
		case <-ctx.Done():
			select { // it may have answered while another was waited for
			case results[i] = <-answers[i]:
			default:
				results[i] = ctx.Err()
			}
		}
	}
	return results
}

// check keeps a panic of one dependency from ending the process.
func check(ctx context.Context, d Dependency) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the check panicked")
		}
	}()
	return d.Check(ctx)
}
