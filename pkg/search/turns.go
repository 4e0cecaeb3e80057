package search

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// maxStatsAtOnce is how many statistics one process counts at the same time, one
	// for each tenant. Each may use a processor for as long as statsTimeout.
	maxStatsAtOnce = 2
	// statsWait is how long a request waits for its turn. With statsTimeout it ends
	// before the 25 seconds of a request.
	statsWait = 5 * time.Second
	// statsTimeout is how long statistics may be counted.
	statsTimeout = 18 * time.Second
)

// errStatsBusy means that other statistics were counted for all of statsWait.
var errStatsBusy = errors.New("other statistics are being counted")

// statsTurns gives tenants turns at counting statistics. The zero value is ready for use.
type statsTurns struct {
	mu      sync.Mutex
	running []audit.TenantID
	waiting []*statsTurn
}

// statsTurn is a request that waits for its turn.
type statsTurn struct {
	tenant audit.TenantID
	ready  chan struct{}
}

// take waits for the tenant's turn, at most for the given time. The caller must give the turn back.
func (t *statsTurns) take(ctx context.Context, tenant audit.TenantID, wait time.Duration) error {
	turn := &statsTurn{tenant: tenant, ready: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, turn)
	t.start()
	t.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-turn.ready:
		return nil
	case <-ctx.Done():
		return t.leave(turn, ctx.Err())
	case <-timer.C:
		return t.leave(turn, &audit.UnavailableError{RetryAfter: statsWait, Err: errStatsBusy})
	}
}

// leave takes the turn out of the queue. It returns nil if the turn has come meanwhile.
func (t *statsTurns) leave(turn *statsTurn, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, turn); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return err
	}
	return nil
}

// give ends a tenant's turn.
func (t *statsTurns) give(tenant audit.TenantID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.running, tenant)
	t.running = slices.Delete(t.running, i, i+1)
	t.start()
}

// start starts those that have waited longest and whose tenants count nothing else.
func (t *statsTurns) start() {
	t.waiting = slices.DeleteFunc(t.waiting, func(turn *statsTurn) bool {
		if len(t.running) == maxStatsAtOnce || slices.Contains(t.running, turn.tenant) {
			return false
		}
		t.running = append(t.running, turn.tenant)
		close(turn.ready)
		return true
	})
}
