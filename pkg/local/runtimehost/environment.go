package runtimehost

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	region  = "local"
	account = "000000000000"
	// outputTimeout is how long to wait for the rest of a dead process's output. A process
	// that it started can keep the output open.
	outputTimeout = time.Second
)

// environment is one process and the Runtime API from which it gets its events.
type environment struct {
	function *Function
	process  *exec.Cmd
	server   *http.Server
	next     chan *invocation // passes an event to the process once it asks for one
	exited   chan struct{}    // closed once the process has ended and ended is set
	ended    error

	mu        sync.Mutex
	current   *invocation    // passed to the process and not answered
	initError *FunctionError // reported before the first request for an event
}

// invocation is one event that a function handles.
type invocation struct {
	id    string
	trace trace.Trace
	event []byte
	done  chan outcome // has room for one
}

type outcome struct {
	answer []byte
	err    *FunctionError // nil: it succeeded
}

// startEnvironment starts the function's program. It does not wait for the program's first
// request for an event.
func startEnvironment(f *Function) (*environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the function: %w", err)
	}
	e := &environment{function: f, next: make(chan *invocation), exited: make(chan struct{})}
	e.server = &http.Server{Handler: e.api(), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(f.Log.Handler(), slog.LevelWarn)}
	output := &lines{prefix: f.Name + " ", to: f.Output}
	e.process = &exec.Cmd{
		Path: f.Bootstrap, Args: []string{f.Bootstrap}, Dir: filepath.Dir(f.Bootstrap), Env: environ(f, listener.Addr().String()),
		Stdout: output, Stderr: output, WaitDelay: outputTimeout, SysProcAttr: childAttributes(),
	}
	started := make(chan error)
	go e.run(output, started)
	if err := <-started; err != nil {
		return nil, errors.Join(failuref(TypeStart, "%v", err), listener.Close())
	}
	go func() { _ = e.server.Serve(listener) }() // it ends when the process has
	f.Log.Info("environment started", "function", f.Name, "pid", e.process.Process.Pid)
	return e, nil
}

// run starts the process and waits for its end. On Linux the process gets its parent-death
// signal when the thread that started it ends, so run keeps this thread.
func (e *environment) run(output *lines, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := e.process.Start()
	started <- err
	if err != nil {
		return
	}
	e.ended = e.process.Wait()
	output.flush()
	close(e.exited)
	_ = e.server.Close() // the process has ended, so no request is lost
	e.function.Log.Info("environment ended", "function", e.function.Name, "pid", e.process.Process.Pid, "state", e.process.ProcessState.String())
}

// environ returns the variables of Lambda's environment that have a meaning here.
func environ(f *Function, api string) []string {
	instance := make([]byte, 16)
	_, _ = rand.Read(instance) // never fails, see crypto/rand
	return append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"AWS_LAMBDA_FUNCTION_NAME=" + f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=" + time.Now().UTC().Format("2006/01/02") + "/[$LATEST]" + hex.EncodeToString(instance),
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023",
		"AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region,
		"LAMBDA_TASK_ROOT=" + filepath.Dir(f.Bootstrap),
		"_HANDLER=bootstrap",
		"TZ=:UTC",
	}, f.Env...) // the last of a name counts
}

func (e *environment) alive() bool {
	select {
	case <-e.exited:
		return false
	default:
		return true
	}
}

// kill ends the process and returns once it has ended.
func (e *environment) kill() {
	_ = e.process.Process.Kill() // an error means that it has already ended
	<-e.exited
}

// invoke sends the event to the process and waits for the answer. begun reports whether the
// process may have received the event.
func (e *environment) invoke(t trace.Trace, event []byte) (answer []byte, begun bool, err error) {
	inv := &invocation{id: uuid.NewString(), trace: t, event: event, done: make(chan outcome, 1)}
	initTimer := time.NewTimer(e.function.InitTime)
	defer initTimer.Stop()
	select {
	case e.next <- inv:
	case <-e.exited:
		return nil, false, e.death()
	case <-initTimer.C:
		e.kill()
		return nil, false, failuref(TypeTimeout, "the function did not ask for work within %s", e.function.InitTime)
	}
	answer, err = e.await(inv)
	return answer, true, err
}

func (e *environment) await(inv *invocation) ([]byte, error) {
	deadline := time.NewTimer(e.function.Timeout)
	defer deadline.Stop()
	select {
	case o := <-inv.done:
		return o.result()
	case <-e.exited:
		select {
		case o := <-inv.done: // its last act
			return o.result()
		default:
			return nil, e.death()
		}
	case <-deadline.C:
		e.kill()
		return nil, failuref(TypeTimeout, "Task timed out after %.2f seconds", e.function.Timeout.Seconds())
	}
}

func (o outcome) result() ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	return o.answer, nil
}

// death returns the reason for which the process ended.
func (e *environment) death() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.initError != nil {
		return e.initError
	}
	return failuref(TypeExit, "the function's process ended without an answer: %s", e.process.ProcessState)
}
