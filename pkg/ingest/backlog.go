package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

const (
	// backlogPeriod is the shortest time between two counts by a process.
	backlogPeriod = 5 * time.Second
	// backlogRequests is the number of requests after which a process counts. One that accepts
	// less does not matter, and SQS bills a count like a message.
	backlogRequests = 50
	backlogTimeout  = 5 * time.Second
	// backlogRetryAfter is what Retry-After says.
	backlogRetryAfter = 30 * time.Second
)

// errBacklogFull says that the messages of all tenants together are too many.
var errBacklogFull = errors.New("too many messages wait to be stored")

// Backlog bounds the messages of all tenants together that wait to be stored. Once it is half
// full, tenants have a part of their quotas only: see quota.Limiter. It counts beside the
// requests, so that none waits for it. The bound can be passed by what is accepted between two
// counts. It is safe for concurrent use, and must not be copied after its first use.
type Backlog struct {
	// Count returns about how many messages wait. It may stop counting at Max.
	Count func(ctx context.Context) (int64, error)
	Max   int64
	Now   func() time.Time

	mu        sync.Mutex
	counting  bool
	countedAt time.Time
	requests  int // since then
	fill      float64
}

// halfFull is the fill from which on every count matters.
const halfFull = 0.5

// Fill returns how full the backlog was at the last count, from 0 to 1. It is 0 if that failed.
func (b *Backlog) Fill() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fill
}

// Check returns an *audit.UnavailableError if the backlog was full at the last count. If a count
// fails, the entries are accepted: the queue itself refuses what it cannot take.
func (b *Backlog) Check(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	age := b.Now().Sub(b.countedAt)
	if !b.counting && (b.fill > halfFull || b.requests >= backlogRequests) && (age >= backlogPeriod || age < 0) {
		b.counting, b.requests = true, 0
		go b.count(context.WithoutCancel(ctx))
	}
	if b.fill >= 1 {
		return &audit.UnavailableError{RetryAfter: backlogRetryAfter, Err: errBacklogFull}
	}
	return nil
}

func (b *Backlog) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, backlogTimeout)
	defer cancel()
	var n int64
	err := panics.Recovered(ctx, func() (err error) {
		n, err = b.Count(ctx)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counting, b.countedAt = false, b.Now()
	b.fill = 0
	if err == nil {
		b.fill = min(1, float64(n)/float64(b.Max))
	}
}

// unavailable returns the error of entries that were not accepted because of err.
func unavailable(err error, operation string, args ...any) error {
	var cause *audit.UnavailableError
	failed := &audit.UnavailableError{Err: fmt.Errorf(operation+": %w", append(args, err)...)}
	if errors.As(err, &cause) {
		failed.RetryAfter = cause.RetryAfter
	}
	return failed
}
