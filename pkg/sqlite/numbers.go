package sqlite

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Tenants have small numbers in the tables and in the tokens of the full-text
// index. A number is given with the tenant's first write and kept for ever.

func (db *DB) loadNumbers(ctx context.Context) error {
	return db.snapshot(ctx, func(c *conn) error {
		var id string
		var number int64
		return c.each(ctx, `SELECT id, number FROM tenant_numbers`, nil, []any{&id, &number}, func() (bool, error) {
			db.numbers[audit.TenantID(id)] = number
			return true, nil
		})
	})
}

// number returns the tenant's number; known is false for a tenant that never had a record.
func (db *DB) number(tenant audit.TenantID) (number int64, known bool) {
	db.numbersMu.RLock()
	defer db.numbersMu.RUnlock()
	number, known = db.numbers[tenant]
	return number, known
}

// ensureNumber gives the tenant a number where it has none.
func (db *DB) ensureNumber(ctx context.Context, tenant audit.TenantID) (int64, error) {
	if number, known := db.number(tenant); known {
		return number, nil
	}
	var number int64
	err := db.write(ctx, func(b *batch) error {
		if _, err := b.exec(`INSERT INTO tenant_numbers (id) VALUES (?) ON CONFLICT DO NOTHING`, string(tenant)); err != nil {
			return err
		}
		var err error
		number, err = b.int64(context.Background(), `SELECT number FROM tenant_numbers WHERE id = ?`, string(tenant))
		return err
	})
	if err != nil {
		return 0, err
	}
	db.numbersMu.Lock()
	defer db.numbersMu.Unlock()
	db.numbers[tenant] = number
	return number, nil
}
