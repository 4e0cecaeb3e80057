package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The tables and the tokens of the full-text index contain small numbers instead
// of tenant ids. A tenant gets its number with its first write and never another.

func (db *DB) loadNumbers(ctx context.Context) error {
	return db.snapshot(ctx, func(c *conn) error {
		var id string
		var number int64
		return c.each(ctx, `SELECT id, number FROM tenant_numbers`, nil, []any{&id, &number}, func() (bool, error) {
			db.cacheNumber(audit.TenantID(id), number)
			return true, nil
		})
	})
}

func (db *DB) cacheNumber(tenant audit.TenantID, number int64) {
	db.numbersMu.Lock()
	defer db.numbersMu.Unlock()
	db.numbers[tenant] = number
}

func (db *DB) cachedNumber(tenant audit.TenantID) (number int64, known bool) {
	db.numbersMu.RLock()
	defer db.numbersMu.RUnlock()
	number, known = db.numbers[tenant]
	return number, known
}

const selectNumber = `SELECT number FROM tenant_numbers WHERE id = ?`

// number returns the tenant's number. known is false if the tenant never had a record.
func (db *DB) number(ctx context.Context, tenant audit.TenantID) (number int64, known bool, err error) {
	if number, known = db.cachedNumber(tenant); known || !db.shared {
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
	db.cacheNumber(tenant, number)
	return number, true, nil
}

// ensureNumber returns the tenant's number. It assigns one if the tenant has none.
func (db *DB) ensureNumber(ctx context.Context, tenant audit.TenantID) (int64, error) {
	if number, known := db.cachedNumber(tenant); known {
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
	db.cacheNumber(tenant, number)
	return number, nil
}
