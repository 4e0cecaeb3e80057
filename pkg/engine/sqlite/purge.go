package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A purge overwrites what it removes with zeros (secure_delete), but copies of removed
// records remain in three places. The writer erases those in the write-ahead log.
// FreeSpace erases those in the full-text index and in the free parts of pages.

// maxPurge is the maximum number of records that one Purge removes, so that other
// writes do not wait for long.
const maxPurge = 1000

// purge removes records and returns how many. remove gets limit, or maxPurge if that is less.
// FreeSpace erases what remains of them.
func (db *DB) purge(ctx context.Context, limit int, remove func(b *batch, limit int) (int, error)) (n int, err error) {
	err = db.write(ctx, func(b *batch) error {
		var err error
		if n, err = remove(b, min(limit, maxPurge)); err != nil || n == 0 {
			return err
		}
		return b.scrubSoon()
	})
	return n, err
}

// countRecords counts the records of a tenant that its Purge would remove. The first parameter of the query is the
// tenant's id.
func (db *DB) countRecords(ctx context.Context, what string, tenant audit.TenantID, query string, args ...any) (int64, error) {
	return db.countRows(ctx, what, tenant, query, append([]any{string(tenant)}, args...)...)
}

// countNumbered is countRecords for records that have the number of their tenant.
func (db *DB) countNumbered(ctx context.Context, what string, tenant audit.TenantID, query string) (int64, error) {
	number, known, err := db.number(ctx, tenant)
	if err != nil || !known {
		return 0, err
	}
	return db.countRows(ctx, what, tenant, query, number)
}

func (db *DB) countRows(ctx context.Context, what string, tenant audit.TenantID, query string, args ...any) (n int64, err error) {
	err = db.long.snapshot(ctx, tenant, func(c *conn) (err error) {
		n, err = c.int64(ctx, query, args...)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count the %s of %s: %w", what, tenant, err)
	}
	return n, nil
}

// scrubSoon must follow every removal. FreeSpace then erases what remains.
func (b *batch) scrubSoon() error {
	b.writer.eraseLogSoon()
	b.writer.removedAt.Store(time.Now().UnixMilli())
	return b.run(`INSERT INTO pending_scrub (number, round, page) VALUES (1, 1, 1) ON CONFLICT DO UPDATE SET round = round + 1, page = 1`)
}

// purgeTenant is purge for records that have the number of their tenant.
func (db *DB) purgeTenant(ctx context.Context, tenant audit.TenantID, limit int, remove func(b *batch, tenant int64, limit int) (int, error)) (int, error) {
	number, known, err := db.number(ctx, tenant)
	if err != nil || !known {
		return 0, err
	}
	return db.purge(ctx, limit, func(b *batch, limit int) (int, error) { return remove(b, number, limit) })
}

// purgeRows returns what runs constant DELETEs one after the other. Each has the parameters
// tenant number and limit, which is what the ones before have left of it.
func purgeRows(queries ...string) func(b *batch, tenant int64, limit int) (int, error) {
	return func(b *batch, tenant int64, limit int) (n int, err error) {
		for _, query := range queries {
			changed, err := b.exec(query, tenant, max(limit-n, 0))
			if err != nil {
				return 0, err
			}
			n += int(changed)
		}
		return n, nil
	}
}

// purgeByID removes up to limit rows of the tenant from a table with the primary key id.
func (db *DB) purgeByID(ctx context.Context, table string, tenant audit.TenantID, limit int) (int, error) {
	n, err := db.purge(ctx, limit, func(b *batch, limit int) (int, error) {
		changed, err := b.exec(fmt.Sprintf(`DELETE FROM %[1]s WHERE id IN (SELECT id FROM %[1]s WHERE tenant = ? LIMIT ?)`, table),
			string(tenant), limit)
		return int(changed), err
	})
	if err != nil {
		return 0, fmt.Errorf("purge %s of %s: %w", table, tenant, err)
	}
	return n, nil
}
