package opensearchindex_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// daysLater is a clock by which an index of a past month that was just created can be removed.
func daysLater(c *opensearchindex.Config) {
	c.Now = func() time.Time { return time.Now().Add(9 * 24 * time.Hour) }
}

// brief makes writers give up soon.
func brief(c *opensearchindex.Config) { c.WriteBudget = 100 * time.Millisecond }

// emptied makes the index of January, which has no entries any more.
func emptied(t *testing.T, url, prefix string) (index string) {
	t.Helper()
	x := open(t, url, prefix, waitForRefresh)
	e := newEntry(acme, 0)
	put(t, x, acme, e)
	if err := x.Remove(t.Context(), acme, []audit.EntryID{e.ID}); err != nil {
		t.Fatal(err)
	}
	return prefix + "-t-acme.2026.01"
}

// indexes returns the names of all indexes of the prefix, locks too.
func indexes(t *testing.T, url, prefix string) []string {
	t.Helper()
	var resolved struct{ Indices []struct{ Name string } }
	engineRequest(t, http.MethodGet, url+"/_resolve/index/"+prefix+"-*?expand_wildcards=all", nil, &resolved)
	var names []string
	for _, i := range resolved.Indices {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return names
}

func TestEmptyIndexesOfPastMonthsAreRemoved(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	index := emptied(t, url, prefix)
	x := open(t, url, prefix, waitForRefresh, daysLater)
	pool := x.WithPlacements(inPool)
	later := time.Now().UTC().Add(9 * 24 * time.Hour)
	now := newEntry("current", 0)
	now.Timestamp, now.ID = later, audit.DeriveEntryID("current", later, "x")
	kept := newEntry("kept", 1)
	put(t, x, "kept", kept)
	put(t, x, "current", now)
	put(t, pool, "pooled", newEntry("pooled", 2))
	for tenant, e := range map[audit.TenantID]audit.Entry{"current": now, "pooled": newEntry("pooled", 2)} {
		if err := pool.Remove(t.Context(), tenant, []audit.EntryID{e.ID}); err != nil {
			t.Fatal(err)
		}
		if err := x.Remove(t.Context(), tenant, []audit.EntryID{e.ID}); err != nil {
			t.Fatal(err)
		}
	}
	engineRequest(t, http.MethodPut, url+"/"+prefix+"-plans-2026.01", nil, nil) // of others
	if removed, err := open(t, url, prefix).RemoveEmptyIndexes(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("new indexes: removed %v, %v, want none", removed, err)
	}
	removed, err := x.RemoveEmptyIndexes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(removed)
	if diff := cmp.Diff([]string{prefix + "-p07-2026.01", index}, removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	want := []string{prefix + "-plans-2026.01", prefix + "-t-current." + later.Format("2006.01"), prefix + "-t-kept.2026.01"}
	if diff := cmp.Diff(want, indexes(t, url, prefix)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	put(t, x, acme, newEntry(acme, 3)) // a late entry
	var mapping map[string]struct {
		Mappings struct{ Dynamic string }
	}
	engineRequest(t, http.MethodGet, url+"/"+index+"/_mapping", nil, &mapping)
	if got := mapping[index].Mappings.Dynamic; got != "false" {
		t.Errorf("the index that a late entry creates has dynamic %q, want false as its template says", got)
	}
	if n := total(t, x, acme); n != 1 {
		t.Errorf("%d entries are found, want 1", n)
	}
}

// httpGate stops a process before its n-th request, counted from 1.
type httpGate struct {
	*enginetest.Stop
	mu      sync.Mutex
	at, n   int
	killed  bool // all requests from then on are cut
	request string
}

func newHTTPGate(at int) *httpGate {
	return &httpGate{Stop: enginetest.NewStop(), at: at}
}

func (g *httpGate) choose(r *http.Request) enginetest.HTTPFault {
	g.mu.Lock()
	g.n++
	stop := g.n == g.at
	if stop {
		g.request = r.Method + " " + r.URL.Path
	}
	g.mu.Unlock()
	if stop {
		g.Here()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.killed && g.n >= g.at {
		return enginetest.Cut()
	}
	return nil
}

// maxRequests is more than one removal sends.
const maxRequests = 30

// TestNoOrderOfRemovalsAndWritersLosesAnEntry stops a removal before each of its requests, or kills it
// there, while others write and remove.
func TestNoOrderOfRemovalsAndWritersLosesAnEntry(t *testing.T) {
	url := enginetest.OpenSearch(t)
	type world struct {
		*testing.T
		prefix       string
		acknowledged map[int]bool
	}
	write := func(n int) func(w *world) {
		return func(w *world) {
			_, err := search.PutEntries(w.Context(), open(w.T, url, w.prefix, brief), acme, []audit.Entry{newEntry(acme, n)})
			if err != nil && !audit.IsUnavailable(err) {
				w.Errorf("put: got %v, want an error that has the message come again", err)
			}
			w.acknowledged[n] = err == nil
		}
	}
	remove := func(w *world) { // by a process to which every other's lock is old
		x := open(w.T, url, w.prefix, daysLater)
		x.UseLockTime(-time.Second)
		if _, err := x.RemoveEmptyIndexes(w.Context()); err != nil {
			w.Error(err)
		}
	}
	beside := func(w *world) { // by a process that waits for others
		if _, err := open(w.T, url, w.prefix, daysLater).RemoveEmptyIndexes(w.Context()); err != nil {
			w.Error(err)
		}
	}
	for what, steps := range map[string][]func(w *world){
		"a run beside it":        {beside, write(1)},
		"a takeover":             {remove, write(1)},
		"a write and a takeover": {write(1), remove, write(2)},
	} {
		for _, killed := range []bool{false, true} {
			name := what
			if killed {
				name += ", killed"
			}
			if killed && len(steps) < 3 {
				continue // each takes a while
			}
			t.Run(name, func(t *testing.T) {
				for at := 1; at < maxRequests; at++ {
					w := &world{T: t, prefix: newPrefix(t, url), acknowledged: map[int]bool{}}
					emptied(t, url, w.prefix)
					proxy := enginetest.NewHTTPProxy(t, url)
					g := newHTTPGate(at)
					proxy.Inject(g.choose)
					x := open(t, proxy.URL(), w.prefix, daysLater, brief)
					stopped := g.While(func() { _, _ = x.RemoveEmptyIndexes(t.Context()) }, func() {
						for _, step := range steps {
							step(w)
						}
						g.mu.Lock()
						g.killed = killed
						g.mu.Unlock()
					})
					later := open(t, url, w.prefix) // a message that comes again, when the lock is old
					later.UseLockTime(-time.Second)
					put(t, later, acme, newEntry(acme, 9))
					w.acknowledged[9] = true
					remove(w)
					engineRequest(t, http.MethodPost, url+"/"+w.prefix+"-*/_refresh", nil, nil)
					for n, acknowledged := range w.acknowledged {
						found, err := later.Contains(t.Context(), acme, newEntry(acme, n).ID)
						if err != nil {
							t.Fatal(err)
						}
						if acknowledged && !found {
							t.Errorf("stopped at request %d, %s: the acknowledged entry %d is lost", at, g.request, n)
						}
					}
					for _, index := range indexes(t, url, w.prefix) {
						if strings.Contains(index, "-removal-") {
							t.Errorf("stopped at request %d, %s: %s is left, want no lock", at, g.request, index)
						}
					}
					if !stopped {
						return
					}
				}
				t.Errorf("a removal sends %d requests, want it to end", maxRequests)
			})
		}
	}
}

// TestWritersAndSearchesDuringRemovals: whatever is acknowledged is found, and searches go on.
func TestWritersAndSearchesDuringRemovals(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	writer, remover, reader := open(t, url, prefix, waitForRefresh), open(t, url, prefix, daysLater), open(t, url, prefix)
	done := make(chan struct{})
	var others sync.WaitGroup
	defer others.Wait()
	defer close(done)
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := remover.RemoveEmptyIndexes(t.Context()); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
	})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := reader.Find(t.Context(), acme, audit.Filter{}, audit.PageRequest{Limit: 10}); err != nil {
				t.Errorf("find: %v", err)
			}
		}
	})
	for n := range 15 {
		e := newEntry(acme, n)
		put(t, writer, acme, e)
		if found, err := writer.Contains(t.Context(), acme, e.ID); err != nil || !found {
			t.Fatalf("entry %d: found %v, %v, want it found", n, found, err)
		}
		err := writer.Remove(t.Context(), acme, []audit.EntryID{e.ID})
		for audit.IsUnavailable(err) { // a run has blocked the index, and finds the entry
			err = writer.Remove(t.Context(), acme, []audit.EntryID{e.ID})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// slowBulk is a bulk request of one operation, which takes 4 seconds and writes nothing.
const slowBulk = `{"update":{"_id":"slow"}}
{"scripted_upsert":true,"upsert":{},"script":{"source":"` +
	`long end = System.currentTimeMillis() + 4000; while (System.currentTimeMillis() < end) { new BigInteger('3').pow(20000); } ctx.op = 'none'"}}
`

// keepBusy sends slowBulk, and returns once OpenSearch works on it. The channel is closed at its end.
func keepBusy(t *testing.T, url, index string) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		response, err := http.Post(url+"/"+index+"/_bulk", "application/x-ndjson", strings.NewReader(slowBulk))
		if err != nil {
			t.Errorf("the slow request: %v", err)
			return
		}
		_ = response.Body.Close()
	}()
	t.Cleanup(func() { <-done })
	for {
		var tasks struct{ Nodes map[string]any }
		engineRequest(t, http.MethodGet, url+"/_tasks?actions=indices:data/write/bulk%5Bs%5D%5Bp%5D", nil, &tasks)
		if len(tasks.Nodes) > 0 {
			return done
		}
		select {
		case <-done:
			t.Fatal("the slow request has ended, want it to go on")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestAnIndexWhoseBlockFailsTakesWritesAgain: OpenSearch waits too briefly for a write that goes on. So
// it neither completes the block nor removes what it began.
func TestAnIndexWhoseBlockFailsTakesWritesAgain(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	index := emptied(t, url, prefix)
	proxy := enginetest.NewHTTPProxy(t, url)
	var timeouts sync.Map
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if strings.HasSuffix(r.URL.Path, "/_block/write") {
			timeouts.Store(r.URL.Query().Get("timeout"), nil)
			r.URL.RawQuery = "timeout=1ms"
		}
		return nil
	})
	busy := keepBusy(t, url, index)
	removed, err := open(t, proxy.URL(), prefix, daysLater, brief).RemoveEmptyIndexes(t.Context())
	select {
	case <-busy:
		t.Fatal("the run took longer than the slow request, want it to meet its write")
	default:
	}
	if !audit.IsUnavailable(err) || len(removed) > 0 {
		t.Errorf("removed %v, %v, want nothing removed and an error that has the run come again", removed, err)
	}
	if _, ok := timeouts.Load("5s"); !ok {
		t.Error("OpenSearch waits for another time than 5s, want it to answer before this process gives up")
	}
	if locks := indexes(t, url, prefix); len(locks) != 2 || locks[1] != index {
		t.Errorf("the indexes are %v, want the blocked one and its lock", locks)
	}
	entry := newEntry(acme, 1)
	if _, err := search.PutEntries(t.Context(), open(t, url, prefix, brief), acme, []audit.Entry{entry}); !audit.IsUnavailable(err) {
		t.Errorf("put into a blocked index: %v, want an error that has the message come again", err)
	}
	later := open(t, url, prefix) // once the lock is old
	later.UseLockTime(-time.Second)
	put(t, later, acme, entry)
	if diff := cmp.Diff([]string{index}, indexes(t, url, prefix)); diff != "" {
		t.Errorf("indexes (-want +got):\n%s", diff)
	}
}

// TestARunWithLittleTimeLeftBeginsNoRemoval: it could be killed while the index is blocked.
func TestARunWithLittleTimeLeftBeginsNoRemoval(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	index := emptied(t, url, prefix)
	x := open(t, url, prefix, daysLater)
	for _, run := range []struct {
		left time.Duration
		want []string
	}{{179 * time.Second, nil}, {5 * time.Minute, []string{index}}} {
		ctx, cancel := context.WithTimeout(t.Context(), run.left)
		removed, err := x.RemoveEmptyIndexes(ctx)
		cancel()
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(run.want, removed); diff != "" {
			t.Errorf("removed with %s left (-want +got):\n%s", run.left, diff)
		}
	}
}

// TestAnIndexWithAFailedRefreshIsNotRemoved: what the refresh did not reach may have entries.
func TestAnIndexWithAFailedRefreshIsNotRemoved(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	index := emptied(t, url, prefix)
	proxy := enginetest.NewHTTPProxy(t, url)
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if strings.HasSuffix(r.URL.Path, "/_refresh") {
			return enginetest.Answer(http.StatusOK, `{"_shards":{"total":2,"successful":1,"failed":1}}`)
		}
		return nil
	})
	removed, err := open(t, proxy.URL(), prefix, daysLater, brief).RemoveEmptyIndexes(t.Context())
	if !audit.IsUnavailable(err) || len(removed) > 0 {
		t.Errorf("removed %v, %v, want nothing removed and an error that has the run come again", removed, err)
	}
	put(t, open(t, url, prefix, brief), acme, newEntry(acme, 1))
	if diff := cmp.Diff([]string{index}, indexes(t, url, prefix)); diff != "" {
		t.Errorf("indexes (-want +got):\n%s", diff)
	}
}

