package sqlite

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// A purge overwrites what it removes with zeros (secure_delete). The writer erases the
// write-ahead log, and mergeTerms rewrites the full-text table, which only marks rows as
// removed. Copies that SQLite left in the free part of a page when it moved a row can remain
// on pages that tenants share.

// maxPurge is the maximum number of records that one Purge removes, so that other
// writes do not wait for long.
const maxPurge = 1000

// purge removes records and returns how many. remove gets limit, or maxPurge if that is less.
func (db *DB) purge(ctx context.Context, limit int, remove func(b *batch, limit int) (int, error)) (n int, err error) {
	err = db.write(ctx, func(b *batch) error {
		var err error
		if n, err = remove(b, min(limit, maxPurge)); n > 0 {
			b.writer.eraseLogSoon()
		}
		return err
	})
	return n, err
}

// purgeTenant is purge for records that have the number of their tenant.
func (db *DB) purgeTenant(ctx context.Context, tenant audit.TenantID, limit int, remove func(b *batch, tenant int64, limit int) (int, error)) (int, error) {
	number, known, err := db.number(ctx, tenant)
	if err != nil || !known {
		return 0, err
	}
	return db.purge(ctx, limit, func(b *batch, limit int) (int, error) { return remove(b, number, limit) })
}

// purgeRows returns what runs a constant DELETE with the parameters tenant number and limit.
func purgeRows(query string) func(b *batch, tenant int64, limit int) (int, error) {
	return func(b *batch, tenant int64, limit int) (int, error) {
		changed, err := b.exec(query, tenant, limit)
		return int(changed), err
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

// mergePages is how many pages of the full-text table one operation rewrites: about 10 ms of work.
const mergePages = 100

// mergeTerms merges the full-text table until it has no words of removed rows, if rows
// were removed since the last merge. Each step is an operation of its own, so that other
// writes continue. A canceled merge continues at the next call.
func (db *DB) mergeTerms(ctx context.Context) error {
	// A negative number makes FTS5 group all segments that exist now, to merge them into one.
	// Only the first step does so. Otherwise each step would begin again with the segments that
	// other writes have added since, and the merge would never end while they pile up.
	pages := -mergePages
	for more := true; more; pages = mergePages {
		err := db.write(ctx, func(b *batch) (err error) {
			more, err = b.mergeTermsOnce(pages)
			return err
		})
		if err != nil {
			return fmt.Errorf("merge the full-text table: %w", err)
		}
	}
	return nil
}

func (b *batch) mergeTermsOnce(pages int) (more bool, err error) {
	pending, err := b.int64(context.Background(), `SELECT count(*) FROM pending_merge`)
	if err != nil || pending == 0 {
		return false, err
	}
	if err := b.flush(); err != nil {
		return false, err
	}
	before, err := b.int64(context.Background(), `SELECT total_changes()`)
	if err != nil {
		return false, err
	}
	if _, err := b.exec(`INSERT INTO terms (terms, rank) VALUES ('merge', ?)`, pages); err != nil {
		return false, err
	}
	after, err := b.int64(context.Background(), `SELECT total_changes()`)
	if err != nil {
		return false, err
	}
	b.writer.eraseLogSoon()
	// The documentation of FTS5: a merge that changes fewer than two rows had nothing to do.
	if after-before >= 2 {
		return true, nil
	}
	return false, b.run(`DELETE FROM pending_merge`)
}
