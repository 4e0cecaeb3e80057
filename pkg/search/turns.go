package search

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Statistics take turns in two lanes, so that long ones do not hold up short ones. Each begins
// in the quick lane. After quickTime it moves to the long lane if that has room. If it has none,
// the count goes on where it is until somebody else waits for the quick lane. Then it is evicted,
// and begins again once the long lane has room.
const (
	// maxStatsAtOnce is how many statistics one process counts at the same time in each lane, one
	// for each tenant. Each may use a processor.
	maxStatsAtOnce = 2
	// quickTime is how long a count stays in the quick lane while others wait for it.
	quickTime = 2 * time.Second
	// statsWait is how long a request waits for a turn.
	statsWait = 5 * time.Second
	// statsDeadline bounds turns and waiting together. It is less than the 25 seconds of a
	// request.
	statsDeadline = 23 * time.Second
)

var (
	// errStatsBusy means that other statistics were counted meanwhile.
	errStatsBusy = errors.New("other statistics are being counted")
	// errEvicted is the cause of the end of a count that begins again in the long lane.
	errEvicted = errors.New("others wait for the quick lane")
)

// statsTurns gives tenants turns at counting statistics. The zero value is ready for use.
type statsTurns struct {
	mu      sync.Mutex
	running []*statsTurn
	waiting []*statsTurn // in the order of their arrival
	events  uint64
	// since is when the last turn of each tenant ended that counts or waits, or when it began to
	// wait without one. The tenant with the least number is next.
	since map[audit.TenantID]uint64
}

// statsTurn is the turn of one request.
type statsTurn struct {
	tenant audit.TenantID
	long   bool // in the long lane, or waiting for it
	late   bool // in the quick lane for longer than quickTime
	ready  chan struct{}
	evict  context.CancelCauseFunc
}

// take waits for a turn of the tenant, at most for statsWait. The caller must give it back. evict
// is called if the turn must end; the caller then takes one in the long lane.
func (t *statsTurns) take(ctx context.Context, tenant audit.TenantID, long bool, evict context.CancelCauseFunc) (*statsTurn, error) {
	turn := &statsTurn{tenant: tenant, long: long, ready: make(chan struct{}), evict: evict}
	t.mu.Lock()
	if _, active := t.since[tenant]; !active {
		t.touch(tenant)
	}
	t.waiting = append(t.waiting, turn)
	t.arrange()
	t.mu.Unlock()
	timer := time.NewTimer(statsWait)
	defer timer.Stop()
	select {
	case <-turn.ready:
		return turn, nil
	case <-ctx.Done():
		return turn, t.leave(turn, ctx.Err())
	case <-timer.C:
		return turn, t.leave(turn, errStatsBusy)
	}
}

// leave takes the turn out of the queue. It returns nil if the turn has come meanwhile.
func (t *statsTurns) leave(turn *statsTurn, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, turn)
	if i < 0 {
		return nil
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	t.forget(turn.tenant)
	return err
}

// give ends a turn.
func (t *statsTurns) give(turn *statsTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.running, turn)
	t.running = slices.Delete(t.running, i, i+1)
	t.touch(turn.tenant)
	t.forget(turn.tenant)
	t.arrange()
}

// outgrow says that quickTime has passed since the turn began.
func (t *statsTurns) outgrow(turn *statsTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn.late = !turn.long
	t.arrange()
}

// touch makes the tenant the last one.
func (t *statsTurns) touch(tenant audit.TenantID) {
	if t.since == nil {
		t.since = map[audit.TenantID]uint64{}
	}
	t.events++
	t.since[tenant] = t.events
}

// forget forgets a tenant that neither counts nor waits.
func (t *statsTurns) forget(tenant audit.TenantID) {
	is := func(turn *statsTurn) bool { return turn.tenant == tenant }
	if !slices.ContainsFunc(t.running, is) && !slices.ContainsFunc(t.waiting, is) {
		delete(t.since, tenant)
	}
}

// arrange moves late turns into the long lane while it has room, starts those that are next, and
// evicts late turns that others wait for.
func (t *statsTurns) arrange() {
	for _, turn := range t.running {
		if turn.late && t.count(true) < maxStatsAtOnce {
			turn.long, turn.late = true, false
		}
	}
	var blocked int // of those that wait for the quick lane alone
	for _, turn := range t.next() {
		switch {
		case t.count(turn.long) < maxStatsAtOnce:
			i := slices.Index(t.waiting, turn)
			t.waiting = slices.Delete(t.waiting, i, i+1)
			t.running = append(t.running, turn)
			close(turn.ready)
		case !turn.long:
			blocked++
		}
	}
	for _, turn := range t.running {
		if blocked > 0 && turn.late {
			turn.evict(errEvicted)
			blocked--
		}
	}
}

// next returns the first waiting turn of each tenant that does not count, in fair order.
func (t *statsTurns) next() []*statsTurn {
	var next []*statsTurn
	seen := map[audit.TenantID]bool{}
	for _, turn := range t.running {
		seen[turn.tenant] = true
	}
	for _, turn := range t.waiting {
		if !seen[turn.tenant] {
			seen[turn.tenant] = true
			next = append(next, turn)
		}
	}
	slices.SortFunc(next, func(a, b *statsTurn) int { return cmp.Compare(t.since[a.tenant], t.since[b.tenant]) })
	return next
}

// count returns how many turns a lane has.
func (t *statsTurns) count(long bool) (n int) {
	for _, turn := range t.running {
		if turn.long == long {
			n++
		}
	}
	return n
}
