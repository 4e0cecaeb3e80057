package sqlite_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// wantStored wants that the entries, and no others of these ids, come back as they are.
func wantStored(t *testing.T, db *sqlite.DB, tenant audit.TenantID, want []audit.Entry) {
	t.Helper()
	ids := make([]audit.EntryID, len(want))
	for i := range want {
		ids[i] = want[i].ID
	}
	got, err := db.Entries().EntriesByID(t.Context(), tenant, ids)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b audit.Entry) bool {
		return bytes.Equal(entryjson.AppendStored(nil, &a), entryjson.AppendStored(nil, &b))
	})); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// TestDocumentsComeBackHoweverTheyAreWritten writes entries of two tenants in writes of random
// sizes, some of them again, and closes the file meanwhile.
func TestDocumentsComeBackHoweverTheyAreWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	random := rand.New(rand.NewPCG(7, 7))
	corpus := newCorpus()
	stored := map[audit.TenantID][]audit.Entry{}
	for range 4 {
		db := openAt(t, path)
		for range 30 {
			tenant := []audit.TenantID{"acme", "globex"}[random.IntN(2)]
			entries := corpus.entries(tenant, 1+random.IntN([]int{2, 20, 60}[random.IntN(3)]))
			if random.IntN(4) == 0 {
				entries[0].Message = strings.Repeat("long ", 1<<random.IntN(15))
			}
			stored[tenant] = append(stored[tenant], entries...)
			for range random.IntN(3) { // repeat some
				entries = append(entries, stored[tenant][random.IntN(len(stored[tenant]))])
			}
			random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			if _, err := db.Entries().Append(t.Context(), tenant, entries); err != nil {
				t.Fatal(err)
			}
		}
		for tenant, entries := range stored {
			wantStored(t, db, tenant, entries)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if n := rows(t, path, "doc_blocks WHERE number NOT IN (SELECT block FROM entries)"); n != 0 {
			t.Errorf("%d blocks belong to no entry, want none", n)
		}
		for _, tenant := range []int{1, 2} {
			if n := rows(t, path, fmt.Sprintf("(SELECT sum(length(doc)) AS n FROM recent_docs WHERE tenant = %d) WHERE n > 64 << 10", tenant)); n != 0 {
				t.Errorf("tenant %d has more than 64 KiB of documents outside of blocks, want less", tenant)
			}
		}
	}
}

// TestRepeatsWithinABlock writes entries twice in one write, with other times of receipt for each.
func TestRepeatsWithinABlock(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "ocelot.db"))
	var want, written []audit.Entry
	for i, e := range newCorpus().entries("acme", 6) {
		e.ReceivedAt = e.ReceivedAt.Add(time.Duration(i) * time.Hour)
		want, written = append(want, e), append(written, e, e)
	}
	appended, err := db.Entries().Append(t.Context(), "acme", written)
	if err != nil {
		t.Fatal(err)
	}
	if len(appended.Repeated) > 0 || len(appended.Rejections) > 0 {
		t.Errorf("got %+v, want nothing: the same message brought both", appended)
	}
	wantStored(t, db, "acme", want)
}

// TestDocumentsOfManyBlocksAreChangedAtOnce changes entries that are in more blocks than are kept in memory, those of each
// block far from each other.
func TestDocumentsOfManyBlocksAreChangedAtOnce(t *testing.T) {
	const blocks, inBlock = 90, 2
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	entries := newCorpus().entries("acme", blocks*inBlock)
	for written := range slices.Chunk(entries, inBlock) {
		for i := range written {
			written[i].Message = strings.Repeat("long ", 2<<10)
		}
		if _, err := db.Entries().Append(t.Context(), "acme", written); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var ids []audit.EntryID
	for n := range inBlock {
		for i := n; i < len(entries); i += inBlock {
			ids, entries[i].RestoredUntil = append(ids, entries[i].ID), until
		}
	}
	if err := db.Entries().KeepRestored(t.Context(), "acme", append(ids, ids[:10]...), until); err != nil {
		t.Fatal(err)
	}
	wantStored(t, db, "acme", entries)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, path, "doc_blocks"); n != blocks {
		t.Errorf("the documents are in %d blocks, want %d", n, blocks)
	}
}

// TestPurgeRemovesDocumentsOfBlocks purges in steps that end within blocks.
func TestPurgeRemovesDocumentsOfBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	entries := newCorpus().entries("acme", 100)
	if _, err := db.Entries().Append(t.Context(), "acme", entries[:95]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Entries().Append(t.Context(), "acme", entries[95:]); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(entries, func(a, b audit.Entry) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	for removed := 0; removed < len(entries); {
		n, err := db.Entries().Purge(t.Context(), "acme", 7)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Fatalf("purge ended after %d entries, want %d", removed, len(entries))
		}
		removed += n
		wantStored(t, db, "acme", entries[removed:])
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"entries", "recent_docs", "doc_blocks"} {
		if n := rows(t, path, table); n != 0 {
			t.Errorf("%d rows in %s, want none", n, table)
		}
	}
}

// TestOlderDocumentsArePacked opens a file from before documents were in blocks.
func TestOlderDocumentsArePacked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "older.db")
	entries := newCorpus().entries("acme", 5000)
	writeOlderFile(t, path, "unpacked_entries", entries)
	db := openAt(t, path)
	wantStored(t, db, "acme", entries)
	if n := rows(t, path, "sqlite_schema WHERE name = 'unpacked_entries'"); n != 0 {
		t.Error("the older table is still there, want none")
	}
}
