package erasure_test

import (
	"bytes"
	"context"
	"encoding/base32"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// matchable stores and indexes an entry of a user with a value of user-42 and a token.
func (w *world) matchable(user string, value encrypted, token audit.ValueToken) audit.EntryID {
	w.t.Helper()
	e := w.storedOnly(user, value, token)
	if _, err := search.PutEntries(w.t.Context(), w.db.Index(), "acme", []audit.Entry{e}); err != nil {
		w.t.Fatal(err)
	}
	return e.ID
}

// storedOnly stores such an entry, which the index lacks.
func (w *world) storedOnly(user string, value encrypted, token audit.ValueToken) audit.Entry {
	w.t.Helper()
	value.element.Tokens = []audit.ValueToken{token}
	at := w.now.Add(-time.Hour)
	e := audit.Entry{
		ID: audit.NewEntryID(at, [10]byte(token[:10])), Tenant: "acme", UserID: user, Action: "VIEW", ResourceType: "order", Timestamp: at, ReceivedAt: w.now,
		Encrypted: []audit.Encrypted{value.element},
	}
	if _, err := w.db.Entries().Append(w.t.Context(), "acme", []audit.Entry{e}); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// wantFound checks which entry is found by a token, zero for none, and whether the file has its term.
func (w *world) wantFound(token audit.ValueToken, want audit.EntryID) {
	w.t.Helper()
	page, err := w.db.Index().Find(w.t.Context(), "acme", audit.Filter{Where: audit.HasToken{Token: token}}, audit.PageRequest{Order: audit.OldestFirst, Limit: 10})
	if err != nil {
		w.t.Fatal(err)
	}
	var got audit.EntryID
	for i := range page.Entries {
		got = page.Entries[i].ID
	}
	if got != want {
		w.t.Errorf("found the entry %s by the token %x, want %s", got, token, want)
	}
	file, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	term := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(token[:]))
	if has := bytes.Contains(file, []byte(term)); has && want.IsZero() {
		w.t.Errorf("the file has the term %s, want it to be gone", term)
	}
}

// TestAnErasureWaitsForTheIndex: of an entry that the index lacks at first, the tokens go too.
func TestAnErasureWaitsForTheIndex(t *testing.T) {
	w := newWorld(t)
	w.runner.Lag = &search.Lag{Store: w.db.Entries(), Index: w.db.Index(), Reader: w.db.Entries(), Rejected: noneRejected{}, Now: w.clock}
	token := audit.ValueToken{1, 2, 3, 15: 4}
	late := w.storedOnly("ann", w.encrypt(w.process(), 1), token)
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(2)
	w.wantState(e.ID, jobs.StateRunning)
	if _, err := search.PutEntries(t.Context(), w.db.Index(), "acme", []audit.Entry{late}); err != nil {
		t.Fatal(err)
	}
	w.work(2) // the first waits for all copies of the index
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantFound(token, audit.EntryID{})
	stored, err := w.db.Entries().Entry(t.Context(), "acme", late.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := stored.Encrypted[0].Tokens; len(got) > 0 {
		t.Errorf("the stored entry has the tokens %x, want none", got)
	}
}

// replacing is an index whose Put replaces an entry, and that notes what is removed.
type replacing struct {
	erasure.Index
	rejects audit.EntryID
	removed []audit.EntryID
}

func (x *replacing) Put(ctx context.Context, batches []search.Batch) []search.PutResult {
	for i := range batches[0].Entries {
		if len(batches) == 1 && batches[0].Entries[i].ID == x.rejects {
			return []search.PutResult{{Rejections: []audit.Rejection{{Index: i, Code: "refused", Reason: "as a newer version of the index does"}}}}
		}
	}
	for _, b := range batches {
		if err := x.Index.Remove(ctx, b.Tenant, audit.IDsOf(b.Entries)); err != nil {
			return []search.PutResult{{Err: err}}
		}
	}
	return x.Index.Put(ctx, batches)
}

func (x *replacing) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	x.removed = append(x.removed, ids...)
	return x.Index.Remove(ctx, tenant, ids)
}

// TestAnErasureRemovesNoEntryFromAnIndexThatReplaces: an export would lack it.
func TestAnErasureRemovesNoEntryFromAnIndexThatReplaces(t *testing.T) {
	w := newWorld(t)
	index := &replacing{Index: w.db.Index()}
	w.runner.Index, w.runner.PutReplaces = index, true
	token := audit.ValueToken{1, 2, 3, 15: 4}
	entry := w.storedOnly("ann", w.encrypt(w.process(), 1), token)
	if _, err := search.PutEntries(t.Context(), w.db.Index(), "acme", []audit.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	w.wantFound(token, entry.ID)
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantFound(token, audit.EntryID{})
	if len(index.removed) > 0 {
		t.Errorf("removed %v from the index, want nothing removed", index.removed)
	}
	if has, err := w.db.Index().Contains(t.Context(), "acme", entry.ID); err != nil {
		t.Fatal(err)
	} else if !has {
		t.Error("the index lacks the entry, want it there")
	}
}

// TestAnErasureRemovesWhatTheIndexRejectsNow: what the index keeps has the tokens.
func TestAnErasureRemovesWhatTheIndexRejectsNow(t *testing.T) {
	w := newWorld(t)
	token := audit.ValueToken{1, 2, 3, 15: 4}
	entry := w.matchable("ann", w.encrypt(w.process(), 1), token)
	index := &replacing{Index: w.db.Index(), rejects: entry}
	w.runner.Index, w.runner.PutReplaces = index, true
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantFound(token, audit.EntryID{})
	if !slices.Contains(index.removed, entry) {
		t.Errorf("removed %v from the index, want %s too", index.removed, entry)
	}
}

// noneRejected is a search.Rejected.
type noneRejected struct{}

func (noneRejected) Contains(_ context.Context, _ audit.TenantID, _ string, entries []audit.Entry) ([]bool, error) {
	return make([]bool, len(entries)), nil
}

// TestAnErasureDropsTokens: of the erased key, in the store and the index. The entries stay.
func TestAnErasureDropsTokens(t *testing.T) {
	w := newWorld(t)
	erased, other := audit.ValueToken{1, 2, 3, 15: 4}, audit.ValueToken{5, 6, 7, 15: 8}
	before := w.encrypt(w.process(), 1)
	of := w.matchable("ann", before, erased)
	w.wantFound(erased, of)
	e := w.create(0)
	w.work(1)
	w.wantFound(erased, of)
	after := w.matchable("ann", w.encrypt(w.process(), 2), other)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantFound(erased, audit.EntryID{})
	w.wantFound(other, after)
	stored, err := w.db.Entries().Entry(t.Context(), "acme", of)
	if err != nil {
		t.Fatal(err)
	}
	if got := stored.Encrypted[0].Tokens; len(got) > 0 {
		t.Errorf("the stored entry has the tokens %x, want none", got)
	}
	if got := stored.Encrypted[0].Data; !bytes.Equal(got, before.element.Data) {
		t.Errorf("the stored entry has other encrypted values: %x, want %x", got, before.element.Data)
	}
	if found, err := w.db.Index().Contains(t.Context(), "acme", of); err != nil || !found {
		t.Errorf("the index has the entry: %t with error %v, want it to", found, err)
	}
}

// TestAnErasureDropsTokensInQuarantine: of entries that the index refused, and of those that no store has. The
// items stay.
func TestAnErasureDropsTokensInQuarantine(t *testing.T) {
	w := newWorld(t)
	first, second, kept := audit.ValueToken{1, 2, 3, 15: 4}, audit.ValueToken{2, 2, 3, 15: 4}, audit.ValueToken{3, 2, 3, 15: 4}
	value := w.encrypt(w.process(), 1)
	refused := w.storedOnly("ann", value, first)
	unstored := refused
	unstored.ID = audit.NewEntryID(w.now, [10]byte{9})
	unstored.Encrypted = slices.Clone(refused.Encrypted)
	unstored.Encrypted[0].Tokens = []audit.ValueToken{second}
	other := unstored
	other.ID = audit.NewEntryID(w.now, [10]byte{8})
	other.Encrypted = slices.Clone(refused.Encrypted)
	other.Encrypted[0].Generation, other.Encrypted[0].Tokens = value.element.Generation+1, []audit.ValueToken{kept}
	service := &quarantine.Service{Store: w.db.Quarantine(), Now: w.clock}
	add := func(step string, e audit.Entry) {
		t.Helper()
		if err := service.Add(t.Context(), "acme", step, []audit.Entry{e}, []audit.Rejection{{Code: "x", Reason: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	add(audit.StepIndex, refused)
	add(audit.StepPersist, unstored)
	add(audit.StepPersist, other)
	before, _, err := w.db.Quarantine().List(t.Context(), "acme", nil, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	after, _, err := w.db.Quarantine().List(t.Context(), "acme", nil, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Fatalf("the quarantine has %d items, want %d", len(after), len(before))
	}
	for i, item := range after {
		if item.ID != before[i].ID {
			t.Errorf("item %d has the id %s, want %s", i, item.ID, before[i].ID)
		}
		if got, want := len(item.Entry.Encrypted[0].Tokens) > 0, item.Entry.ID == other.ID; got != want {
			t.Errorf("item %s has tokens: got %t, want %t", item.ID, got, want)
		}
		if got, want := item.Entry.Encrypted[0].Data, value.element.Data; !bytes.Equal(got, want) {
			t.Errorf("item %s has the values %x, want %x", item.ID, got, want)
		}
	}
	stored, err := w.db.Entries().Entry(t.Context(), "acme", refused.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := stored.Encrypted[0].Tokens; len(got) > 0 {
		t.Errorf("the stored entry has the tokens %x, want none", got)
	}
}

// oneItem is a Quarantine whose slices end after one item.
type oneItem struct{ quarantine.Rewriter }

// Rewrite implements erasure.Quarantine.
func (q *oneItem) Rewrite(ctx context.Context, tenant audit.TenantID, last *string, change func(context.Context, *audit.Entry) (bool, error), _ func() bool) (bool, error) {
	done := false
	return q.Rewriter.Rewrite(ctx, tenant, last, func(ctx context.Context, e *audit.Entry) (bool, error) {
		done = true
		return change(ctx, e)
	}, func() bool { return done })
}

// TestAnErasureContinuesInQuarantine: a slice begins where the last one ended, however many items there are.
func TestAnErasureContinuesInQuarantine(t *testing.T) {
	w := newWorld(t)
	w.runner.Quarantine = &oneItem{quarantine.Rewriter{Store: w.db.Quarantine()}}
	e := w.storedOnly("ann", w.encrypt(w.process(), 1), audit.ValueToken{1, 2, 3, 15: 4})
	const items = 5
	service := &quarantine.Service{Store: w.db.Quarantine(), Now: w.clock}
	for i := range items {
		e.ID = audit.NewEntryID(w.now, [10]byte{byte(i)})
		if err := service.Add(t.Context(), "acme", audit.StepPersist, []audit.Entry{e}, []audit.Rejection{{Code: "x", Reason: "x"}}); err != nil {
			t.Fatal(err)
		}
	}
	job := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(items)
	w.wantState(job.ID, jobs.StateSucceeded)
	left, _, err := w.db.Quarantine().List(t.Context(), "acme", nil, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != items {
		t.Errorf("the quarantine has %d items, want %d", len(left), items)
	}
	for _, item := range left {
		if got := item.Entry.Encrypted[0].Tokens; len(got) > 0 {
			t.Errorf("item %s has the tokens %x, want none", item.ID, got)
		}
	}
}
