package enginetest_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// lineServer answers each line with "did " and the line, and counts what it did.
func lineServer(t *testing.T) (addr string, did *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	did = new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					did.Add(1)
					if _, err := fmt.Fprintln(conn, "did", lines.Text()); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), did
}

// ask sends a line on a connection of its own and returns the answer.
func ask(addr, line string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return askOn(conn, line)
}

func askOn(conn net.Conn, line string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func TestTCPProxyInjects(t *testing.T) {
	const delay = 50 * time.Millisecond
	for name, test := range map[string]struct {
		fault    enginetest.TCPFault
		answered bool
		did      int64
	}{
		"nothing":     {enginetest.TCPFault{}, true, 1},
		"delay":       {enginetest.TCPFault{Delay: delay}, true, 1},
		"drop":        {enginetest.TCPFault{DropRequest: true}, false, 0},
		"lose answer": {enginetest.TCPFault{LoseAnswer: true}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			addr, did := lineServer(t)
			proxy := enginetest.NewTCPProxy(t, addr)
			proxy.Inject(func(request []byte) enginetest.TCPFault {
				if string(request) == "bad\n" {
					return test.fault
				}
				return enginetest.TCPFault{}
			})
			begun := time.Now()
			answer, err := ask(proxy.Addr(), "bad")
			if (err == nil) != test.answered {
				t.Errorf("got error %v, want answered %v", err, test.answered)
			}
			if test.answered && answer != "did bad" {
				t.Errorf("got answer %q, want %q", answer, "did bad")
			}
			if did.Load() != test.did {
				t.Errorf("did %d, want %d", did.Load(), test.did)
			}
			if time.Since(begun) < test.fault.Delay {
				t.Errorf("took %v, want at least %v", time.Since(begun), test.fault.Delay)
			}
			if answer, err := ask(proxy.Addr(), "good"); err != nil {
				t.Error(err)
			} else if answer != "did good" {
				t.Errorf("a forwarded request: got %q, want %q", answer, "did good")
			}
			proxy.Inject(nil)
			if answer, err := ask(proxy.Addr(), "bad"); err != nil {
				t.Error(err)
			} else if answer != "did bad" {
				t.Errorf("after the fault: got %q, want %q", answer, "did bad")
			}
		})
	}
}

func TestTCPProxyCutsAndRestores(t *testing.T) {
	addr, _ := lineServer(t)
	proxy := enginetest.NewTCPProxy(t, addr)
	conn, err := net.Dial("tcp", proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := askOn(conn, "before"); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	if answer, err := askOn(conn, "on the old connection"); err == nil {
		t.Errorf("got the answer %q, want an error", answer)
	}
	if answer, err := ask(proxy.Addr(), "on a new connection"); err == nil {
		t.Errorf("got the answer %q, want an error", answer)
	}
	proxy.Restore()
	if _, err := ask(proxy.Addr(), "after"); err != nil {
		t.Error(err)
	}
}

func TestHTTPProxyInjects(t *testing.T) {
	const delay = 50 * time.Millisecond
	for name, test := range map[string]struct {
		fault  enginetest.HTTPFault
		status int // 0: no answer
		did    int64
		least  time.Duration
	}{
		"nothing":     {nil, http.StatusTeapot, 1, 0},
		"throttled":   {enginetest.Answer(http.StatusTooManyRequests, `{}`), http.StatusTooManyRequests, 0, 0},
		"unavailable": {enginetest.Answer(http.StatusServiceUnavailable, ``), http.StatusServiceUnavailable, 0, 0},
		"cut":         {enginetest.Cut(), 0, 0, 0},
		"lose answer": {enginetest.LoseAnswer(), 0, 1, 0},
		"delay":       {enginetest.Delay(delay), http.StatusTeapot, 1, delay},
	} {
		t.Run(name, func(t *testing.T) {
			var did atomic.Int64
			engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				did.Add(1)
				w.WriteHeader(http.StatusTeapot)
			}))
			defer engine.Close()
			proxy := enginetest.NewHTTPProxy(t, engine.URL)
			post := func() int {
				response, err := http.Post(proxy.URL()+"/x", "text/plain", strings.NewReader("x"))
				if err != nil {
					return 0
				}
				_ = response.Body.Close()
				return response.StatusCode
			}
			proxy.Inject(func(r *http.Request) enginetest.HTTPFault { return test.fault })
			begun := time.Now()
			switch status := post(); {
			case status != test.status:
				t.Errorf("got status %d, want %d", status, test.status)
			case did.Load() != test.did:
				t.Errorf("did %d, want %d", did.Load(), test.did)
			case time.Since(begun) < test.least:
				t.Errorf("took %v, want at least %v", time.Since(begun), test.least)
			}
			proxy.Inject(nil)
			if status := post(); status != http.StatusTeapot {
				t.Errorf("after the fault: got status %d, want %d", status, http.StatusTeapot)
			}
		})
	}
}

func TestHTTPProxyOfAnEngineThatIsDownGivesNoAnswer(t *testing.T) {
	engine := httptest.NewServer(http.NotFoundHandler())
	engine.Close()
	proxy := enginetest.NewHTTPProxy(t, engine.URL)
	if response, err := http.Get(proxy.URL()); err == nil {
		_ = response.Body.Close()
		t.Errorf("got status %d, want an error", response.StatusCode)
	}
}
