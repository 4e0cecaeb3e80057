package sqlite_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// crashFile makes the test binary the child that TestKilledProcessLosesNothing kills.
var crashFile = flag.String("crash.file", "", "write to this file until killed (used by the crash test itself)")

const crashTenant audit.TenantID = "acme"

// TestKilledProcessLosesNothing kills a writing process at random times. It checks
// that everything the process reported as durable is stored exactly once.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	reported := map[string]bool{}
	for round := range rounds {
		runUntilKilled(t, path, 100+rand.IntN(400*(round+1)), reported)
		checkAfterCrash(t, path, time.Duration(round+1)*time.Hour, reported)
	}
}

// runUntilKilled starts a child and kills it after it reported n writes.
func runUntilKilled(t *testing.T, path string, n int, reported map[string]bool) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=1m", "-crash.file="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for count := 0; lines.Scan(); count++ {
		reported[lines.Text()] = true // reports that arrive after the kill count too
		if count == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatalf("the child ended by itself after %d reports, want it killed", len(reported))
	}
}

// checkAfterCrash opens the file at a later time, when messages in flight are visible again.
func checkAfterCrash(t *testing.T, path string, later time.Duration, reported map[string]bool) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, sqlite.WithClock(func() time.Time { return time.Now().Add(later) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	found := map[string]int{}
	request := audit.PageRequest{Limit: 1000}
	for {
		page, err := db.Index().Find(t.Context(), crashTenant, audit.Filter{Where: audit.Text{Words: []string{"crash"}}}, request)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			found["indexed "+e.ID.String()]++
		}
		if request.From = page.Last; !page.More {
			break
		}
	}
	receiveAll(t, db, found)
	findPlaces(t, db, found)
	kinds := map[string]int{}
	for line := range reported {
		kind, name, _ := strings.Cut(line, " ")
		kinds[kind]++
		switch kind {
		case "placed":
			for _, step := range []string{line, "indexed " + name} {
				if found[step] != 1 {
					t.Errorf("found %d times, want 1: %s", found[step], step)
				}
			}
		case "stored":
			id, err := audit.ParseEntryID(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Entries().Entry(t.Context(), crashTenant, id); err != nil {
				t.Errorf("lost: %s: %v", line, err)
			}
		case "deleted":
			if n := found["sent "+name]; n > 0 {
				t.Errorf("came back: found %d times, want 0: %s", n, line)
			}
		case "sent":
			if found[line] != 1 && !reported["deleted "+name] && !reported["received "+name] {
				t.Errorf("found %d times, want 1: %s", found[line], line)
			}
		case "indexed":
			if found[line] != 1 {
				t.Errorf("found %d times, want 1: %s", found[line], line)
			}
		}
	}
	for line, n := range found {
		if n > 1 {
			t.Errorf("found %d times, want 1: %s", n, line)
		}
	}
	for _, kind := range []string{"stored", "indexed", "sent", "deleted", "placed"} {
		if kinds[kind] == 0 {
			t.Errorf("got 0 things %s before the kill, want some: the test checks nothing", kind)
		}
	}
}

// findPlaces counts the places of entries. A log without a gap has each place once.
func findPlaces(t *testing.T, db *sqlite.DB, found map[string]int) {
	t.Helper()
	for after := int64(0); ; {
		segments, err := db.Arrivals().Read(t.Context(), crashTenant, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(segments) == 0 {
			return
		}
		for _, s := range segments {
			if s.First != after+1 {
				t.Errorf("got a segment that begins at %d, want %d", s.First, after+1)
			}
			for _, id := range s.IDs {
				found["placed "+id.String()]++
				if _, err := db.Entries().Entry(t.Context(), crashTenant, id); err != nil {
					t.Errorf("the entry %s has a place: %v", id, err)
				}
			}
			after = s.Last()
		}
	}
}

// receiveAll counts the remaining messages by their bodies.
func receiveAll(t *testing.T, db *sqlite.DB, found map[string]int) {
	t.Helper()
	q := db.Queue("q", time.Millisecond, 0)
	seen := map[string]bool{}
	started := time.Now()
	for time.Since(started) < 200*time.Millisecond { // messages in flight become visible meanwhile
		messages, err := q.Receive(t.Context(), 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if !seen[m.ID] {
				seen[m.ID] = true
				found["sent "+m.Body]++
			}
		}
	}
}

// TestCrashChild is the process that TestKilledProcessLosesNothing kills.
func TestCrashChild(t *testing.T) {
	if *crashFile == "" {
		t.Skip("only TestKilledProcessLosesNothing runs this")
	}
	db, err := sqlite.Open(t.Context(), *crashFile)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	report := func(kind string, names ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			_, _ = fmt.Println(kind, name) // unbuffered; the parent reads until the end
		}
	}
	for range 4 {
		go crashEntries(t.Context(), db, report)
		go crashCommit(t.Context(), db, report)
		go crashSend(t.Context(), db, report)
		go crashReceive(t.Context(), db, report)
	}
	select {}
}

func crashEntries(ctx context.Context, db *sqlite.DB, report func(kind string, names ...string)) {
	g := newCorpus()
	g.rnd = rand.New(rand.NewPCG(rand.Uint64(), 0))
	for {
		entries := g.entries(crashTenant, 5)
		ids := make([]string, len(entries))
		for i := range entries {
			entries[i].Message += " crash"
			ids[i] = entries[i].ID.String()
		}
		appended, err := db.Entries().Append(ctx, crashTenant, entries)
		if err != nil {
			panic(err)
		}
		if len(appended.Rejections) > 0 {
			panic(fmt.Sprintf("Append rejected %+v", appended.Rejections))
		}
		report("stored", ids...)
		rejections, err := search.PutEntries(ctx, db.Index(), crashTenant, entries)
		if err != nil {
			panic(err)
		}
		if len(rejections) > 0 {
			panic(fmt.Sprintf("Put rejected %+v", rejections))
		}
		report("indexed", ids...)
	}
}

// crashCommit takes entries the whole way. An entry that has a place is stored and indexed.
func crashCommit(ctx context.Context, db *sqlite.DB, report func(kind string, names ...string)) {
	g := newCorpus()
	g.rnd = rand.New(rand.NewPCG(rand.Uint64(), 0))
	for {
		load := ingest.Load{Tenant: crashTenant, Entries: g.entries(crashTenant, 5)}
		var message audit.MessageID
		binary.BigEndian.PutUint64(message[:], rand.Uint64())
		names := make([]string, len(load.Entries))
		for i := range load.Entries {
			load.Entries[i].Message += " crash"
			load.Entries[i].QueueMessage = message
			names[i] = load.Entries[i].ID.String()
		}
		result := db.Committer().Commit(ctx, []ingest.Load{load})[0]
		if result.Err != nil {
			panic(result.Err)
		}
		if len(result.Rejections)+len(result.Unindexed)+len(result.Repeated) > 0 {
			panic(fmt.Sprintf("Commit refused %+v", result))
		}
		report("placed", names...)
	}
}

func crashSend(ctx context.Context, db *sqlite.DB, report func(kind string, names ...string)) {
	for {
		bodies := []string{fmt.Sprint(rand.Uint64()), fmt.Sprint(rand.Uint64())}
		if err := db.Queue("q", time.Minute, 5).Send(ctx, "acme", bodies); err != nil {
			panic(err)
		}
		report("sent", bodies...)
	}
}

func crashReceive(ctx context.Context, db *sqlite.DB, report func(kind string, names ...string)) {
	q := db.Queue("q", time.Minute, 0)
	for {
		messages, err := q.Receive(ctx, 1, time.Second)
		if err != nil {
			panic(err)
		}
		for _, m := range messages {
			// Report before the deletion: after a kill in between, the message may be deleted.
			report("received", m.Body)
			if err := q.Delete(ctx, []string{m.Receipt}); err != nil {
				panic(err)
			}
			report("deleted", m.Body)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
