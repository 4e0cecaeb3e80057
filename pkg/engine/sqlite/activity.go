package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Activity is the register of active days. It implements search.Activity and jobs.Purger.
type Activity struct{ db *DB }

// Activity returns the register in this file.
func (db *DB) Activity() *Activity { return &Activity{db} }

// dayNumber returns the number of days from 1970 to the day.
func dayNumber(day time.Time) int64 { return day.Unix() / int64(24*time.Hour/time.Second) }

// Touch implements search.Activity.
func (a *Activity) Touch(ctx context.Context, tenant audit.TenantID, days []time.Time, due time.Time) error {
	err := a.db.write(ctx, func(b *batch) error {
		for _, day := range days {
			_, err := b.exec(`INSERT INTO active_days (tenant, day, touches, checks, due) VALUES (?1, ?2, 1, 0, ?3)
				ON CONFLICT DO UPDATE SET touches = touches + 1, due = CASE WHEN checks = 0 AND due IS NOT NULL THEN due ELSE ?3 END, checks = 0`,
				string(tenant), dayNumber(day), due.UnixMilli())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register active days of %s: %w", tenant, err)
	}
	return nil
}

// DueDays implements search.Activity.
func (a *Activity) DueDays(ctx context.Context, at time.Time, limit int) (due []search.ActiveDay, err error) {
	var d search.ActiveDay
	var tenant string
	var day int64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT tenant, day, touches, checks FROM active_days WHERE due <= ? ORDER BY due LIMIT ?`,
			[]any{at.UnixMilli(), limit}, []any{&tenant, &day, &d.Touches, &d.Checks}, func() (bool, error) {
				d.Tenant, d.Day = audit.TenantID(tenant), time.Unix(day*int64(24*time.Hour/time.Second), 0).UTC()
				due = append(due, d)
				return true, nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list active days: %w", err)
	}
	return due, nil
}

// DueAt implements search.Activity.
func (a *Activity) DueAt(ctx context.Context, tenant audit.TenantID, day time.Time) (due time.Time, err error) {
	var millis sql.NullInt64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT due FROM active_days WHERE tenant = ? AND day = ?`, []any{string(tenant), dayNumber(day)}, []any{&millis})
	})
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && !millis.Valid:
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("due time of %s of %s: %w", day.Format(time.DateOnly), tenant, err)
	}
	return time.UnixMilli(millis.Int64).UTC(), nil
}

// Check implements search.Activity.
func (a *Activity) Check(ctx context.Context, day search.ActiveDay, due time.Time) error {
	var next any
	if !due.IsZero() {
		next = due.UnixMilli()
	}
	err := a.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE active_days SET checks = ?, due = ? WHERE tenant = ? AND day = ? AND touches = ?`,
			day.Checks, next, string(day.Tenant), dayNumber(day.Day), day.Touches)
		return err
	})
	if err != nil {
		return fmt.Errorf("check %s of %s: %w", day.Day.Format(time.DateOnly), day.Tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (a *Activity) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := a.db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		changed, err := b.exec(`DELETE FROM active_days WHERE tenant = ?1 AND day IN (SELECT day FROM active_days WHERE tenant = ?1 LIMIT ?2)`,
			string(tenant), limit)
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge active days of %s: %w", tenant, err)
	}
	return n, nil
}
