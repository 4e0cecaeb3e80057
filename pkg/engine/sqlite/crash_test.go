package sqlite_test

import (
	"bufio"
	"context"
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
)

// crashFile has the test binary be the child that TestKilledProcessLosesNothing kills.
var crashFile = flag.String("crash.file", "", "write to this file until killed (used by the crash test itself)")

const crashTenant audit.TenantID = "acme"

// TestKilledProcessLosesNothing kills a process that writes, at random moments,
// and checks that everything that it was told is durable is there exactly once.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	told := map[string]bool{}
	for round := range rounds {
		runUntilKilled(t, path, 100+rand.IntN(400*(round+1)), told)
		checkAfterCrash(t, path, time.Duration(round+1)*time.Hour, told)
	}
}

// runUntilKilled starts a child and kills it after it told of n writes.
func runUntilKilled(t *testing.T, path string, n int, told map[string]bool) {
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
		told[lines.Text()] = true // what it told before it died counts, also after the kill
		if count == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatalf("the child ended by itself after telling of %d writes", len(told))
	}
}

// checkAfterCrash opens the file at a time when what was in flight is visible again.
func checkAfterCrash(t *testing.T, path string, later time.Duration, told map[string]bool) {
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
	kinds := map[string]int{}
	for line := range told {
		kind, name, _ := strings.Cut(line, " ")
		kinds[kind]++
		switch kind {
		case "stored":
			id, err := audit.ParseEntryID(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Entries().Entry(t.Context(), crashTenant, id); err != nil {
				t.Errorf("lost: %s: %v", line, err)
			}
		case "deleted":
			if found["sent "+name] > 0 {
				t.Errorf("came back: %s", line)
			}
		case "sent":
			if found[line] != 1 && !told["deleted "+name] && !told["taken "+name] {
				t.Errorf("there %d times: %s", found[line], line)
			}
		case "indexed":
			if found[line] != 1 {
				t.Errorf("there %d times: %s", found[line], line)
			}
		}
	}
	for line, n := range found {
		if n > 1 {
			t.Errorf("there %d times: %s", n, line)
		}
	}
	for _, kind := range []string{"stored", "indexed", "sent", "deleted"} {
		if kinds[kind] == 0 {
			t.Errorf("nothing was %s before the kill: the test checks nothing", kind)
		}
	}
}

// receiveAll counts the messages that are left.
func receiveAll(t *testing.T, db *sqlite.DB, found map[string]int) {
	t.Helper()
	q := db.Queue("q", time.Millisecond, 0)
	seen := map[string]bool{}
	started := time.Now()
	for time.Since(started) < 200*time.Millisecond { // long enough for what was in flight
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

// TestCrashChild is the process that is killed.
func TestCrashChild(t *testing.T) {
	if *crashFile == "" {
		t.Skip("only TestKilledProcessLosesNothing runs this")
	}
	db, err := sqlite.Open(t.Context(), *crashFile)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tell := func(kind string, names ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			_, _ = fmt.Println(kind, name) // unbuffered; the parent reads until the end
		}
	}
	for range 4 {
		go crashEntries(t.Context(), db, tell)
		go crashSend(t.Context(), db, tell)
		go crashReceive(t.Context(), db, tell)
	}
	select {}
}

func crashEntries(ctx context.Context, db *sqlite.DB, tell func(kind string, names ...string)) {
	g := newCorpus()
	g.rnd = rand.New(rand.NewPCG(rand.Uint64(), 0))
	for {
		entries := g.entries(crashTenant, 5)
		ids := make([]string, len(entries))
		for i := range entries {
			entries[i].Message += " crash"
			ids[i] = entries[i].ID.String()
		}
		if appended, err := db.Entries().Append(ctx, crashTenant, entries); err != nil || len(appended.Rejections) > 0 {
			panic(fmt.Sprint(err, appended.Rejections))
		}
		tell("stored", ids...)
		if rejections, err := db.Index().Put(ctx, crashTenant, entries); err != nil || len(rejections) > 0 {
			panic(fmt.Sprint(err, rejections))
		}
		tell("indexed", ids...)
	}
}

func crashSend(ctx context.Context, db *sqlite.DB, tell func(kind string, names ...string)) {
	for {
		bodies := []string{fmt.Sprint(rand.Uint64()), fmt.Sprint(rand.Uint64())}
		if err := db.Queue("q", time.Minute, 5).Send(ctx, bodies); err != nil {
			panic(err)
		}
		tell("sent", bodies...)
	}
}

func crashReceive(ctx context.Context, db *sqlite.DB, tell func(kind string, names ...string)) {
	q := db.Queue("q", time.Minute, 0)
	for {
		messages, err := q.Receive(ctx, 1, time.Second)
		if err != nil {
			panic(err)
		}
		for _, m := range messages {
			// Told before it is deleted: killed in between, it may be gone untold.
			tell("taken", m.Body)
			if err := q.Delete(ctx, []string{m.Receipt}); err != nil {
				panic(err)
			}
			tell("deleted", m.Body)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
