package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// maxUncounted is the number of deliveries that Recover does not count, for one message.
const maxUncounted = 20

// Recover makes the messages visible that were in flight when the last process
// ended. It does not count these deliveries, because the process failed, not the
// handler. After maxUncounted deliveries of a message it counts them, because that
// message may be what ends the process.
//
// A job that a worker of that process ran stands still, so that jobs.Service.Plan resumes it now
// and does not wait for a save of the worker. Delayed messages without a delivery stay delayed.
//
// Call Recover after opening the file for this process alone and before receiving.
func (db *DB) Recover(ctx context.Context) error {
	err := db.write(ctx, func(b *batch) error {
		// Each delivery and each recovery raises the lease by one.
		_, err := b.exec(`UPDATE messages SET visible = 1, lease = lease + 1,
			receives = CASE WHEN lease < 2 * ?2 THEN max(receives - 1, 0) ELSE receives END
			WHERE visible > ?1 AND lease > 0`,
			db.now().UnixMilli(), maxUncounted)
		if err != nil {
			return err
		}
		if err := b.releaseAll(); err != nil {
			return err
		}
		if err := b.noteTurns(); err != nil {
			return err
		}
		now := db.now().UTC().Truncate(time.Millisecond)
		_, err = b.exec(`UPDATE jobs SET resume = ?1, doc = json_set(doc, '$.resume_at', ?2) WHERE resume > ?1 AND state = ?3`,
			now.UnixMilli(), now.Format(time.RFC3339Nano), string(jobs.StateRunning))
		return err
	})
	if err != nil {
		return fmt.Errorf("recover messages in flight and jobs: %w", err)
	}
	return nil
}
