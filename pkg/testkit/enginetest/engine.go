package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 2 * time.Minute  // OpenSearch needs 4 to 10 s on an idle machine
	stopTimeout  = 30 * time.Second // for writing down what is in memory
	shownLines   = 40               // of the log, where a test failed
)

// Engines listen below the port range that Linux and macOS use for clients. A client that
// dials a stopped engine's port in that range can connect to itself.
const (
	firstPort = 20000
	lastPort  = 32000
)

// Engine is a child process that listens on loopback. It is safe for concurrent use.
type Engine struct {
	kind   kind
	folder string // its data and log
	ports  []string

	mu      sync.Mutex
	process *process // nil while stopped
}

// process is one run of an engine.
type process struct {
	cmd    *exec.Cmd     // holds the pipe at whose end the child ends
	exited chan struct{} // closed once the process is gone
}

// start fetches an engine and runs it with a new, empty data folder.
func start(k kind) (*Engine, error) {
	if err := fetch(context.Background(), []kind{k}); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ocelot-"+k.name+"-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", k.name, err)
	}
	e := &Engine{kind: k, folder: folder}
	if e.ports, err = freePorts(k.ports); err == nil {
		err = e.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return e, nil
}

// Addr returns the host and port of the engine. They stay the same when it is
// stopped and started.
func (e *Engine) Addr() string { return net.JoinHostPort("127.0.0.1", e.ports[0]) }

// URL returns the address for clients of the engine.
func (e *Engine) URL() string { return e.kind.url(e.Addr()) }

// URLAt returns the address for clients that reach the engine at another host and port, such
// as a proxy's.
func (e *Engine) URLAt(addr string) string { return e.kind.url(addr) }

// Start runs the engine over its earlier data and returns when it serves requests. It does
// nothing if the engine runs.
func (e *Engine) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		return nil
	}
	p, log, err := e.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", e.kind.name, err)
	}
	if err := e.awaitReady(p, log); err != nil {
		return fmt.Errorf("start %s: %w", e.kind.name, errors.Join(err, p.kill()))
	}
	e.process = p
	return nil
}

// Stop ends the engine gracefully. After half a minute it kills the engine and returns an
// error.
func (e *Engine) Stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return nil
	}
	p := e.process
	e.process = nil
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(fmt.Errorf("stop %s: %w", e.kind.name, err), p.kill())
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("stop %s: still runs after %s", e.kind.name, stopTimeout), p.kill())
	}
}

// Kill ends the engine with SIGKILL and returns when the process has ended.
func (e *Engine) Kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return nil
	}
	p := e.process
	e.process = nil
	return p.kill()
}

// remove ends the engine and deletes its data.
func (e *Engine) remove() error {
	return errors.Join(e.Kill(), os.RemoveAll(e.folder))
}

// launch starts the process. The returned offset is where its output begins in the log.
func (e *Engine) launch() (p *process, offset int64, err error) {
	cache, err := cacheFolder()
	if err != nil {
		return nil, 0, err
	}
	log, err := os.OpenFile(e.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	info, err := log.Stat()
	if err != nil {
		return nil, 0, err
	}
	args := append(e.kind.runtime.command(cache, e.kind), e.ports...)
	cmd := exec.Command(args[0], append(args[1:], e.folder)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+AccessKey, "AWS_SECRET_ACCESS_KEY="+SecretKey, "AWS_REGION="+Region)
	cmd.Env = append(cmd.Env, e.kind.environment...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = e.folder, log, log
	if _, err := cmd.StdinPipe(); err != nil { // nothing is sent: when it ends, the engine ends
		return nil, 0, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	p = &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // that it is gone is all that matters
		close(p.exited)
	}()
	return p, info.Size(), nil
}

// awaitReady waits until the engine's output after the offset has the line that says READY.
func (e *Engine) awaitReady(p *process, offset int64) error {
	deadline := time.After(startTimeout)
	for {
		text, err := os.ReadFile(e.logPath())
		if err != nil {
			return err
		}
		if bytes.Contains(append([]byte{'\n'}, text[offset:]...), []byte("\nREADY\n")) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s, its log ends:\n%s", p.cmd.ProcessState, e.logTail())
		case <-deadline:
			return fmt.Errorf("not ready after %s, its log ends:\n%s", startTimeout, e.logTail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.exited
	return err
}

func (e *Engine) logPath() string { return filepath.Join(e.folder, "engine.log") }

func (e *Engine) logTail() []byte {
	text, err := os.ReadFile(e.logPath())
	if err != nil {
		return []byte(err.Error())
	}
	return tail(text)
}

// showLog prints the end of the engine's log if the test failed.
func (e *Engine) showLog(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("the log of %s ends:\n%s", e.kind.name, e.logTail())
	}
}

// tail returns the last lines of a text.
func tail(text []byte) []byte {
	text = bytes.TrimRight(text, "\n")
	for i, lines := len(text)-1, 0; i >= 0; i-- {
		if text[i] != '\n' {
			continue
		}
		if lines++; lines == shownLines {
			return text[i+1:]
		}
	}
	return text
}

// freePorts returns ports of 127.0.0.1 on which nothing listens.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range 1000 {
		port := strconv.Itoa(firstPort + rand.N(lastPort-firstPort))
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports between %d and %d", n, firstPort, lastPort)
}
