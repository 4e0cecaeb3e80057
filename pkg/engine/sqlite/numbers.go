package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Tenants have small numbers in the tables and in the tokens of the full-text
// index. A number is given with the tenant's first write and kept for ever.

func (db *DB) loadNumbers(ctx context.Context) error {
	return db.snapshot(ctx, func(c *conn) error {
		var id string
		var number int64
		return c.each(ctx, `SELECT id, number FROM tenant_numbers`, nil, []any{&id, &number}, func() (bool, error) {
			db.keepNumber(audit.TenantID(id), number)
			return true, nil
		})
	})
}

func (db *DB) keepNumber(tenant audit.TenantID, number int64) {
	db.numbersMu.Lock()
	defer db.numbersMu.Unlock()
	db.numbers[tenant] = number
}

func (db *DB) keptNumber(tenant audit.TenantID) (number int64, known bool) {
	db.numbersMu.RLock()
	defer db.numbersMu.RUnlock()
	number, known = db.numbers[tenant]
	return number, known
}

const selectNumber = `SELECT number FROM tenant_numbers WHERE id = ?`

// number returns the tenant's number; known is false for a tenant that never had a record.
func (db *DB) number(ctx context.Context, tenant audit.TenantID) (number int64, known bool, err error) {
	if number, known = db.keptNumber(tenant); known || !db.shared {
		return number, known, nil
	}
	err = db.snapshot(ctx, func(c *conn) error {
		number, err = c.int64(ctx, selectNumber, string(tenant))
		return err
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	db.keepNumber(tenant, number)
	return number, true, nil
}

// ensureNumber gives the tenant a number where it has none.
func (db *DB) ensureNumber(ctx context.Context, tenant audit.TenantID) (int64, error) {
	if number, known := db.keptNumber(tenant); known {
		return number, nil
	}
	var number int64
	err := db.write(ctx, func(b *batch) error {
		if _, err := b.exec(`INSERT INTO tenant_numbers (id) VALUES (?) ON CONFLICT DO NOTHING`, string(tenant)); err != nil {
			return err
		}
		var err error
		number, err = b.int64(context.Background(), selectNumber, string(tenant))
		return err
	})
	if err != nil {
		return 0, err
	}
	db.keepNumber(tenant, number)
	return number, nil
}
