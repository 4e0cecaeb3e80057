package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// manyMerges merges a few small segments at once.
func manyMerges() sqlite.Option { return sqlite.WithMerges(4, 16, 3) }

// awaitMerges waits until no merge is due or under way.
func awaitMerges(t *testing.T, db *sqlite.DB) {
	t.Helper()
	var byLevel map[int]int
	var others int
	for range 1000 {
		var err error
		if byLevel, others, err = db.Segments(t.Context()); err != nil {
			t.Fatal(err)
		}
		most := 0
		for level, n := range byLevel {
			if level > 0 {
				most = max(most, n)
			}
		}
		if others == 0 && byLevel[0] < 4 && most < 3 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("segments by level: %v, %d unfinished or retired; want no merge that is due", byLevel, others)
}

func checkTerms(t *testing.T, db *sqlite.DB) {
	t.Helper()
	if err := db.CheckTerms(t.Context()); err != nil {
		t.Error(err)
	}
}

// wantFound wants so many entries with a word.
func wantFound(t *testing.T, db *sqlite.DB, tenant audit.TenantID, word string, want int) {
	t.Helper()
	filter := audit.Filter{Where: audit.Text{Words: []string{word}}}
	x := db.Index()
	x.LimitScans(1, 0)
	found := map[audit.EntryID]bool{}
	for _, order := range []audit.Order{audit.NewestFirst, audit.OldestFirst} {
		request, n := audit.PageRequest{Limit: 100, Order: order}, 0
		for more := true; more; {
			page, err := x.Find(t.Context(), tenant, filter, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				found[e.ID] = true
			}
			n += len(page.Entries)
			more, request.From = page.More, page.Last
		}
		if n != want || len(found) != want {
			t.Errorf("order %v: found %d entries with %q, %d different ones, want %d", order, n, word, len(found), want)
		}
	}
	stats, err := x.Stats(t.Context(), tenant, filter, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != int64(want) {
		t.Errorf("counted %d entries with %q, want %d", stats.Total, word, want)
	}
}

func idsOf(entries []audit.Entry) []audit.EntryID {
	ids := make([]audit.EntryID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	return ids
}

// TestSegmentsAreMerged: many small transactions leave few segments, in which everything is found.
func TestSegmentsAreMerged(t *testing.T) {
	db := open(t, manyMerges())
	const n = 300
	entries := newCorpus().entries("acme", n)
	for i := range entries {
		entries[i].Message += " everywhere"
		storeIndexed(t, db, "acme", entries[i:i+1])
	}
	awaitMerges(t, db)
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n)
	byLevel, _, err := db.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if byLevel[3]+byLevel[4] == 0 {
		t.Errorf("segments by level: %v, want some of level 3", byLevel)
	}
}

// TestTheWriterBoundsLevel0: one transaction follows the other at once.
func TestTheWriterBoundsLevel0(t *testing.T) {
	db := open(t, sqlite.WithMerges(8, 8, 1000))
	const n = 100
	entries := newCorpus().entries("acme", n)
	for i := range entries {
		entries[i].Message += " everywhere"
		storeIndexed(t, db, "acme", entries[i:i+1])
		byLevel, _, err := db.Segments(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if byLevel[0] > 9 {
			t.Fatalf("%d segments of level 0, want at most 9", byLevel[0])
		}
	}
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n)
}

// TestAKeyIsIndexedAgain: entries are removed from the index and indexed again, as an erasure does. They
// have the same keys then.
func TestAKeyIsIndexedAgain(t *testing.T) {
	db := open(t, manyMerges())
	const n = 60
	entries := newCorpus().entries("acme", n)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range entries {
		entries[i].Message = "round0"
	}
	storeIndexed(t, db, "acme", entries)
	for round := 1; round <= 12; round++ {
		from := random.IntN(n / 2)
		part := entries[from : from+1+random.IntN(n/2)]
		if err := db.Index().Remove(t.Context(), "acme", idsOf(part)); err != nil {
			t.Fatal(err)
		}
		checkTerms(t, db)
		for i := range part {
			part[i].Message = fmt.Sprintf("round%d", round)
			if _, err := search.PutEntries(t.Context(), db.Index(), "acme", part[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if round%4 == 0 {
			eraseSpace(t, db)
		}
		count := map[string]int{}
		for i := range entries {
			count[entries[i].Message]++
		}
		for r := range round + 1 {
			word := fmt.Sprintf("round%d", r)
			wantFound(t, db, "acme", word, count[word])
		}
		checkTerms(t, db)
	}
	eraseSpace(t, db)
	checkTerms(t, db)
	if _, others, err := db.Segments(t.Context()); err != nil || others > 0 {
		t.Errorf("%d segments are not in use (%v), want none after their erasure", others, err)
	}
}

// TestRemovalsWhileOthersIndex: several operations share a transaction.
func TestRemovalsWhileOthersIndex(t *testing.T) {
	db := open(t, manyMerges())
	const tenants, rounds = 4, 40
	var running sync.WaitGroup
	left := make([]int, tenants)
	for i := range tenants {
		running.Go(func() {
			tenant := audit.TenantID(fmt.Sprintf("tenant-%d", i))
			c := newCorpus()
			c.rnd = rand.New(rand.NewPCG(uint64(i), 1))
			for range rounds {
				entries := c.entries(tenant, 1+c.rnd.IntN(6))
				for j := range entries {
					entries[j].Message = "kept"
				}
				storeIndexed(t, db, tenant, entries)
				gone := entries[:c.rnd.IntN(len(entries)+1)]
				if err := db.Index().Remove(t.Context(), tenant, idsOf(gone)); err != nil {
					t.Error(err)
				}
				left[i] += len(entries) - len(gone)
			}
		})
	}
	running.Wait()
	checkTerms(t, db)
	awaitMerges(t, db)
	checkTerms(t, db)
	for i := range tenants {
		wantFound(t, db, audit.TenantID(fmt.Sprintf("tenant-%d", i)), "kept", left[i])
	}
}

// TestMergesContinueAfterAStop: a process ends during merges, at any moment of them.
func TestMergesContinueAfterAStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	c := newCorpus()
	n, unfinished := 0, int64(0)
	for round := range 12 {
		db, err := sqlite.Open(t.Context(), path, manyMerges())
		if err != nil {
			t.Fatal(err)
		}
		entries := c.entries("acme", 20+c.rnd.IntN(40))
		for i := range entries {
			entries[i].Message += " everywhere"
			storeIndexed(t, db, "acme", entries[i:i+1])
		}
		gone := entries[:c.rnd.IntN(10)]
		if err := db.Index().Remove(t.Context(), "acme", idsOf(gone)); err != nil {
			t.Fatal(err)
		}
		n += len(entries) - len(gone)
		time.Sleep(time.Duration(c.rnd.IntN(20)) * time.Millisecond)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		unfinished += selectInt(t, path, `SELECT count(*) FROM segments WHERE state != 1`)
		if round%3 == 2 {
			db := openAt(t, path, manyMerges())
			awaitMerges(t, db)
			checkTerms(t, db)
			wantFound(t, db, "acme", "everywhere", n)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d segments were unfinished or retired when the file was closed", unfinished)
	checkFile(t, path)
}

// TestUnfinishedSegmentsAreRemoved: a killed process left them.
func TestUnfinishedSegmentsAreRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	entries := newCorpus().entries("acme", 5)
	storeIndexed(t, db, "acme", entries)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const pages = 3000                                               // some operations
	for i, state := range []string{"0, 0", "0, 1", "2, 0", "2, 1"} { // and the kind of merger
		execSQL(t, path, fmt.Sprintf(`INSERT INTO segments (number, state, merger, level, docs, removed, first, last, pages, bytes) VALUES (%[1]d, %[2]s, 2, 1, 1, 0, 0, 0, 0);
			INSERT INTO removed_terms VALUES (%[1]d << 24, x'0100000000000000');
			WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < %[3]d)
			INSERT INTO segment_pages SELECT (%[1]d << 24) + i, CAST('%[4]s' AS BLOB) FROM n`, 100+i, state, pages, marker))
	}
	db = openAt(t, path)
	if err := db.Index().Remove(t.Context(), "acme", idsOf(entries[:1])); err != nil {
		t.Fatal(err)
	}
	eraseSpace(t, db)
	if _, others, err := db.Segments(t.Context()); err != nil || others > 0 {
		t.Errorf("%d segments are not in use (%v), want none", others, err)
	}
	wantErased(t, path)
	wantFoundAll(t, db, "acme", 4)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := selectInt(t, path, `SELECT count(*) FROM segment_pages WHERE id >= 100 << 24 AND id < 104 << 24`) + selectInt(t, path, `SELECT count(*) FROM removed_terms`); got != 0 {
		t.Errorf("%d rows of unfinished segments are left, want none", got)
	}
	checkFile(t, path)
}

// wantFoundAll wants so many entries of a tenant by a filter that all of them match.
func wantFoundAll(t *testing.T, db *sqlite.DB, tenant audit.TenantID, want int) {
	t.Helper()
	stats, err := db.Index().Stats(t.Context(), tenant, audit.Filter{Where: audit.Has{Field: audit.FieldUserID}}, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != int64(want) {
		t.Errorf("counted %d entries, want %d", stats.Total, want)
	}
}

// TestDamagedSegments: a page that is not as it was written is an error of the searches that read it.
// Others go on, and so do writes.
func TestDamagedSegments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path, sqlite.WithMerges(4, 8, 1000))
	c := newCorpus()
	storeIndexed(t, db, "acme", c.entries("acme", 100))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, `UPDATE segment_pages SET data = CAST(substr(data, 1, 300) || x'ffffffff' || substr(data, 305) AS BLOB)`)
	db = openAt(t, path, sqlite.WithMerges(4, 8, 1000))
	x := db.Index()
	x.LimitScans(1, 0)
	filter := audit.Filter{Where: audit.Has{Field: audit.FieldUserID}}
	if _, err := x.Find(t.Context(), "acme", filter, audit.PageRequest{Limit: 10}); err == nil {
		t.Error("a search of a damaged page has no error, want one")
	}
	for range 30 {
		storeIndexed(t, db, "acme", c.entries("acme", 1))
	}
	if page, err := x.Find(t.Context(), "acme", filter, audit.PageRequest{Limit: 10}); err != nil || len(page.Entries) != 10 {
		t.Errorf("found %d later entries (%v), want 10", len(page.Entries), err)
	}
}

// TestSharedFilesAreMergedByOne: several processes index, remove and merge.
func TestSharedFilesAreMergedByOne(t *testing.T) {
	dbs := openShared(t, 3, manyMerges())
	const rounds = 40
	left := make([]int, len(dbs))
	var running sync.WaitGroup
	for i, db := range dbs {
		running.Go(func() {
			tenant := audit.TenantID(fmt.Sprintf("tenant-%d", i))
			c := newCorpus()
			c.rnd = rand.New(rand.NewPCG(uint64(i), 1))
			for round := range rounds {
				entries := c.entries(tenant, 1+c.rnd.IntN(4))
				for j := range entries {
					entries[j].Message = "kept"
				}
				storeIndexed(t, db, tenant, entries)
				gone := entries[:c.rnd.IntN(len(entries)+1)]
				if err := dbs[(i+1)%len(dbs)].Index().Remove(t.Context(), tenant, idsOf(gone)); err != nil {
					t.Error(err)
				}
				left[i] += len(entries) - len(gone)
				if round%10 == 9 {
					if n := countWord(t, dbs[(i+2)%len(dbs)], tenant, "kept"); n != left[i] {
						t.Errorf("another process counts %d entries, want %d", n, left[i])
					}
				}
			}
		})
	}
	running.Wait()
	eraseSpace(t, dbs[1])
	for i := range dbs {
		checkTerms(t, dbs[i])
		for j := range dbs {
			wantFound(t, dbs[i], audit.TenantID(fmt.Sprintf("tenant-%d", j)), "kept", left[j])
		}
	}
}

func countWord(t *testing.T, db *sqlite.DB, tenant audit.TenantID, word string) int {
	stats, err := db.Index().Stats(t.Context(), tenant, audit.Filter{Where: audit.Text{Words: []string{word}}}, audit.StatsRequest{})
	if err != nil {
		t.Error(err)
	}
	return int(stats.Total)
}

// TestReadsDuringMerges: each read sees all entries, whatever merges do meanwhile.
func TestReadsDuringMerges(t *testing.T) {
	db := open(t, sqlite.WithMerges(2, 16, 2))
	stop := make(chan struct{})
	var reading sync.WaitGroup
	entries := newCorpus().entries("acme", 400)
	for i := range entries {
		entries[i].Message += " everywhere"
	}
	storeIndexed(t, db, "acme", entries[:100])
	for range 2 {
		reading.Go(func() {
			for last := 100; ; {
				select {
				case <-stop:
					return
				default:
				}
				n := countWord(t, db, "acme", "everywhere")
				if n < last || n > len(entries) {
					t.Errorf("counted %d entries, want at least %d as before", n, last)
					return
				}
				last = n
			}
		})
	}
	for i := 100; i < len(entries); i++ {
		storeIndexed(t, db, "acme", entries[i:i+1])
	}
	close(stop)
	reading.Wait()
	wantFound(t, db, "acme", "everywhere", len(entries))
}

// TestAFullDiskDuringMerges: merges fail, and continue once there is space.
func TestAFullDiskDuringMerges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path, sqlite.WithMerges(1000, 2000, 2))
	c := newCorpus()
	n := 0
	for range 60 {
		entries := c.entries("acme", 10)
		for i := range entries {
			entries[i].Message += " everywhere"
		}
		storeIndexed(t, db, "acme", entries)
		n += len(entries)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path, sqlite.WithMerges(1000, 2000, 2))
	if err := db.LimitPages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil; { // until the file is full
		_, err = db.Entries().Append(t.Context(), "acme", c.entries("acme", 1))
	}
	if err := db.LimitPages(t.Context(), 1); err != nil { // again, if the writer has connected again
		t.Fatal(err)
	}
	var full *audit.UnavailableError
	if err := db.MergeAll(t.Context()); !errors.As(err, &full) {
		t.Errorf("a merge in a full file has error %v, want an UnavailableError", err)
	}
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n)
	if err := db.LimitPages(t.Context(), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := db.MergeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	byLevel, others, err := db.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if byLevel[0] > 0 || others > 0 {
		t.Errorf("segments by level: %v, %d not in use; want none of level 0 and all in use", byLevel, others)
	}
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n)
}

