package sqlite

import (
	"context"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Backlog bounds what waits in a queue without having been received. The zero value has no bound.
type Backlog struct {
	// Ahead is how many bytes of all tenants wait when Send begins to wait for consumers, so that
	// entries are accepted as fast as they are stored and found. A tenant that has less than its
	// part of these bytes does not wait. It is not for a file that is shared.
	Ahead int
	// Slow is the number of messages of one tenant from which on Send waits for consumers.
	Slow int
	// Full is the number of messages of one tenant from which on Send returns audit.ErrBacklog;
	// 0: it never does.
	Full int
}

// slowTime bounds each wait of a Send.
const slowTime = time.Second

// backlog counts the bytes that wait in one queue. All Queues of one name share it. It counts
// only what this process sends and receives, and begins at zero. A message that is received a
// second time does not count. So it can be too low after a start, which does no harm.
type backlog struct {
	mu      sync.Mutex
	bytes   int
	tenants map[audit.TenantID]int
	less    *signal // raised once less waits
}

func newBacklog() *backlog {
	return &backlog{tenants: map[audit.TenantID]int{}, less: newSignal()}
}

// backlogOf returns the backlog of the queue.
func (db *DB) backlogOf(name string) *backlog {
	db.signalsMu.Lock()
	defer db.signalsMu.Unlock()
	b := db.backlogs[name]
	if b == nil {
		b = newBacklog()
		db.backlogs[name] = b
	}
	return b
}

// enter counts bytes that a tenant is about to send. It first waits while there are ahead or
// more, for slowTime at most, unless the tenant has its part of them only.
func (b *backlog) enter(ctx context.Context, tenant audit.TenantID, size, ahead int) error {
	timeout := time.NewTimer(slowTime)
	defer timeout.Stop()
	for end := false; ; {
		less, entered := b.tryEnter(tenant, size, ahead, end)
		if entered {
			return nil
		}
		select {
		case <-less:
		case <-timeout.C:
			end = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryEnter is enter without waiting. It returns what tells that less waits.
func (b *backlog) tryEnter(tenant audit.TenantID, size, ahead int, force bool) (less <-chan struct{}, entered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, waiting := b.tenants[tenant], len(b.tenants)
	if own == 0 {
		waiting++
	}
	if !force && b.bytes >= ahead && (own+size)*waiting > ahead {
		return b.less.next(), false
	}
	b.bytes += size
	b.tenants[tenant] = own + size
	return nil, true
}

// leave counts bytes of a tenant that were received, or not sent.
func (b *backlog) leave(tenant audit.TenantID, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.tenants[tenant]
	if size = min(size, own); size == 0 {
		return
	}
	if b.bytes -= size; size == own {
		delete(b.tenants, tenant)
	} else {
		b.tenants[tenant] = own - size
	}
	b.less.raise()
}

// clear says that nothing waits.
func (b *backlog) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes > 0 {
		b.bytes, b.tenants = 0, map[audit.TenantID]int{}
		b.less.raise()
	}
}
