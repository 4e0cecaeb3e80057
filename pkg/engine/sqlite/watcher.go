package sqlite

import (
	"context"
	"sync"
	"time"
)

// watchInterval is how often a shared file is looked at. One look takes some
// ten microseconds.
const watchInterval = 25 * time.Millisecond

// watcher wakes those who wait for messages of a shared file when somebody has
// written to it, since a signal does not reach other processes. It begins when
// somebody waits: most processes that share a file never receive.
type watcher struct {
	db   *DB
	once sync.Once
	stop chan struct{}
	done chan struct{}
	err  error // of its end; read after done
}

func newWatcher(db *DB) *watcher {
	return &watcher{db: db, stop: make(chan struct{}), done: make(chan struct{})}
}

func (w *watcher) start() { w.once.Do(func() { go w.run() }) }

// end stops it, and keeps it from being started later.
func (w *watcher) end() error {
	close(w.stop)
	w.once.Do(func() { close(w.done) })
	<-w.done
	return w.err
}

func (w *watcher) run() {
	defer close(w.done)
	c := &conn{pool: w.db.read}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	seen := int64(-1)
	for {
		select {
		case <-w.stop:
			w.err = c.close()
			return
		case <-tick.C:
		}
		// The number changes with every commit of another connection. Where it
		// cannot be read, those who wait find out for themselves.
		version, err := c.int64(context.Background(), `PRAGMA data_version`)
		if err != nil || version != seen {
			w.db.raiseAll()
		}
		seen = version
	}
}

func (db *DB) raiseAll() {
	db.signalsMu.Lock()
	defer db.signalsMu.Unlock()
	for _, s := range db.signals {
		s.raise()
	}
}
