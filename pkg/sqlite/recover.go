package sqlite

import (
	"context"
	"fmt"
)

// Recover makes every message that was in flight when the last process ended
// visible at once, and does not count that delivery: the handler did not fail,
// its process did. It is for a process that has just opened the file and
// receives nothing yet.
func (db *DB) Recover(ctx context.Context) error {
	err := db.write(ctx, func(b *batch) error {
		_, err := b.exec(`UPDATE messages SET visible = ?1, lease = lease + 1, receives = max(receives - 1, 0) WHERE visible > ?1`,
			db.now().UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("recover messages in flight: %w", err)
	}
	return nil
}
