package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Activity is the register of active days. It implements activity.Register and jobs.Purger.
type Activity struct{ db *DB }

// Activity returns the register in this file.
func (db *DB) Activity() *Activity { return &Activity{db} }

const secondsPerDay = int64(24 * time.Hour / time.Second)

// dayNumber returns the number of days from 1970 to the day.
func dayNumber(day time.Time) int64 { return day.Unix() / secondsPerDay }

// dayOf is the inverse of dayNumber, also for the zero time.
func dayOf(number int64) time.Time { return time.Unix(number*secondsPerDay, 0).UTC() }

// Touch implements activity.Register.
func (a *Activity) Touch(ctx context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error {
	days := activity.Days(tenant, receipts)
	err := a.db.write(ctx, func(b *batch) error {
		for i := range days {
			if err := b.touch(&days[i], days[i].DueOnTouch(due).UnixMilli()); err != nil {
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

func (b *batch) touch(day *activity.Day, due int64) error {
	conflict := `DO NOTHING`
	if day.Work.IsDueOnTouch() {
		conflict = `DO UPDATE SET touches = touches + 1, checks = 0, due = min(coalesce(due, excluded.due), excluded.due)`
	}
	_, err := b.exec(`INSERT INTO activity (work, tenant, received, day, touches, checks, due) VALUES (?, ?, ?, ?, 1, 0, ?) ON CONFLICT `+conflict,
		string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day), due)
	return err
}

// TouchAll implements activity.Register.
func (a *Activity) TouchAll(ctx context.Context, work activity.Work, tenant audit.TenantID, due time.Time) error {
	err := a.db.write(ctx, func(b *batch) error {
		if work == activity.Archive {
			_, err := b.exec(`INSERT INTO activity (work, tenant, received, day, touches, checks, due)
				SELECT ?1, tenant, received, day, 0, 0, ?2 FROM activity WHERE tenant = ?3 AND work = ?4 ON CONFLICT DO NOTHING`,
				string(work), due.UnixMilli(), string(tenant), string(activity.Retain))
			if err != nil {
				return err
			}
		}
		_, err := b.exec(`UPDATE activity SET touches = touches + 1, checks = 0, due = min(coalesce(due, ?1), ?1) WHERE tenant = ?2 AND work = ?3`,
			due.UnixMilli(), string(tenant), string(work))
		return err
	})
	if err != nil {
		return fmt.Errorf("touch all days of %s: %w", tenant, err)
	}
	return nil
}

// DueDays implements activity.Register.
func (a *Activity) DueDays(ctx context.Context, work activity.Work, at time.Time, limit int) (due []activity.Day, err error) {
	d := activity.Day{Work: work}
	var tenant string
	var received, day int64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT tenant, received, day, touches, checks FROM activity WHERE work = ? AND due <= ? ORDER BY due LIMIT ?`,
			[]any{string(work), at.UnixMilli(), limit}, []any{&tenant, &received, &day, &d.Touches, &d.Checks}, func() (bool, error) {
				d.Tenant, d.Receipt = audit.TenantID(tenant), activity.Receipt{Received: dayOf(received), Day: dayOf(day)}
				due = append(due, d)
				return true, nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list active days: %w", err)
	}
	return due, nil
}

// DueAt implements activity.Register.
func (a *Activity) DueAt(ctx context.Context, day activity.Day) (due time.Time, err error) {
	var millis sql.NullInt64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT due FROM activity WHERE work = ? AND tenant = ? AND received = ? AND day = ?`,
			[]any{string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day)}, []any{&millis})
	})
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && !millis.Valid:
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("due time of %s of %s: %w", day.Day.Format(time.DateOnly), day.Tenant, err)
	}
	return time.UnixMilli(millis.Int64).UTC(), nil
}

// Check implements activity.Register.
func (a *Activity) Check(ctx context.Context, day activity.Day, due time.Time) error {
	var next any
	if !due.IsZero() {
		next = due.UnixMilli()
	}
	err := a.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE activity SET checks = ?, due = ? WHERE work = ? AND tenant = ? AND received = ? AND day = ? AND touches = ?`,
			day.Checks, next, string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day), day.Touches)
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
		changed, err := b.exec(`DELETE FROM activity WHERE tenant = ?1 AND (work, received, day) IN (
			SELECT work, received, day FROM activity WHERE tenant = ?1 LIMIT ?2)`, string(tenant), limit)
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge active days of %s: %w", tenant, err)
	}
	return n, nil
}
