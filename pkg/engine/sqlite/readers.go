package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Reads are of three kinds, with connections of their own. So what takes milliseconds, and what entries need on
// their way, never waits for what takes seconds.
const (
	// shortReaders is for reads that are short by nature: records by their keys, and pages of a few rows.
	shortReaders = 3
	// longReaders is for searches and other reads of many rows.
	longReaders = 3
	// statsReaders is for statistics. Package search counts as many at the same time, each for another tenant.
	statsReaders = 4
	// readersOfTenant is how many connections of one kind a tenant has at the same time. Some are always left
	// for others.
	readersOfTenant = 2
	// statsWait bounds the wait of statistics. They end soon after audit.MaxStatsTime, and would seem to be too
	// many if they had waited for most of it.
	statsWait = 5 * time.Second
)

// readers are the connections for one kind of reads. They are given to the tenant that uses the fewest.
type readers struct {
	mu      sync.Mutex
	free    []*conn                // the last one was used last, so that few caches fill
	running map[audit.TenantID]int // connections in use
	waiting []*waitingRead         // in the order of their arrival
	wait    time.Duration          // for a connection, at most; 0: as long as the context
	paused  bool
	pauses  int
	closed  bool
	inUse   sync.WaitGroup
}

// waitingRead is a call that waits for a connection.
type waitingRead struct {
	tenant audit.TenantID
	ready  chan struct{}
	conn   *conn // once it is ready; nil: the readers are closed
}

func newReaders(pool *sql.DB, n int) *readers {
	r := &readers{running: map[audit.TenantID]int{}}
	for range n {
		r.free = append(r.free, &conn{pool: pool})
	}
	return r
}

// snapshot runs f with a connection that sees one snapshot of the file. The tenant, for which it reads, waits
// while it has its part of the connections. What is for no tenant counts as one.
func (r *readers) snapshot(ctx context.Context, tenant audit.TenantID, f func(c *conn) error) (err error) {
	c, err := r.take(ctx, tenant)
	if err != nil {
		return err
	}
	defer r.give(tenant, c)
	ended := false
	defer func() {
		if !ended { // f panics, or the transaction could not be begun or ended
			err = errors.Join(err, c.close())
		}
	}()
	if err := c.run(`BEGIN`); err != nil {
		return unavailable(err)
	}
	err = f(c)
	ended = c.run(`ROLLBACK`) == nil // it has written nothing
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // not the error of the interrupted statement
	}
	return unavailable(err)
}

// take waits for a connection. It returns an *audit.UnavailableError if the wait takes too long.
func (r *readers) take(ctx context.Context, tenant audit.TenantID) (*conn, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errClosed
	}
	read := &waitingRead{tenant: tenant, ready: make(chan struct{})}
	r.waiting = append(r.waiting, read)
	r.serve()
	r.mu.Unlock()
	waiting := ctx
	if r.wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, r.wait)
		defer cancel()
	}
	select {
	case <-read.ready:
	case <-waiting.Done():
		switch {
		case !r.leave(read):
			<-read.ready
		case errors.Is(waiting.Err(), context.DeadlineExceeded):
			return nil, &audit.UnavailableError{Err: fmt.Errorf("other reads are under way: %w", waiting.Err())}
		default:
			return nil, ctx.Err()
		}
	}
	if read.conn == nil {
		return nil, errClosed
	}
	return read.conn, nil
}

// leave takes a call out of the queue. It reports false if the call is ready meanwhile.
func (r *readers) leave(read *waitingRead) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiting, read)
	if i < 0 {
		return false
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	return true
}

func (r *readers) give(tenant audit.TenantID, c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, c)
	if r.running[tenant]--; r.running[tenant] == 0 {
		delete(r.running, tenant)
	}
	r.inUse.Done()
	r.serve()
}

// serve gives free connections to those whose turn it is.
func (r *readers) serve() {
	for len(r.free) > 0 && !r.paused && !r.closed {
		next := r.next()
		if next < 0 {
			return
		}
		read := r.waiting[next]
		r.waiting = slices.Delete(r.waiting, next, next+1)
		read.conn, r.free = r.free[len(r.free)-1], r.free[:len(r.free)-1]
		r.running[read.tenant]++
		r.inUse.Add(1)
		close(read.ready)
	}
}

// next returns the index of the first call of the tenant that uses the fewest connections, -1 if there is none
// that may use one more.
func (r *readers) next() int {
	next, fewest := -1, readersOfTenant
	for i, read := range r.waiting {
		if n := r.running[read.tenant]; n < fewest {
			next, fewest = i, n
		}
	}
	return next
}

// pause lets no read begin, until resume and for d at most.
func (r *readers) pause(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	r.pauses++
	this := r.pauses
	time.AfterFunc(d, func() { r.resumeFrom(this) })
}

// resume ends the last pause.
func (r *readers) resume() { r.resumeFrom(0) }

// resumeFrom ends a pause if it is the last one, or if it is 0.
func (r *readers) resumeFrom(pause int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pause == 0 || pause == r.pauses {
		r.paused = false
		r.serve()
	}
}

// close waits for current reads. Waiting ones fail, and so do later ones.
func (r *readers) close() error {
	r.mu.Lock()
	r.closed = true
	for _, read := range r.waiting {
		close(read.ready)
	}
	r.waiting = nil
	r.mu.Unlock()
	r.inUse.Wait()
	var errs []error
	for _, c := range r.free {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}
