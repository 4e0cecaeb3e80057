package sqlite

import (
	"context"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Backlog bounds what waits in a queue without having been received. The zero value has no bound.
type Backlog struct {
	// Weigh returns for how many bytes a body counts; nil: its length. It must be fast, and the same each time.
	Weigh func(body string) int
	// Ahead is how many bytes of all tenants wait when Send begins to wait for consumers, so that
	// entries are accepted as fast as they are stored and found. A tenant that has less than its
	// part of these bytes does not wait. It is not for a file that is shared.
	Ahead int
	// Slow is the number of messages of one tenant from which on Send waits for consumers, without Ahead or
	// if the file is shared.
	Slow int
	// Gather is how long after many messages were received the next ones are, at the earliest: those of
	// many tenants cost less if one transaction stores them. It waits no longer than until MaxReceived
	// bytes are there, or none were sent for a while. It is not for a file that is shared. Such a queue has its
	// deliveries in memory.
	Gather time.Duration
	// Full is the number of messages of one tenant from which on Send returns audit.ErrBacklog;
	// 0: it never does.
	Full int
}

func (l *Backlog) weigh(body string) int {
	if l.Weigh == nil {
		return len(body)
	}
	return l.Weigh(body)
}

const (
	// slowTime bounds each wait of a Send.
	slowTime = time.Second
	// gatherFrom is the number of messages from which on a receive had many.
	gatherFrom = 8
	// gatherIdle is how long a receive waits for the next message while it gathers, unless one is being sent.
	gatherIdle = 20 * time.Millisecond
)

// backlog counts the bytes that wait in one queue. All Queues of one name share it. It counts
// only what this process sends and receives, and begins at zero. A message that is received a
// second time does not count. So it can be too low after a start, which does no harm.
type backlog struct {
	mu      sync.Mutex
	bytes   int
	tenants map[audit.TenantID]int
	less    *signal // raised once less waits
	more    *signal // raised once any bytes wait, and once MaxReceived do

	sending    int       // sends that are under way
	sentAt     time.Time // when the last one ended
	receivedAt time.Time // when they were last received
	received   int       // how many
}

func newBacklog() *backlog {
	return &backlog{tenants: map[audit.TenantID]int{}, less: newSignal(), more: newSignal()}
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
	less, entered := b.tryEnter(tenant, size, ahead, false)
	if entered {
		return nil
	}
	timeout := time.NewTimer(slowTime)
	defer timeout.Stop()
	for end := false; !entered; less, entered = b.tryEnter(tenant, size, ahead, end) {
		select {
		case <-less:
		case <-timeout.C:
			end = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// sent ends what enter began. The bytes do not count if they were not sent.
func (b *backlog) sent(tenant audit.TenantID, size int, err error) {
	b.mu.Lock()
	b.sending--
	b.sentAt = time.Now()
	b.mu.Unlock()
	if err != nil {
		b.leave(map[audit.TenantID]int{tenant: size})
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
	if b.bytes == 0 || b.bytes+size >= MaxReceived {
		b.more.raise()
	}
	b.bytes += size
	b.tenants[tenant] = own + size
	b.sending++
	return nil, true
}

// gather waits for more messages, for d at most since the last were received, and not after the
// deadline. It does not wait if those were few.
func (b *backlog) gather(ctx context.Context, d time.Duration, deadline time.Time, closing <-chan struct{}) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		more, left := b.gathering(d)
		left = min(left, time.Until(deadline))
		if left <= 0 {
			return nil
		}
		timer.Reset(left)
		select {
		case <-more:
		case <-timer.C:
		case <-closing:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gathering returns how long gather has to wait before it looks again, and what tells that this may be sooner.
func (b *backlog) gathering(d time.Duration) (more <-chan struct{}, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.received < gatherFrom || b.bytes >= MaxReceived {
		return nil, 0
	}
	left = time.Until(b.receivedAt.Add(d))
	switch {
	case b.bytes == 0:
	case b.sending > 0:
		left = min(left, gatherIdle)
	default:
		left = min(left, time.Until(b.sentAt.Add(gatherIdle)))
	}
	return b.more.next(), left
}

// note says how many messages were received. If others were left, none gather: there may be more than this
// process has counted.
func (b *backlog) note(received int, left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left {
		received = 0
	}
	b.receivedAt, b.received = time.Now(), received
}

// leave counts bytes of tenants that were received, or not sent.
func (b *backlog) leave(sizes map[audit.TenantID]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.bytes
	for tenant, size := range sizes {
		own := b.tenants[tenant]
		size = min(size, own)
		if b.bytes -= size; size == own {
			delete(b.tenants, tenant)
		} else {
			b.tenants[tenant] = own - size
		}
	}
	if b.bytes < before {
		b.less.raise()
	}
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
