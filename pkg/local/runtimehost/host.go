// Package runtimehost runs a Lambda function's bootstrap on this machine. Each execution
// environment is a process behind a Lambda Runtime API (version 2018-06-01). It handles one
// invocation at a time and is reused. It is replaced when it dies or exceeds its time. Unlike
// Lambda, the host does not freeze processes between invocations, and reports the memory size
// without limiting it.
package runtimehost

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// MaxPayload is the maximum size of an event and of an answer, in bytes. It is Lambda's limit.
const MaxPayload = 6 << 20

// DefaultInitTime is how long Lambda allows from the start of a function to its first request
// for an event.
const DefaultInitTime = 10 * time.Second

// Function configures a function. All fields except InitTime and Env are required.
type Function struct {
	Name      string
	Bootstrap string   // path of the program
	Env       []string // "NAME=value", added to what Lambda sets; nothing else is inherited
	MemoryMB  int
	// Timeout bounds one invocation. After it the environment is killed.
	Timeout time.Duration
	// InitTime bounds an environment's start. Zero means DefaultInitTime.
	InitTime time.Duration
	// Concurrency is the maximum number of environments. Further invocations wait.
	Concurrency int
	// Output gets the function's standard output and error as whole lines that begin with the
	// function's name. It must be safe for concurrent use.
	Output io.Writer
	Log    *slog.Logger // of the host itself: starts and deaths of environments
}

// Host manages the execution environments of one function.
type Host struct {
	function Function
	slots    chan struct{} // taken by every running invocation
	closing  chan struct{}

	mu     sync.Mutex
	closed bool
	idle   []*environment // the most recently used last
	all    map[*environment]bool
}

// New returns the host of a function. It starts no process before the first invocation. It
// returns an error if the program does not exist.
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

// Errors of Invoke, in addition to *FunctionError.
var (
	ErrClosed   = errors.New("the function's host is closed")
	ErrTooLarge = errors.New("the event is larger than the 6 MB that Lambda carries")
)

// Invoke runs the function at most once and returns its answer. ctx bounds only the wait for
// an environment: as with Lambda, an invocation that has started runs to its end. A failure of
// the function is a *FunctionError. The invocation belongs to the trace of ctx, or to a new one.
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
	t, traced := trace.From(ctx)
	if !traced {
		t = trace.New(time.Now(), func(b []byte) { _, _ = rand.Read(b) }) // never fails, see crypto/rand
	}
	for {
		e, fresh, err := h.acquire()
		if err != nil {
			return nil, h.failed(err)
		}
		answer, begun, err := e.invoke(t, event)
		h.release(e)
		if begun || fresh {
			return answer, h.failed(err)
		}
		// The process had died since its last invocation: use another one.
	}
}

func (h *Host) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("invoke %s: %w", h.function.Name, err)
}

// acquire returns an idle environment or starts a new one. The caller holds a slot, so there
// are at most Concurrency environments.
func (h *Host) acquire() (e *environment, fresh bool, err error) {
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

// release makes the environment available again, if its process still runs.
func (h *Host) release(e *environment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.alive() {
		h.idle = append(h.idle, e)
	} else {
		delete(h.all, e)
	}
}

// PIDs returns the process ids of the live environments.
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

// Close kills every environment and returns when all have ended. Running invocations fail, and
// later ones fail with ErrClosed. Closing again does nothing.
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
