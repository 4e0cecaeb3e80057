package sqlite_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

// inTurn sends successive calls to different processes that share a file.
type inTurn[T any] struct {
	of    []T
	calls atomic.Int64
}

func (p *inTurn[T]) next() T { return p.of[int(p.calls.Add(1))%len(p.of)] }

func TestSharedStreams(t *testing.T) {
	conformance.Streams(t, func(t *testing.T, now func() time.Time) conformance.StreamStore {
		var s sharedStreams
		for _, db := range openShared(t, 3, sqlite.WithClock(now)) {
			s.of = append(s.of, db.Streams())
		}
		return &s
	})
}

type sharedStreams struct{ inTurn[*sqlite.Streams] }

func (s *sharedStreams) Open(ctx context.Context, tenant audit.TenantID, until time.Time) error {
	return s.next().Open(ctx, tenant, until)
}

func (s *sharedStreams) Stream(ctx context.Context, tenant audit.TenantID) (stream.State, error) {
	return s.next().Stream(ctx, tenant)
}

func (s *sharedStreams) Acquire(ctx context.Context, tenant audit.TenantID, holder string, leased, watched time.Time) (stream.State, bool, error) {
	return s.next().Acquire(ctx, tenant, holder, leased, watched)
}

func (s *sharedStreams) Save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress, leased, watched time.Time) error {
	return s.next().Save(ctx, tenant, holder, progress, leased, watched)
}

func (s *sharedStreams) Release(ctx context.Context, tenant audit.TenantID, holder string, rest stream.Rest) error {
	return s.next().Release(ctx, tenant, holder, rest)
}

func (s *sharedStreams) Close(ctx context.Context, tenant audit.TenantID, holder string, changes int64) error {
	return s.next().Close(ctx, tenant, holder, changes)
}

func (s *sharedStreams) Idle(ctx context.Context, tenants []audit.TenantID) ([]audit.TenantID, error) {
	return s.next().Idle(ctx, tenants)
}

func (s *sharedStreams) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.next().Purge(ctx, tenant, limit)
}

func (s *sharedStreams) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.next().CountRecords(ctx, tenant)
}

func TestSharedConnections(t *testing.T) {
	conformance.Connections(t, func(t *testing.T, now func() time.Time) conformance.ConnectionStore {
		var s sharedConnections
		for _, db := range openShared(t, 3, sqlite.WithClock(now)) {
			s.of = append(s.of, db.Connections())
		}
		return &s
	})
}

type sharedConnections struct{ inTurn[*sqlite.Connections] }

func (s *sharedConnections) Create(ctx context.Context, c stream.Connection) error {
	return s.next().Create(ctx, c)
}

func (s *sharedConnections) Connection(ctx context.Context, id string) (stream.Connection, error) {
	return s.next().Connection(ctx, id)
}

func (s *sharedConnections) Subscribe(ctx context.Context, id string, subscription stream.Subscription) error {
	return s.next().Subscribe(ctx, id, subscription)
}

func (s *sharedConnections) EndSubscription(ctx context.Context, id, subscription string) error {
	return s.next().EndSubscription(ctx, id, subscription)
}

func (s *sharedConnections) CountSubscribed(ctx context.Context, tenant audit.TenantID) (int, error) {
	return s.next().CountSubscribed(ctx, tenant)
}

func (s *sharedConnections) Subscribed(ctx context.Context, tenant audit.TenantID) ([]stream.Connection, error) {
	return s.next().Subscribed(ctx, tenant)
}

func (s *sharedConnections) ClaimEnd(ctx context.Context, id string, until time.Time) (bool, error) {
	return s.next().ClaimEnd(ctx, id, until)
}

func (s *sharedConnections) Remove(ctx context.Context, id string) error {
	return s.next().Remove(ctx, id)
}

func (s *sharedConnections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.next().Purge(ctx, tenant, limit)
}

func (s *sharedConnections) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.next().CountRecords(ctx, tenant)
}
