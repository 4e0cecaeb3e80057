package localcloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// environments is a log handler that keeps track of the functions' processes.
type environments struct {
	slog.Handler
	mu     sync.Mutex
	pids   map[string][]int // by function
	killed []int            // whose end the runner has not noticed yet
}

func (e *environments) Enabled(context.Context, slog.Level) bool { return true }

func (e *environments) Handle(_ context.Context, r slog.Record) error {
	var function string
	var pid int
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "function":
			function = a.Value.String()
		case "pid":
			pid = int(a.Value.Int64())
		}
		return true
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.Message {
	case "environment started":
		e.pids[function] = append(e.pids[function], pid)
	case "environment ended":
		ended := func(p int) bool { return p == pid }
		e.pids[function] = slices.DeleteFunc(e.pids[function], ended)
		e.killed = slices.DeleteFunc(e.killed, ended)
	}
	return nil
}

// kill ends the newest process of a function like kill -9. It returns false if none runs.
func (e *environments) kill(t *testing.T, function string) bool {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	pids := e.pids[function]
	if len(pids) == 0 {
		return false
	}
	pid := pids[len(pids)-1]
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		return false // it has just ended
	}
	e.killed = append(e.killed, pid)
	return true
}

// settle waits until the runner has noticed the end of all that were killed. Until then, a request
// may go to one of them and fail.
func (e *environments) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		left := len(e.killed)
		e.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the end of %d killed processes was not noticed", left)
		}
	}
}

// alive returns the processes that run. It asks the system: the end of a process is logged a
// moment after it has ended.
func (e *environments) alive(t *testing.T) (pids []int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pid := range slices.Concat(slices.Collect(maps.Values(e.pids))...) {
		process, err := os.FindProcess(pid)
		if err == nil {
			err = process.Signal(syscall.Signal(0))
		}
		switch {
		case err == nil:
			pids = append(pids, pid)
		case !errors.Is(err, os.ErrProcessDone):
			t.Errorf("process %d: got error %v, want none or %v", pid, err, os.ErrProcessDone)
		}
	}
	return pids
}

// endAll ends every process of a function and waits until the runner has noticed.
func (e *environments) endAll(t *testing.T, function string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		e.kill(t, function)
		e.mu.Lock()
		left := len(e.pids[function])
		e.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes of %s still run, want none", left, function)
		}
	}
}

// The test kills functions under load. Every acknowledged entry must be stored once, and a reader
// of the feed must get it once.
func TestEndToEndLambdaKilledEnvironmentsLoseNothing(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { killedEnvironmentsLoseNothing(t, t.TempDir(), config.Engines{}) })
	t.Run("on servers", func(t *testing.T) {
		data := t.TempDir()
		killedEnvironmentsLoseNothing(t, data, servers(t, data))
	})
}

func killedEnvironmentsLoseNothing(t *testing.T, data string, engines config.Engines) {
	const total, size, clients, kills = 10_000, 50, 4, 16
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	options := localcloud.Options{Data: data, Log: slog.New(processes), Engines: engines, Lambda: lambda(t, engines)}
	s := startWith(t, options)
	admin := s.tenantAdmin("acme")
	var next, acknowledged, refused atomic.Int64
	killed := 0
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for first := next.Add(size) - size; first < total; first = next.Add(size) - size {
				refused.Add(int64(submit(admin, int(first), size)))
				acknowledged.Add(size)
			}
		})
	}
	read := make(chan map[string]int, 1)
	go func() { read <- admin.walkUnderKills(total) }()
	victims := []string{"persist-logs", "order-logs", "create-logs-bulk", "feed-logs", "persist-logs", "index-logs", "order-logs", "authorize-request"}
	for i := range kills {
		for acknowledged.Load() < int64(i)*total/kills && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		// It may not run at the moment: the next message starts it.
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if processes.kill(t, victims[i%len(victims)]) {
				killed++
				break
			}
		}
	}
	sending.Wait()
	t.Logf("%d processes were killed, %d requests were sent again", killed, refused.Load())
	if killed < kills/2 {
		t.Errorf("%d processes were killed, want at least %d", killed, kills/2)
	}
	processes.settle(t)
	admin.eventually(total)
	ids, _ := walk(t, admin, url.Values{"limit": {"1000"}}, "")
	if n := len(slices.Compact(slices.Sorted(slices.Values(ids)))); len(ids) != total {
		t.Errorf("got %d ids, want %d", len(ids), total)
	} else if n != total {
		t.Errorf("got %d different ids, want %d", n, total)
	}
	for reader, seen := range map[string]map[string]int{"after the kills": admin.walk(url.Values{"limit": {"1000"}}, total), "during the kills": <-read} {
		if len(seen) != total {
			t.Errorf("%s: the feed has %d entries, want %d", reader, len(seen), total)
		}
		for resource, times := range seen {
			if times != 1 {
				t.Errorf("%s: the feed has %s %d times, want once", reader, resource, times)
			}
		}
	}
	var quarantined struct{ Items []json.RawMessage }
	if admin.get("/logs/quarantine", nil).decode(t, &quarantined); len(quarantined.Items) > 0 {
		t.Errorf("got %s in quarantine, want nothing", quarantined.Items)
	}
	s.stop()
	if left := processes.alive(t); len(left) > 0 {
		t.Errorf("processes %v outlive the service, want none", left)
	}
	again := startWith(t, options)
	again.as(admin.authorization, "acme").eventually(total)
}

// walkUnderKills follows the feed until it has seen n entries. It repeats requests that fail. It
// returns how often it saw each resource.
func (c caller) walkUnderKills(n int) map[string]int {
	seen, query := map[string]int{}, url.Values{"limit": {"300"}}
	for deadline := time.Now().Add(2 * time.Minute); len(seen) < n && time.Now().Before(deadline) && !c.t.Failed(); {
		got := c.get("/logs/feed", query)
		if got.status >= http.StatusInternalServerError {
			continue
		}
		var page feedAnswer
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != http.StatusOK {
			c.t.Errorf("feed: got status %d (%v), want %d: %s", got.status, err, http.StatusOK, got.body)
			return seen
		}
		for _, item := range page.Items {
			seen[item.ResourceID]++
		}
		query.Set("cursor", page.Next)
		if !page.More {
			time.Sleep(20 * time.Millisecond)
		}
	}
	return seen
}

// submit sends a bulk request until it is acknowledged. It returns how often it was refused.
func submit(c caller, first, size int) (refused int) {
	entries := make([]string, size)
	for i := range entries {
		entries[i] = entryText(first + i)
	}
	for {
		got := c.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil)
		if got.status == http.StatusAccepted {
			return refused
		}
		if got.status != http.StatusServiceUnavailable {
			c.t.Errorf("bulk: got status %d, want %d: %s", got.status, http.StatusServiceUnavailable, got.body)
		}
		if got.header.Get("Retry-After") == "" {
			c.t.Errorf("bulk: got no Retry-After, want one: %s", got.body)
		}
		if c.t.Failed() {
			return refused
		}
		refused++
	}
}
