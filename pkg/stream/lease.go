package stream

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	// leaseTime is how long a stream stays locked if the holder of its lease was killed.
	leaseTime = 5 * time.Second
	// renewAfter is the time after which a holder without progress renews its lease.
	renewAfter = leaseTime / 3
	// watchDelay is the delay of the message that looks at the stream after a lease.
	watchDelay = 2 * leaseTime
	// maxClockSkew is more than two workers differ in what they take for the time of the store;
	// see Streams. A message must not reach a worker that takes it for too early.
	maxClockSkew = 100 * time.Millisecond
)

// nudge sends a message that asks to look at the tenant's stream after the delay.
func (s *Service) nudge(ctx context.Context, tenant audit.TenantID, delay time.Duration) error {
	return arrival.SendNudge(ctx, s.Queue, tenant, delay)
}

// watch makes sure that a message is queued that looks at the stream after a lease that begins
// now. It returns when the message is due. One message serves many leases.
func (s *Service) watch(ctx context.Context, tenant audit.TenantID, watched time.Time) (time.Time, error) {
	now := s.Now()
	if watched.After(now.Add(leaseTime + maxClockSkew)) {
		return watched, nil
	}
	return now.Add(watchDelay), s.nudge(ctx, tenant, watchDelay)
}

// newID returns a random name, for the holder of a lease or a subscription.
func (s *Service) newID() string {
	var b [8]byte
	s.Random(b[:])
	return hex.EncodeToString(b[:])
}
