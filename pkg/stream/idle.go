package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// checkEvery is the longest time between two checks of the connections of a stream. A
	// connection to which nothing is sent ends so long after its credential, and after the age
	// of Tenants.
	checkEvery = 30 * time.Second
	// maxCheckedStreams bounds the streams whose next check a process remembers.
	maxCheckedStreams = 16_384
	// maxEndedAtOnce is how many connections end at the same time.
	maxEndedAtOnce = 32
	// endTime is how long one worker has to end a connection. Then another may end it.
	endTime = 10 * time.Second
)

// checkConnections closes the tenant's connections that must not be used any longer, and queues a
// message for the next check while others are left. It does nothing if this process has queued one
// a short time ago. Each process that serves the tenant can have a message of its own. One that
// comes early ends there.
func (s *Service) checkConnections(ctx context.Context, tenant audit.TenantID) error {
	s.once.Do(s.makeCaches)
	now := s.Now()
	if next, found := s.checks.Get(tenant); found && next.ReadAt.Sub(now) >= checkEvery/2 {
		return nil
	}
	connections, err := s.Connections.Subscribed(ctx, tenant)
	if err != nil {
		return fmt.Errorf("check the subscribers of %s: %w", tenant, err)
	}
	if len(connections) == 0 {
		return nil
	}
	for _, c := range connections { // so that each key is read once
		s.checked.Remove(checkedKey{c.Tenant, c.Principal.KeyID})
	}
	var checking errgroup.Group
	checking.SetLimit(maxEndedAtOnce)
	for _, c := range connections {
		checking.Go(func() error {
			err := s.check(ctx, c)
			if !EndsConnection(err) {
				return err
			}
			s.end(ctx, c, err)
			return nil
		})
	}
	if err := checking.Wait(); err != nil {
		return fmt.Errorf("check the subscribers of %s: %w", tenant, err)
	}
	if err := s.nudge(ctx, tenant, checkEvery); err != nil {
		return err
	}
	s.checks.Put(tenant, ttlcache.Entry[struct{}]{ReadAt: now.Add(checkEvery)})
	return nil
}

// makeCaches makes what a process remembers.
func (s *Service) makeCaches() {
	s.checked = ttlcache.New[checkedKey, struct{}](maxCheckedKeys)
	s.checks = ttlcache.New[audit.TenantID, struct{}](maxCheckedStreams)
}

// end ends a connection that must not be used any longer. If that fails, the next pump or check
// tries it again.
func (s *Service) end(ctx context.Context, c Connection, reason error) {
	s.Log.InfoContext(ctx, "a connection ends", "tenant", c.Tenant, "why", reason.Error())
	if err := s.End(ctx, c.ID, s.Problem(reason)); err != nil {
		s.Log.WarnContext(ctx, "a connection was not ended", "tenant", c.Tenant, "error", err)
	}
}

// End sends the client an error frame that says why its connection must not be used any longer,
// closes the connection and removes it. problem is the JSON text of a problem document. Of
// several workers that do so at the same time, one does it.
func (s *Service) End(ctx context.Context, id string, problem []byte) error {
	claimed, err := s.Connections.ClaimEnd(ctx, id, s.Now().Add(endTime))
	if err != nil || !claimed {
		return err
	}
	return errors.Join(s.Fail(ctx, id, problem), s.cut(ctx, id)) // without the frame, the next handshake tells it
}

// cut closes the connection and removes it. It is removed last, so that a check finds it and
// closes it if a worker has died.
func (s *Service) cut(ctx context.Context, id string) error {
	if err := s.Sender.Cut(ctx, id); err != nil {
		return err
	}
	return s.Connections.Remove(ctx, id)
}
