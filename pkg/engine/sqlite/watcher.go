package sqlite

import (
	"context"
	"sync"
	"time"
)

// watchInterval is the time between two checks of a shared file. A check takes
// about ten microseconds.
const watchInterval = 25 * time.Millisecond

// watcher wakes the receivers of a shared file after a write of another process,
// which signals do not reach. It starts with the first receiver, because most
// processes that share a file never receive.
type watcher struct {
	db   *DB
	once sync.Once
	stop chan struct{}
	done chan struct{}
	err  error // of closing its connection; read after done
}

func newWatcher(db *DB) *watcher {
	return &watcher{db: db, stop: make(chan struct{}), done: make(chan struct{})}
}

func (w *watcher) start() { w.once.Do(func() { go w.run() }) }

// end stops the watcher. It cannot be started again.
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
		// data_version changes with each commit of another connection. If it cannot
		// be read, the receivers are woken to check for messages themselves.
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
