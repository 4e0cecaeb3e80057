package sqlite

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Attempts says which refused attempts are recorded. It implements attempts.Claims and jobs.CountedPurger.
type Attempts struct{ db *DB }

// Attempts returns the claims of refused attempts in this file.
func (db *DB) Attempts() *Attempts { return &Attempts{db} }

// keptHours is how long claims are kept. Clocks of processes that share the file may differ.
const keptHours = 2

// Claim implements attempts.Claims. It removes some claims of earlier hours.
func (s *Attempts) Claim(ctx context.Context, slot attempts.Slot, most int) (free bool, err error) {
	err = s.db.write(ctx, func(b *batch) error {
		if _, err := b.exec(`DELETE FROM attempts WHERE (tenant, caller, hour, place) IN (SELECT tenant, caller, hour, place FROM attempts WHERE hour < ? LIMIT 100)`,
			slot.Hour-keptHours); err != nil {
			return err
		}
		taken, err := b.int64(context.Background(), `SELECT count(*) FROM attempts WHERE tenant = ? AND caller = ? AND hour = ?`, string(slot.Tenant), slot.Caller[:], slot.Hour)
		if err != nil || taken >= int64(most) {
			return err
		}
		n, err := b.exec(`INSERT INTO attempts (tenant, caller, hour, place) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			string(slot.Tenant), slot.Caller[:], slot.Hour, slot.Place)
		free = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim a refused attempt of %s: %w", slot.Tenant, err)
	}
	return free, nil
}

// Purge implements jobs.Purger.
func (s *Attempts) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		changed, err := b.exec(`DELETE FROM attempts WHERE (tenant, caller, hour, place) IN (SELECT tenant, caller, hour, place FROM attempts WHERE tenant = ? LIMIT ?)`,
			string(tenant), max(limit, 0))
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge the refused attempts of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Attempts) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "refused attempts", tenant, `SELECT count(*) FROM attempts WHERE tenant = ?`)
}
