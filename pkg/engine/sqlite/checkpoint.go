package sqlite

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// checkpointer copies the write-ahead log into the file, over a connection of its own. So no write
// waits for it, as a write would that finds the log long. The writer copies what comes meanwhile.
type checkpointer struct {
	conn   conn
	wanted chan struct{}
	ended  chan struct{}

	pages   int          // written to the log since the last checkpoint was asked for; only the writer uses it
	copied  atomic.Bool  // the last one copied all that the log had when it began
	left    atomic.Int64 // frames of the log that the last checkpoint did not copy
	running atomic.Bool

	mu       sync.Mutex
	failed   error     // of the last checkpoint
	loggedAt time.Time // when such an error was logged
}

// checkpointLogEvery is the least time between two lines in the log about checkpoints that fail.
const checkpointLogEvery = time.Minute

// finishPages is how many pages the writer copies itself at most, to end a checkpoint.
const finishPages = checkpointPages / 8

func newCheckpointer(pool *sql.DB) *checkpointer {
	c := &checkpointer{conn: conn{pool: pool}, wanted: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.loop()
	return c
}

// committed must be called after each group, with the pages that it wrote.
func (c *checkpointer) committed(pages int) {
	if c.pages += pages; c.pages >= checkpointPages {
		c.ask()
	}
}

// ask has a checkpoint begin.
func (c *checkpointer) ask() {
	select {
	case c.wanted <- struct{}{}:
		c.pages = 0
	default: // one is asked for already
	}
}

func (c *checkpointer) loop() {
	defer close(c.ended)
	for range c.wanted {
		c.running.Store(true)
		c.copied.Store(c.copy(&c.conn)) // after a failure the next one tries again
		c.running.Store(false)
	}
}

// copy copies the log into the file, as far as no reader needs the file as it is. It reports whether that was all.
func (c *checkpointer) copy(over *conn) (whole bool) {
	var busy, frames, copied int64
	err := over.row(context.Background(), `PRAGMA wal_checkpoint(PASSIVE)`, nil, []any{&busy, &frames, &copied})
	c.note(err)
	if err != nil || busy != 0 {
		return false
	}
	c.left.Store(frames - copied)
	return frames == copied
}

// finish copies the few pages that came while the checkpointer copied the log. The log begins again only when all
// of it is copied. While groups follow each other, the checkpointer alone does not get there, and the log would become
// so long that SQLite copies many pages within a commit. It must be called after each group.
func (c *checkpointer) finish(writer *conn) {
	switch {
	case !c.copied.Swap(false):
	case c.pages > finishPages:
		c.ask() // it copies fewer now
	default:
		c.copy(writer)
	}
}

// behind returns how many bytes of the log the last checkpoint did not copy, because of a reader.
func (c *checkpointer) behind() int64 { return c.left.Load() * pageBytes }

// note notes the result of a checkpoint. If they fail, the log grows, though writes succeed.
func (c *checkpointer) note(err error) {
	if err != nil && isBusy(err) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	if now := time.Now(); err != nil && now.Sub(c.loggedAt) >= checkpointLogEvery {
		c.loggedAt = now
		slog.Error("the write-ahead log cannot be copied into the file, so it grows", "error", err)
	}
}

// failure returns the error of the last checkpoint.
func (c *checkpointer) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *checkpointer) close() error {
	close(c.wanted)
	<-c.ended
	return c.conn.close()
}
