package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// Quotas has the accounts of the tenants' quotas. It implements quota.Leases and jobs.CountedPurger.
// Its clock is the machine's.
type Quotas struct{ db *DB }

// Quotas returns the accounts in this file.
func (db *DB) Quotas() *Quotas { return &Quotas{db} }

// Lease implements quota.Leases.
func (s *Quotas) Lease(ctx context.Context, tenant audit.TenantID, limit quota.Limit, accepted, want int64) (lease quota.Lease, err error) {
	err = s.db.write(ctx, func(b *batch) (err error) {
		lease, err = b.lease(tenant, limit, accepted, want)
		return err
	})
	if err != nil {
		return quota.Lease{}, fmt.Errorf("lease of %s: %w", tenant, err)
	}
	return lease, nil
}

func (b *batch) lease(tenant audit.TenantID, limit quota.Limit, accepted, want int64) (quota.Lease, error) {
	now, err := b.int64(context.Background(), `SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)`)
	if err != nil {
		return quota.Lease{}, err
	}
	var account quota.Account
	account.Full, err = b.int64(context.Background(), `SELECT full_at FROM quotas WHERE tenant = ?`, string(tenant))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return quota.Lease{}, err
	}
	account, lease := account.Lease(limit, now, accepted, want)
	_, err = b.exec(`INSERT INTO quotas (tenant, full_at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET full_at = ?2`, string(tenant), account.Full)
	return lease, err
}

// Purge implements jobs.Purger.
func (s *Quotas) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		if limit < 1 {
			return 0, nil
		}
		changed, err := b.exec(`DELETE FROM quotas WHERE tenant = ?`, string(tenant))
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge the quota of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Quotas) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "quota", tenant, `SELECT count(*) FROM quotas WHERE tenant = ?`)
}
