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
)

const (
	region  = "local"
	account = "000000000000"
	// outputPatience is how long a dead process's output is waited for, which a
	// process that it started may hold open.
	outputPatience = time.Second
)

// environment is one process with the Runtime API that it asks for work.
type environment struct {
	function *Function
	process  *exec.Cmd
	server   *http.Server
	next     chan *invocation // an event is handed over to whoever asks for work
	exited   chan struct{}    // closed once the process has ended and ended is set
	ended    error

	mu        sync.Mutex
	current   *invocation    // handed over and not answered
	initError *FunctionError // reported before the first request for work
}

// invocation is one event on its way through a function.
type invocation struct {
	id    string
	event []byte
	done  chan outcome // has room for one
}

type outcome struct {
	answer []byte
	err    *FunctionError // nil: it succeeded
}

// startEnvironment starts the function's program. It does not wait until that
// asks for work.
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
		Stdout: output, Stderr: output, WaitDelay: outputPatience, SysProcAttr: childAttributes(),
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

// run starts the process and waits for its end. On Linux a process is told of
// its parent's death by the death of the thread that started it, so that thread
// is kept until then.
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
	_ = e.server.Close() // nobody is left who would ask
	e.function.Log.Info("environment ended", "function", e.function.Name, "pid", e.process.Process.Pid, "state", e.process.ProcessState.String())
}

// environ is what Lambda's environment has, as far as it means anything here.
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
	_ = e.process.Process.Kill() // an error says that it has ended already
	<-e.exited
}

// invoke hands the event to the process and waits for its answer. begun says
// whether the process may have got the event.
func (e *environment) invoke(event []byte) (answer []byte, begun bool, err error) {
	inv := &invocation{id: uuid.NewString(), event: event, done: make(chan outcome, 1)}
	patience := time.NewTimer(e.function.InitTime)
	defer patience.Stop()
	select {
	case e.next <- inv:
	case <-e.exited:
		return nil, false, e.death()
	case <-patience.C:
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

// death says why the process has ended.
func (e *environment) death() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.initError != nil {
		return e.initError
	}
	return failuref(TypeExit, "the function's process ended without an answer: %s", e.process.ProcessState)
}
