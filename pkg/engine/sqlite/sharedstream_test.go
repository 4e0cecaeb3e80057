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

func TestSharedStreamLog(t *testing.T) {
	conformance.StreamLogs(t, func(t *testing.T, now func() time.Time) conformance.StreamLog {
		var l sharedLog
		for _, db := range openShared(t, 3, sqlite.WithClock(now)) {
			l.of = append(l.of, db.StreamLog())
		}
		return &l
	})
}

type sharedLog struct{ inTurn[*sqlite.StreamLog] }

func (l *sharedLog) HasSubscribers(ctx context.Context, tenant audit.TenantID) (bool, error) {
	return l.next().HasSubscribers(ctx, tenant)
}

func (l *sharedLog) Open(ctx context.Context, tenant audit.TenantID, until time.Time) (int64, error) {
	return l.next().Open(ctx, tenant, until)
}

func (l *sharedLog) Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return l.next().Append(ctx, tenant, ids)
}

func (l *sharedLog) Head(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return l.next().Head(ctx, tenant)
}

func (l *sharedLog) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	return l.next().Read(ctx, tenant, after, limit)
}

func (l *sharedLog) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return l.next().Purge(ctx, tenant, limit)
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

func (s *sharedConnections) Subscribed(ctx context.Context, tenant audit.TenantID) ([]string, error) {
	return s.next().Subscribed(ctx, tenant)
}

func (s *sharedConnections) Remove(ctx context.Context, id string) error {
	return s.next().Remove(ctx, id)
}

func (s *sharedConnections) Acquire(ctx context.Context, id, holder string, until time.Time) (stream.Connection, bool, error) {
	return s.next().Acquire(ctx, id, holder, until)
}

func (s *sharedConnections) Save(ctx context.Context, id, holder string, subscription *stream.Subscription, until time.Time) error {
	return s.next().Save(ctx, id, holder, subscription, until)
}

func (s *sharedConnections) Release(ctx context.Context, id, holder string) (bool, error) {
	return s.next().Release(ctx, id, holder)
}

func (s *sharedConnections) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return s.next().Purge(ctx, tenant, limit)
}
