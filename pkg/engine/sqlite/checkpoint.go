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
	wanted chan int // the groups since the last checkpoint
	ended  chan struct{}

	groups  int          // since the last checkpoint; only the writer uses it
	after   atomic.Int64 // groups after which the log has checkpointPages, about
	frames  int64        // of the log at the last checkpoint
	running atomic.Bool
}

const (
	firstGroups = 64 // before the first checkpoint
	mostGroups  = 4096
)

func newCheckpointer(pool *sql.DB) *checkpointer {
	c := &checkpointer{conn: conn{pool: pool}, wanted: make(chan int, 1), ended: make(chan struct{})}
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
	select {
	case c.wanted <- c.groups:
		c.groups = 0
	default: // one is asked for already
	}
}

func (c *checkpointer) loop() {
	defer close(c.ended)
	for groups := range c.wanted {
		c.running.Store(true)
		var busy, frames int64
		// After a failure the next one tries again. If all fail, the writer limits the log.
		err := c.conn.row(context.Background(), `PRAGMA wal_checkpoint(PASSIVE)`, nil, []any{&busy, &frames, new(int64)})
		c.running.Store(false)
		if err == nil && busy == 0 {
			c.learn(int64(groups), frames)
		}
	}
}

// learn learns how long the log becomes by a number of groups.
func (c *checkpointer) learn(groups, frames int64) {
	added := frames - c.frames // negative if the log began again
	c.frames = frames
	if added > 0 && groups > 0 {
		c.after.Store(min(max(groups*checkpointPages/added, 1), mostGroups))
	}
}

func (c *checkpointer) close() error {
	close(c.wanted)
	<-c.ended
	return c.conn.close()
}
