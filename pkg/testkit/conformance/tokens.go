package conformance

import (
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// matched returns entries over two months with tokens beside what three keys encrypted: those of a
// subject in two generations, and the tenant's own.
func matched(g *generator) (records []record, subject protect.KeyRef) {
	subject = protect.KeyRef{Subject: protect.SubjectID{1, 2, 3}, Generation: 2}
	for i := range 150 {
		r := g.plain(epoch.Add(time.Duration(i) * 10 * time.Hour))
		r.Encrypted = []audit.Encrypted{
			{Paths: []string{"/message"}, Key: "tenant", Data: []byte{1}, Tokens: []audit.ValueToken{{1}, {2}}},
			{Paths: []string{"/metadata/a"}, Key: subject.Subject.String(), Generation: uint32(1 + i%2), Data: []byte{2}, Tokens: []audit.ValueToken{{3}, {4}}},
			{Paths: []string{"/metadata/b"}, Key: protect.SubjectID{4}.String(), Generation: 2, Data: []byte{3}, Tokens: []audit.ValueToken{{5}}},
		}
		records = append(records, r)
	}
	return records, subject
}

// storeDropsTokens: of one key among others, in some of the entries.
func storeDropsTokens(t *testing.T, s EntryStore) {
	g := newGenerator(newTenant(t), 43)
	records, key := matched(g)
	records = append(records, g.plain(epoch)) // nothing is encrypted
	other := records[1].like(g.tenant + "-2")
	other.Encrypted = slices.Clone(other.Encrypted)
	noError(t, s.DropTokens(t.Context(), g.tenant, []audit.EntryID{records[1].ID}, key)) // of a tenant that has nothing
	appendAll(t, s, g.tenant, entriesOf(records))
	appendAll(t, s, other.Tenant, []audit.Entry{other.Entry})
	var ids []audit.EntryID
	for i := range records {
		if i%3 > 0 || i == len(records)-1 {
			ids = append(ids, records[i].ID)
		}
	}
	absent := g.plain(epoch.Add(time.Hour))
	for range 2 { // the second time there is nothing left to do
		noError(t, s.DropTokens(t.Context(), g.tenant, append(ids, absent.ID), key))
	}
	for i := range records {
		if i%3 > 0 {
			protect.DropTokens(&records[i].Entry, key)
		}
		sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), g.tenant, records[i].ID))}, []audit.Entry{records[i].Entry})
	}
	sameEntries(t, []audit.Entry{must[audit.Entry](t)(s.Entry(t.Context(), other.Tenant, other.ID))}, []audit.Entry{other.Entry})
	wantError(t, s.DropTokens(cancelled(t), g.tenant, ids, key), cancelled(t).Err())
}

// indexReplacesByKey finds entries by the key of their tokens, and puts them again without.
func indexReplacesByKey(t *testing.T, x IndexUnderTest) {
	g := newGenerator(newTenant(t), 44)
	records, key := matched(g)
	x.put(t, g.tenant, records)
	of := func(token audit.ValueToken) []audit.Entry {
		t.Helper()
		return x.walk(t, g.tenant, audit.Filter{Where: audit.HasToken{Token: token}}, audit.PageRequest{Order: audit.OldestFirst, Limit: 40}, false)
	}
	found := of(key.Token())
	if len(found) != len(records)/2 {
		t.Errorf("found %d entries by the key, want %d", len(found), len(records)/2)
	}
	ids := make([]audit.EntryID, len(found))
	for i := range found {
		ids[i] = found[i].ID
		if !protect.DropTokens(&found[i], key) {
			t.Errorf("the entry %s has no token of the key, want one", ids[i])
		}
	}
	noError(t, x.Index.Remove(t.Context(), g.tenant, ids))
	if rejections := must[[]audit.Rejection](t)(search.PutEntries(t.Context(), x.Index, g.tenant, found)); len(rejections) > 0 {
		t.Fatalf("Put rejected %+v, want nothing rejected", rejections)
	}
	eventually(t, "finding them again, without the tokens", func() bool {
		return len(of(key.Token())) == 0 && len(of(audit.ValueToken{1})) == len(records)
	})
	for token, want := range map[audit.ValueToken]int{{1}: len(records), {3}: len(records) / 2, {5}: len(records)} {
		if got := len(of(token)); got != want {
			t.Errorf("found %d entries by the token %x, want %d", got, token[:1], want)
		}
	}
}
