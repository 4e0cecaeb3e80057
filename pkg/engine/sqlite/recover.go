package sqlite

import (
	"context"
	"fmt"
)

// maxUncounted is how many deliveries may end with their process before they count.
const maxUncounted = 20

// Recover makes every message that was in flight when the last process ended
// visible at once, and does not count that delivery: the handler did not fail,
// its process did. A message that was delivered maxUncounted times is counted
// all the same: it may be what ends the process. Messages that were never
// delivered stay as they are: they were sent with a delay. It is for a process
// that has just opened the file and receives nothing yet.
func (db *DB) Recover(ctx context.Context) error {
	err := db.write(ctx, func(b *batch) error {
		// Every delivery and every recovery raises the lease by one.
		_, err := b.exec(`UPDATE messages SET visible = ?1, lease = lease + 1,
			receives = CASE WHEN lease < 2 * ?2 THEN max(receives - 1, 0) ELSE receives END
			WHERE visible > ?1 AND lease > 0`,
			db.now().UnixMilli(), maxUncounted)
		return err
	})
	if err != nil {
		return fmt.Errorf("recover messages in flight: %w", err)
	}
	return nil
}