// mergeCrashFile makes the test binary the child that TestKilledMergesLoseNothing kills.
var mergeCrashFile = flag.String("mergecrash.file", "", "index and merge in this file until killed (used by the crash test itself)")

// TestKilledMergesLoseNothing kills a process that indexes, removes and merges, at random moments.
func TestKilledMergesLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	unfinished := int64(0)
	for range rounds {
		child := exec.Command(os.Args[0], "-test.run=^TestMergeCrashChild$", "-test.timeout=1m", "-mergecrash.file="+path)
		var output bytes.Buffer
		child.Stderr = &output
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the child said %q (%v), want that it has written something", line, err)
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil || strings.Contains(output.String(), "panic") {
			t.Fatalf("the child ended by itself: %s", output.String())
		}
		unfinished += selectInt(t, path, `SELECT count(*) FROM segments WHERE state != 1`)
		db := openAt(t, path, manyMerges())
		checkTerms(t, db)
		eraseSpace(t, db)
		checkTerms(t, db)
		total := countWord(t, db, "acme", "crash")
		stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if int64(total) != stats.Total {
			t.Errorf("%d entries are found by a word, want all %d", total, stats.Total)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if unfinished == 0 && !testing.Short() {
		t.Error("no segment was unfinished or retired after any kill, want some: the test checks little")
	}
	checkFile(t, path)
}

// TestMergeCrashChild is the process that TestKilledMergesLoseNothing kills.
func TestMergeCrashChild(t *testing.T) {
	if *mergeCrashFile == "" {
		t.Skip("only TestKilledMergesLoseNothing runs this")
	}
	db, err := sqlite.Open(t.Context(), *mergeCrashFile, sqlite.WithMerges(3, 12, 2))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		go func() {
			g := newCorpus()
			g.rnd = rand.New(rand.NewPCG(rand.Uint64(), 0))
			for n := 0; ; n++ {
				if err := crashIndexing(db, g); err != nil {
					panic(err)
				}
				if n == 10 {
					_, _ = fmt.Println("written")
				}
			}
		}()
	}
	select {}
}

