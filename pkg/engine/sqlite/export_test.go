package sqlite

import (
	"context"
	"fmt"
)

// LimitPages makes the file full once it has this many pages.
func (db *DB) LimitPages(ctx context.Context, pages int) error {
	return db.write(ctx, func(b *batch) error {
		_, err := b.link.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		return err
	})
}
