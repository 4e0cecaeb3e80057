package sqlite

import "sync"

// signal returns the signal of the queue. All Queues of one name share it.
func (db *DB) signal(name string) *signal {
	db.signalsMu.Lock()
	defer db.signalsMu.Unlock()
	s := db.signals[name]
	if s == nil {
		s = newSignal()
		db.signals[name] = s
	}
	return s
}

// signal wakes all who wait for something of one queue.
type signal struct {
	mu     sync.Mutex
	raised chan struct{}
}

func newSignal() *signal { return &signal{raised: make(chan struct{})} }

// next returns a channel that is closed at the next raise.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raised
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.raised)
	s.raised = make(chan struct{})
}