func crashIndexing(db *sqlite.DB, g *corpus) error {
	ctx := context.Background()
	entries := g.entries("acme", 10)
	for i := range entries {
		entries[i].Message += " crash"
		binary.BigEndian.PutUint64(entries[i].ID[8:], g.rnd.Uint64())
	}
	if _, err := db.Entries().Append(ctx, "acme", entries); err != nil {
		return err
	}
	if _, err := search.PutEntries(ctx, db.Index(), "acme", entries); err != nil {
		return err
	}
	return db.Index().Remove(ctx, "acme", idsOf(entries[:g.rnd.IntN(5)]))
}

// writeFTS5File writes a file of the last version that used FTS5, with entries of two tenants.
func writeFTS5File(t *testing.T, path string, byTenant map[audit.TenantID][]audit.Entry) {
	t.Helper()
	current := filepath.Join(t.TempDir(), "current.db")
	db := openAt(t, current)
	for tenant, entries := range byTenant {
		for n := 0; n < len(entries); n += 500 {
			storeIndexed(t, db, tenant, entries[n:min(n+500, len(entries))])
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	migrations := sqlite.MigrationsBefore("rebuilt_terms")
	var script strings.Builder
	fmt.Fprintf(&script, `PRAGMA page_size = 8192; PRAGMA journal_mode = wal; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; ATTACH '%s' AS c; BEGIN; `,
		strings.Join(migrations, "\n"), sqlite.ApplicationID, len(migrations), current)
	for _, table := range []string{"tenant_numbers", "entries", "recent_docs", "doc_blocks", "indexed_keys", "recent_facets", "facet_blocks", "rollups", "user_days"} {
		fmt.Fprintf(&script, `INSERT INTO %[1]s SELECT * FROM c.%[1]s; `, table)
	}
	script.WriteString(`DROP TABLE unpacked_entries; DROP TABLE unpacked_facets;
		INSERT INTO terms (rowid, body) SELECT key, tenant || 'a ' || tenant || 'wolder ' || tenant || 't' || key || 'zqxmarker' FROM indexed_keys ORDER BY key;
		DELETE FROM terms WHERE rowid IN (SELECT key FROM indexed_keys LIMIT 10); INSERT INTO pending_merge VALUES (1); COMMIT`)
	execSQL(t, path, script.String())
}

// TestOlderTermsAreBuiltAgain opens a file that has a table of FTS5.
func TestOlderTermsAreBuiltAgain(t *testing.T) {
	older := filepath.Join(t.TempDir(), "older.db")
	byTenant := map[audit.TenantID][]audit.Entry{"acme": newCorpus().entries("acme", 5000), "globex": newCorpus().entries("globex", 300)}
	for _, entries := range byTenant {
		for i := range entries {
			entries[i].Message += " everywhere"
		}
	}
	writeFTS5File(t, older, byTenant)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if db, err := sqlite.Open(ctx, older); err == nil { // it is ended meanwhile, or fast
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db := openAt(t, older)
	checkTerms(t, db)
	for tenant, entries := range byTenant {
		wantFound(t, db, tenant, "everywhere", len(entries))
		wantFoundAll(t, db, tenant, len(entries))
	}
	wantFound(t, db, "acme", "older", 0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := selectInt(t, older, `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'terms%' OR name IN ('rebuilt_terms', 'pending_merge')`); n != 0 {
		t.Errorf("%d older tables are left, want none", n)
	}
	wantErased(t, older)
	checkFile(t, older)
}

// TestAPurgedKeyIsUsedAgain: between the purges of a tenant's entries and of its index, entries of another
// one get the same keys.
func TestAPurgedKeyIsUsedAgain(t *testing.T) {
	db := open(t)
	const n = 20
	storeIndexed(t, db, "acme", markedEntries("acme", n, "here"))
	purgeStore(t, "entries", db.Entries(), "acme", 1000)
	storeIndexed(t, db, "globex", markedEntries("globex", n, "here"))
	checkTerms(t, db)
	purgeStore(t, "index", db.Index(), "acme", 1000)
	checkTerms(t, db)
	wantFoundAll(t, db, "globex", n)
}

// TestLargeSegmentsHaveManyPages: the tokens of a few large entries are not one page.
func TestLargeSegmentsHaveManyPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.db")
	db := openAt(t, path)
	const n = 40
	entries := newCorpus().entries("acme", n)
	random := rand.New(rand.NewPCG(5, 6))
	for i := range entries {
		var words strings.Builder
		for range 4000 {
			fmt.Fprintf(&words, "%x ", random.Uint64())
		}
		entries[i].Message = "everywhere " + words.String()
	}
	storeIndexed(t, db, "acme", entries)
	if bytes := selectInt(t, path, `SELECT max(length(data)) FROM segment_pages`); bytes > 1<<20 {
		t.Errorf("a page has %d bytes, want at most 1 MiB", bytes)
	}
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n)
	if err := db.Index().Remove(t.Context(), "acme", idsOf(entries[:n/2])); err != nil {
		t.Fatal(err)
	}
	wantFound(t, db, "acme", "everywhere", n/2)
	eraseSpace(t, db)
	checkTerms(t, db)
	wantFound(t, db, "acme", "everywhere", n/2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
}

// TestADamagedOlderDocument: the file opens, and the other entries are found.
func TestADamagedOlderDocument(t *testing.T) {
	older := filepath.Join(t.TempDir(), "older.db")
	entries := newCorpus().entries("acme", 500)
	for i := range entries {
		entries[i].Message += " everywhere"
	}
	writeFTS5File(t, older, map[audit.TenantID][]audit.Entry{"acme": entries})
	block := selectInt(t, older, `SELECT min(number) FROM doc_blocks`)
	lost := int(selectInt(t, older, fmt.Sprintf(`SELECT count(*) FROM entries WHERE block = %d`, block)))
	if lost == 0 || lost == len(entries) {
		t.Fatalf("the block has %d of %d entries, want some", lost, len(entries))
	}
	execSQL(t, older, fmt.Sprintf(`UPDATE doc_blocks SET docs = x'00' WHERE number = %d`, block))
	db := openAt(t, older)
	if got, want := countWord(t, db, "acme", "everywhere"), len(entries)-lost; got != want {
		t.Errorf("found %d entries, want the %d of other blocks", got, want)
	}
}
