package sqlite_test

import (
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// commit takes entries of one tenant the whole way.
func commit(t *testing.T, db *sqlite.DB, tenant audit.TenantID, entries []audit.Entry) ingest.Committed {
	t.Helper()
	results := db.Committer().Commit(t.Context(), []ingest.Load{{Tenant: tenant, Entries: entries}})
	if err := results[0].Err; err != nil {
		t.Fatal(err)
	}
	return results[0]
}

// wantListed wants that the list of acme, and a search for what all its entries have, return exactly these entries
// in their order.
func wantListed(t *testing.T, db *sqlite.DB, want []audit.Entry) {
	t.Helper()
	for name, where := range map[string]audit.Expr{"all": nil, "matching": audit.Equals{Field: "metadata.service", Values: []string{"billing"}}} {
		page, err := db.Index().Find(t.Context(), "acme", audit.Filter{Where: where}, audit.PageRequest{Order: audit.OldestFirst, Limit: len(want) + 1})
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(audit.IDsOf(want), audit.IDsOf(page.Entries)); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
	stats, err := db.Index().Stats(t.Context(), "acme", audit.Filter{}, audit.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Total != int64(len(want)) {
		t.Errorf("%d entries are counted, want %d", stats.Total, len(want))
	}
}

// inOneMillisecond gives the entries consecutive ids of one millisecond.
func inOneMillisecond(entries []audit.Entry) {
	ids := audit.NewIDSequence([4]byte{3: 100})
	for i := range entries {
		at := entries[0].Timestamp
		entries[i].Timestamp, entries[i].ID = at, ids.NewEntryID(at, [10]byte(entries[i].Digest.Sum[:]))
	}
}

// TestTakenSlotsKeepTheOrder: another entry has the slot of one that is committed with others of its millisecond.
func TestTakenSlotsKeepTheOrder(t *testing.T) {
	for _, tenant := range []audit.TenantID{"acme", "globex"} { // has the other entry
		t.Run(string(tenant), func(t *testing.T) {
			db := open(t)
			entries := newCorpus().entries("acme", 100)
			inOneMillisecond(entries)
			const taken = 50
			other := newCorpus().entries(tenant, 101)[100]
			other.Timestamp, other.ID = entries[0].Timestamp, entries[taken].ID
			other.ID[15]++
			commit(t, db, tenant, []audit.Entry{other})
			result := commit(t, db, "acme", entries)
			if len(result.Rejections)+len(result.Repeated) > 0 {
				t.Errorf("got %+v, want no rejected and no repeated entry", result.Appended)
			}
			want := entries
			if tenant == "acme" {
				want = slices.Insert(slices.Clone(entries), taken, other)
			}
			wantStored(t, db, "acme", want)
			wantListed(t, db, want)
		})
	}
}

// TestCommitGoesOnAfterAnAppend: an earlier delivery of the message stored some entries and did not index them.
func TestCommitGoesOnAfterAnAppend(t *testing.T) {
	db := open(t)
	entries := newCorpus().entries("acme", 100)
	inOneMillisecond(entries)
	for _, part := range [][]audit.Entry{entries[:10], entries[40:41]} {
		if _, err := db.Entries().Append(t.Context(), "acme", part); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time, nothing is left to do
		result := commit(t, db, "acme", entries)
		if len(result.Rejections)+len(result.Repeated) > 0 {
			t.Errorf("got %+v, want no rejected and no repeated entry", result.Appended)
		}
		wantStored(t, db, "acme", entries)
		wantListed(t, db, entries)
	}
}

// TestCommitRejectsAlone: other content is stored under the identity of one entry, and a client sends another again.
func TestCommitRejectsAlone(t *testing.T) {
	db := open(t)
	entries := newCorpus().entries("acme", 100)
	inOneMillisecond(entries)
	const conflicting, repeated = 20, 70
	stored := []audit.Entry{entries[conflicting], entries[repeated]}
	stored[0].Digest.Sum[0]++
	stored[1].QueueMessage[0]++
	stored[1].ReceivedAt = stored[1].ReceivedAt.Add(-1e9)
	commit(t, db, "acme", stored)
	result := commit(t, db, "acme", entries)
	if len(result.Rejections) != 1 || result.Rejections[0].Index != conflicting {
		t.Errorf("rejections = %+v, want one of entry %d", result.Rejections, conflicting)
	}
	if !slices.Equal(result.Repeated, []int{repeated}) {
		t.Errorf("repeated = %v, want %d", result.Repeated, repeated)
	}
	wantListed(t, db, entries)
}

// TestIndexOfEntriesThatAreGone: the index has entries that are no longer stored, which a damaged file can have.
func TestIndexOfEntriesThatAreGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db := openAt(t, path)
	entries := newCorpus().entries("acme", 100)
	inOneMillisecond(entries)
	commit(t, db, "acme", entries)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execSQL(t, path, `DELETE FROM entries WHERE place % 2 = 1`)
	db = openAt(t, path)
	commit(t, db, "acme", entries)
	wantStored(t, db, "acme", entries)
	wantListed(t, db, entries)
}
