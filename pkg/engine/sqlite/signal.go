package sqlite

import "sync"

// signal returns the signal of the queue. All Queues of one name share it.
func (db *DB) signal(name string) *signal {
	db.signalsMu.Lock()
	defer db.signalsMu.Unlock()
	s := db.signals[name]
	if s == nil {
		s = &signal{raised: make(chan struct{})}
		db.signals[name] = s
	}
	return s
}

// signal wakes all receivers that wait for messages of one queue.
type signal struct {
	mu     sync.Mutex
	raised chan struct{}
}

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
