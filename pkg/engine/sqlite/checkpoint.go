package sqlite

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// checkpointer copies the write-ahead log into the file, over a connection of its own. So no write
// waits for it, as a write would that finds the log long.
type checkpointer struct {
	conn   conn
	wanted chan struct{}
	ended  chan struct{}

	groups int          // since the last checkpoint; only the writer uses it
	after  atomic.Int64 // groups after which the log has checkpointPages, about
	frames int64        // of the log at the last checkpoint
}

const (
	firstGroups = 64 // before the first checkpoint
	mostGroups  = 4096
)

func newCheckpointer(pool *sql.DB) *checkpointer {
	c := &checkpointer{conn: conn{pool: pool}, wanted: make(chan struct{}, 1), ended: make(chan struct{})}
	c.after.Store(firstGroups)
	go c.loop()
	return c
}

// committed must be called after each group.
func (c *checkpointer) committed() {
	if c.groups++; int64(c.groups) >= c.after.Load() {
		c.ask()
	}
}

// ask has a checkpoint begin.
func (c *checkpointer) ask() {
	c.groups = 0
	select {
	case c.wanted <- struct{}{}:
	default: // one is asked for already
	}
}

func (c *checkpointer) loop() {
	defer close(c.ended)
	for range c.wanted {
		before := c.after.Load()
		var frames int64
		// After a failure the next one tries again. If all fail, the writer limits the log.
		err := c.conn.row(context.Background(), `PRAGMA wal_checkpoint(PASSIVE)`, nil, []any{new(int64), &frames, new(int64)})
		if err != nil {
			continue
		}
		added := frames - c.frames
		if added <= 0 { // the log began again
			added = max(frames, 1)
		}
		c.frames = frames
		c.after.Store(min(max(before*checkpointPages/added, 1), mostGroups))
	}
}

func (c *checkpointer) close() error {
	close(c.wanted)
	<-c.ended
	return c.conn.close()
}