// TestARemovalThatLostItsLockBlocksNothing stops a removal before it blocks the index, and before it unblocks the index
// of one that was killed. Meanwhile another takes its lock over, and the index is made again. Then the first goes on for
// one request and is killed. A writer that finds no lock is not to find a block.
func TestARemovalThatLostItsLockBlocksNothing(t *testing.T) {
	url := enginetest.OpenSearch(t)
	for name, at := range map[string]string{"block": "/_block/write", "unblock": "/_settings"} {
		t.Run(name, func(t *testing.T) {
			prefix := newPrefix(t, url)
			index := emptied(t, url, prefix)
			proxy := enginetest.NewHTTPProxy(t, url)
			stop := enginetest.NewStop()
			var mu sync.Mutex
			reached := false
			proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
				mu.Lock()
				dead, here := reached, !reached && strings.HasSuffix(r.URL.Path, at)
				reached = reached || here
				mu.Unlock()
				switch {
				case dead:
					return enginetest.Cut()
				case here:
					stop.Here()
				case at == "/_settings" && strings.HasSuffix(r.URL.Path, "/_count"): // it finds that it cannot go on
					return enginetest.Answer(http.StatusInternalServerError, `{}`)
				}
				return nil
			})
			slept := open(t, proxy.URL(), prefix, daysLater, brief)
			stopped := stop.While(func() { _, _ = slept.RemoveEmptyIndexes(t.Context()) }, func() {
				other := open(t, url, prefix, daysLater)
				other.UseLockTime(-time.Second)
				if removed, err := other.RemoveEmptyIndexes(t.Context()); err != nil || !slices.Equal(removed, []string{index}) {
					t.Errorf("the other removed %v, %v, want %s", removed, err, index)
				}
				put(t, open(t, url, prefix), acme, newEntry(acme, 1))
				if at == "/_settings" { // somebody relies on a block now
					engineRequest(t, http.MethodPut, url+"/"+index+"/_block/write", nil, nil)
				}
			})
			if !stopped {
				t.Fatalf("no request ends with %s", at)
			}
			if at == "/_settings" {
				if _, err := search.PutEntries(t.Context(), open(t, url, prefix, brief), acme, []audit.Entry{newEntry(acme, 2)}); !audit.IsUnavailable(err) {
					t.Errorf("put: %v, want that the index is still blocked", err)
				}
				return
			}
			if diff := cmp.Diff([]string{index}, indexes(t, url, prefix)); diff != "" {
				t.Errorf("indexes (-want +got):\n%s", diff)
			}
			put(t, open(t, url, prefix, brief), acme, newEntry(acme, 2))
		})
	}
}

// TestADomainThatWantsReplicasGetsThem: a domain of several zones with standby refuses an index without them.
func TestADomainThatWantsReplicasGetsThem(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	index := emptied(t, url, prefix)
	proxy := enginetest.NewHTTPProxy(t, url)
	var refused, accepted int
	proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, "/"+prefix+"-removal-") {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(string(body), `"number_of_replicas":0`) {
			refused++
			return enginetest.Answer(http.StatusBadRequest, `{"error":{"type":"validation_exception"}}`)
		}
		accepted++
		return nil
	})
	removed, err := open(t, proxy.URL(), prefix, daysLater, func(c *opensearchindex.Config) { c.Replicas = 1 }).RemoveEmptyIndexes(t.Context())
	if err != nil || !slices.Equal(removed, []string{index}) {
		t.Errorf("removed %v, %v, want %s", removed, err, index)
	}
	if refused != 1 || accepted != 1 {
		t.Errorf("%d locks were refused and %d accepted, want one each", refused, accepted)
	}
}
