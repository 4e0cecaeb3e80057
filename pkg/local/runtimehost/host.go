// Package runtimehost runs a Lambda function's bootstrap on this machine: each
// execution environment is a process of its own behind a Lambda Runtime API
// (version 2018-06-01), used for one invocation at a time, kept for the next and
// replaced when it dies or runs out of time. Nothing is frozen between
// invocations, and memory is told but not limited.
package runtimehost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// MaxPayload is the largest event and the largest answer that Lambda carries, in bytes.
const MaxPayload = 6 << 20

// DefaultInitTime is how long Lambda gives a function from its start to its
// first request for work.
const DefaultInitTime = 10 * time.Second

// Function says what is run and how. All fields but InitTime and Env are required.
type Function struct {
	Name      string
	Bootstrap string   // path of the program
	Env       []string // "NAME=value", besides what Lambda sets; nothing else is inherited
	MemoryMB  int
	// Timeout bounds one invocation; then its environment is killed.
	Timeout time.Duration
	// InitTime bounds an environment's start; zero: DefaultInitTime.
	InitTime time.Duration
	// Concurrency is how many environments there are at most. Invocations beyond wait.
	Concurrency int
	// Output gets what the function writes to its standard output and error, in
	// whole lines that begin with the function's name. It must take concurrent writes.
	Output io.Writer
	Log    *slog.Logger // of the host itself: starts and deaths of environments
}

// Host keeps the execution environments of one function.
type Host struct {
	function Function
	slots    chan struct{} // taken by every invocation under way
	closing  chan struct{}

	mu     sync.Mutex
	closed bool
	idle   []*environment // the most recently used last
	all    map[*environment]bool
}

// New returns the host of a function. It starts nothing before the first
// invocation. The error says that there is no such program.
func New(f Function) (*Host, error) {
	path, err := filepath.Abs(f.Bootstrap)
	if err != nil {
		return nil, fmt.Errorf("function %s: %w", f.Name, err)
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("function %s: there is no program at %s", f.Name, path)
	}
	f.Bootstrap = path
	if f.InitTime == 0 {
		f.InitTime = DefaultInitTime
	}
	return &Host{
		function: f, slots: make(chan struct{}, f.Concurrency), closing: make(chan struct{}), all: map[*environment]bool{},
	}, nil
}

// Errors of Invoke besides *FunctionError.
var (
	ErrClosed   = errors.New("the function's host is closed")
	ErrTooLarge = errors.New("the event is larger than the 6 MB that Lambda carries")
)

// Invoke runs the function once and returns its answer. ctx bounds only the wait
// for an environment: as with Lambda, an invocation that was begun goes on to its
// end. It was begun at most once. A failure of the function is a *FunctionError.
func (h *Host) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	if len(event) > MaxPayload {
		return nil, h.failed(ErrTooLarge)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, h.failed(ctx.Err())
	case <-h.closing:
		return nil, h.failed(ErrClosed)
	}
	for {
		e, fresh, err := h.take()
		if err != nil {
			return nil, h.failed(err)
		}
		answer, begun, err := e.invoke(event)
		h.giveBack(e)
		if begun || fresh {
			return answer, h.failed(err)
		}
		// It had died since its last invocation: another one is taken.
	}
}

func (h *Host) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("invoke %s: %w", h.function.Name, err)
}

// take returns an idle environment or starts a fresh one. Since the caller holds
// a slot there are never more than Concurrency.
func (h *Host) take() (e *environment, fresh bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false, ErrClosed
	}
	for len(h.idle) > 0 {
		e := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if e.alive() {
			return e, false, nil
		}
		delete(h.all, e)
	}
	if e, err = startEnvironment(&h.function); err != nil {
		return nil, false, err
	}
	h.all[e] = true
	return e, true, nil
}

func (h *Host) giveBack(e *environment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.alive() {
		h.idle = append(h.idle, e)
	} else {
		delete(h.all, e)
	}
}

// PIDs returns the process ids of the environments that are alive.
func (h *Host) PIDs() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var pids []int
	for e := range h.all {
		if e.alive() {
			pids = append(pids, e.process.Process.Pid)
		}
	}
	return pids
}

// Close kills every environment and returns once all have ended. Invocations
// under way fail; later ones fail with ErrClosed. Closing again does nothing.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.closing)
	}
	for e := range h.all {
		e.kill()
	}
	h.idle, h.all = nil, map[*environment]bool{}
}
