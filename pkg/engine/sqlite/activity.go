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

// Activity is the register of active days. It implements activity.Register and jobs.CountedPurger.
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

// TouchDays implements cleanup.Register.
func (a *Activity) TouchDays(ctx context.Context, days []activity.Day, due time.Time) error {
	err := a.db.write(ctx, func(b *batch) error {
		for i := range days {
			if err := b.touch(&days[i], due.UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("touch %d days: %w", len(days), err)
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
	var received, day, claimed int64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, `SELECT tenant, received, day, touches, checks, claimed FROM activity WHERE work = ? AND due <= ? ORDER BY due LIMIT ?`,
			[]any{string(work), at.UnixMilli(), limit}, []any{&tenant, &received, &day, &d.Touches, &d.Checks, &claimed}, func() (bool, error) {
				d.Tenant, d.Receipt = audit.TenantID(tenant), activity.Receipt{Received: dayOf(received), Day: dayOf(day)}
				d.Claimed = timeOrZero(claimed)
				due = append(due, d)
				return true, nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list active days: %w", err)
	}
	return due, nil
}

// Claim implements activity.Register.
func (a *Activity) Claim(ctx context.Context, days []activity.Day, until time.Time) error {
	err := a.db.write(ctx, func(b *batch) error {
		for i := range days {
			day := &days[i]
			_, err := b.exec(`UPDATE activity SET due = ?1, claimed = ?1 WHERE work = ?2 AND tenant = ?3 AND received = ?4 AND day = ?5
				AND due < ?1 AND claimed = ?6`,
				until.UnixMilli(), string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day), millisOrZero(day.Claimed))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("claim %d days: %w", len(days), err)
	}
	return nil
}

// DueAt implements activity.Register.
func (a *Activity) DueAt(ctx context.Context, day activity.Day) (due, claimed time.Time, err error) {
	var dueMillis sql.NullInt64
	var claimedMillis int64
	err = a.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT due, claimed FROM activity WHERE work = ? AND tenant = ? AND received = ? AND day = ?`,
			[]any{string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day)}, []any{&dueMillis, &claimedMillis})
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return due, claimed, fmt.Errorf("due time of %s of %s: %w", day.Day.Format(time.DateOnly), day.Tenant, err)
	}
	if dueMillis.Valid {
		due = time.UnixMilli(dueMillis.Int64).UTC()
	}
	return due, timeOrZero(claimedMillis), nil
}

// Check implements activity.Register.
func (a *Activity) Check(ctx context.Context, day activity.Day, due time.Time) error {
	var next any
	if !due.IsZero() {
		next = due.UnixMilli()
	}
	err := a.db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE activity SET checks = ?, due = ?, claimed = 0 WHERE work = ? AND tenant = ? AND received = ? AND day = ?
			AND touches = ? AND claimed = ?`,
			day.Checks, next, string(day.Work), string(day.Tenant), dayNumber(day.Received), dayNumber(day.Day), day.Touches, millisOrZero(day.Claimed))
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

// CountRecords implements jobs.Counter.
func (a *Activity) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return a.db.countRecords(ctx, "active days", tenant, `SELECT count(*) FROM activity WHERE tenant = ?`)
}
