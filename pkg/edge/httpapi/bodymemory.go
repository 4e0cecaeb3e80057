package httpapi

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// The limits of all request bodies of one process together. A Lambda handles one request
// at a time and never waits. The process of a local runner may get hundreds at once.
const (
	// maxUnpackedAtOnce is the number of bytes of bodies that are handled at the same time.
	// Their handling takes three to four times as much memory.
	maxUnpackedAtOnce = 32 << 20
	// maxLargeAtOnce is how many bodies of more than freeBody are received at the same
	// time. Each takes as much memory as the client has sent, at most audit.MaxBulkWire.
	maxLargeAtOnce = 40
	// freeBody is the size up to which a body takes no part in these limits, in bytes.
	freeBody = 64 << 10
	// bodyWait is how long a request waits for room.
	bodyWait = 10 * time.Second
	// bodyRetry is when a client that got no room should come again.
	bodyRetry = 5 * time.Second
)

// bodyMemory counts the bodies of all requests of a Gate.
type bodyMemory struct {
	init     sync.Once
	large    *semaphore.Weighted // bodies that are received
	unpacked *semaphore.Weighted // bytes that are handled
}

func (m *bodyMemory) ready() *bodyMemory {
	m.init.Do(func() {
		m.large, m.unpacked = semaphore.NewWeighted(maxLargeAtOnce), semaphore.NewWeighted(maxUnpackedAtOnce)
	})
	return m
}

// bodyRoom is what one request has of the bodyMemory. It reserves bytes once at a time:
// a request that waits for more than it has, as others do, could wait forever.
type bodyRoom struct {
	memory *bodyMemory
	large  bool
	bytes  int64
}

// receive reserves the place of a body with this announced length, -1: unknown.
func (r *bodyRoom) receive(ctx context.Context, length int64) error {
	if length >= 0 && length <= freeBody {
		return nil
	}
	err := acquire(ctx, r.memory.large, 1)
	r.large = err == nil
	return err
}

// reserve gives back what is reserved and reserves room for a body of this size.
func (r *bodyRoom) reserve(ctx context.Context, size int64) error {
	r.giveBytes()
	if size <= freeBody {
		return nil
	}
	err := acquire(ctx, r.memory.unpacked, size)
	if err == nil {
		r.bytes = size
	}
	return err
}

// shrink gives back what a body of this size does not need.
func (r *bodyRoom) shrink(size int64) {
	if size < r.bytes {
		r.memory.unpacked.Release(r.bytes - size)
		r.bytes = size
	}
}

func (r *bodyRoom) giveBytes() {
	if r.bytes > 0 {
		r.memory.unpacked.Release(r.bytes)
		r.bytes = 0
	}
}

// give gives everything back.
func (r *bodyRoom) give() {
	r.giveBytes()
	if r.large {
		r.memory.large.Release(1)
		r.large = false
	}
}

// acquire waits for room, at most for bodyWait.
func acquire(ctx context.Context, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	if s.Acquire(wait, n) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return retryLater(bodyRetry)
}
