package conformance

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// CommitterUnderTest is an adapter of ingest.Committer with the stores that it writes to.
type CommitterUnderTest struct {
	ingest.Committer
	Entries  EntryStore
	Index    IndexUnderTest
	Arrivals ArrivalLog
}

// Committer tests an adapter of ingest.Committer.
func Committer(t *testing.T, open func(t *testing.T) CommitterUnderTest) {
	for name, test := range map[string]func(t *testing.T, c CommitterUnderTest){
		"TakesEntriesTheWholeWay":          committerTakesAll,
		"AMessageThatComesAgainAddsNone":   committerIsIdempotent,
		"FinishesWhatAnotherStepBegan":     committerFinishes,
		"ARepetitionHasNoPlace":            committerTellsRepetitions,
		"OtherContentIsAConflict":          committerReportsConflicts,
		"AFaultyLoadFailsAlone":            committerFailsAlone,
		"MoreThanOneTransaction":           committerTakesMany,
		"WhatTheReconcilerPlacedHasNoTwin": committerMindsRepairs,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// loadOf returns a load with n entries of each message.
func loadOf(g *generator, n int, messages ...int64) ingest.Load {
	l := ingest.Load{Tenant: g.tenant}
	for _, message := range messages {
		for range n {
			e := g.record().Entry
			e.QueueMessage = messageNumber(message)
			l.Entries = append(l.Entries, e)
		}
	}
	return l
}

// commit commits loads, which must neither fail nor have something refused or repeated.
func (c CommitterUnderTest) commit(t *testing.T, loads ...ingest.Load) {
	t.Helper()
	results := c.Commit(t.Context(), loads)
	if got, want := len(results), len(loads); got != want {
		t.Fatalf("got %d results, want %d", got, want)
	}
	for i := range results {
		noError(t, results[i].Err)
		if got := len(results[i].Rejections) + len(results[i].Unindexed); got > 0 {
			t.Fatalf("load %d: got %d refused entries, want none", i, got)
		}
		if got := results[i].Repeated; len(got) > 0 {
			t.Fatalf("load %d: got the repetitions %v, want none", i, got)
		}
	}
}

// want checks that exactly these entries of a tenant are stored, indexed and placed.
func (c CommitterUnderTest) want(t *testing.T, tenant audit.TenantID, entries []audit.Entry) {
	t.Helper()
	want := audit.IDsOf(entries)
	slices.SortFunc(want, byID)
	for name, got := range map[string][]audit.EntryID{
		"stored":  walkIDs(t, c.Entries, tenant, audit.Time{}, 1000),
		"indexed": audit.IDsOf(c.Index.walk(t, tenant, audit.Filter{}, audit.PageRequest{Limit: 1000}, false)),
		"placed":  c.placed(t, tenant),
	} {
		slices.SortFunc(got, byID)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %d entries, want these %d and no other", name, len(got), len(want))
		}
	}
}

func byID(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) }

// placed returns the ids of a tenant's arrival log, whose numbers must have no gap.
func (c CommitterUnderTest) placed(t *testing.T, tenant audit.TenantID) (placed []audit.EntryID) {
	t.Helper()
	for _, s := range must[[]arrival.Segment](t)(c.Arrivals.Read(t.Context(), tenant, 0, 1000)) {
		if got, want := s.First, int64(len(placed))+1; got != want {
			t.Errorf("a segment begins at %d, want %d", got, want)
		}
		placed = append(placed, s.IDs...)
	}
	return placed
}

func committerTakesAll(t *testing.T, c CommitterUnderTest) {
	first, second := newGenerator(newTenant(t), 1), newGenerator(newTenant(t), 2)
	loads := []ingest.Load{loadOf(first, 20, 1, 2), loadOf(second, 1, 3)}
	c.commit(t, loads...)
	for _, l := range loads {
		c.want(t, l.Tenant, l.Entries)
		for i := range l.Entries {
			got := must[audit.Entry](t)(c.Entries.Entry(t.Context(), l.Tenant, l.Entries[i].ID))
			want := l.Entries[i]
			want.QueueMessage = audit.MessageID{} // no store returns it
			sameEntries(t, []audit.Entry{got}, []audit.Entry{want})
		}
	}
	if got, want := c.placed(t, first.tenant), audit.IDsOf(loads[0].Entries); !slices.Equal(got, want) {
		t.Error("the places are in another order, want that of the load")
	}
	c.commit(t)
}

func committerIsIdempotent(t *testing.T, c CommitterUnderTest) {
	g := newGenerator(newTenant(t), 3)
	l := loadOf(g, 5, 1, 2, 3)
	more := loadOf(g, 5, 4)
	c.commit(t, ingest.Load{Tenant: g.tenant, Entries: l.Entries[:10]})
	c.commit(t, ingest.Load{Tenant: g.tenant, Entries: append(slices.Clone(l.Entries), more.Entries...)}, l)
	c.want(t, g.tenant, append(l.Entries, more.Entries...))
}

// committerFinishes: a process with other consumers stored entries, and was killed.
func committerFinishes(t *testing.T, c CommitterUnderTest) {
	g := newGenerator(newTenant(t), 4)
	l := loadOf(g, 5, 1, 2)
	appendAll(t, c.Entries, g.tenant, l.Entries[:7])
	c.Index.Put(t, g.tenant, l.Entries[:3])
	c.commit(t, l)
	c.want(t, g.tenant, l.Entries)
}

func committerTellsRepetitions(t *testing.T, c CommitterUnderTest) {
	g := newGenerator(newTenant(t), 5)
	l := loadOf(g, 1, 1, 2)
	c.commit(t, l)
	again := loadOf(g, 1, 3, 4)
	again.Entries[1] = l.Entries[0]
	again.Entries[1].QueueMessage = messageNumber(4)
	again.Entries[1].ReceivedAt = again.Entries[1].ReceivedAt.Add(time.Minute)
	result := c.Commit(t.Context(), []ingest.Load{again})[0]
	noError(t, result.Err)
	if got, want := result.Repeated, []int{1}; !slices.Equal(got, want) {
		t.Errorf("got the repetitions %v, want %v", got, want)
	}
	c.want(t, g.tenant, append(l.Entries, again.Entries[0]))
}

func committerReportsConflicts(t *testing.T, c CommitterUnderTest) {
	g := newGenerator(newTenant(t), 6)
	l := loadOf(g, 1, 1, 2)
	c.commit(t, l)
	forged := loadOf(g, 1, 3, 4, 5)
	forged.Entries[1] = l.Entries[0]
	forged.Entries[1].QueueMessage = messageNumber(4)
	forged.Entries[1].Digest.Sum[0]++
	result := c.Commit(t.Context(), []ingest.Load{forged})[0]
	noError(t, result.Err)
	if got, want := len(result.Rejections), 1; got != want {
		t.Fatalf("got %d rejections, want %d", got, want)
	}
	if got, want := result.Rejections[0].Index, 1; got != want {
		t.Errorf("entry %d was rejected, want %d", got, want)
	}
	if got, want := result.Rejections[0].Code, audit.CodeIdentityConflict; got != want {
		t.Errorf("got the code %s, want %s", got, want)
	}
	c.want(t, g.tenant, append(l.Entries, forged.Entries[0], forged.Entries[2]))
}

func committerFailsAlone(t *testing.T, c CommitterUnderTest) {
	g, other := newGenerator(newTenant(t), 7), newGenerator(newTenant(t), 8)
	l, foreign := loadOf(g, 3, 1), loadOf(other, 3, 2)
	faulty := ingest.Load{Tenant: newTenant(t), Entries: foreign.Entries}
	results := c.Commit(t.Context(), []ingest.Load{faulty, l})
	if results[0].Err == nil {
		t.Error("entries of another tenant: got no error, want one")
	}
	noError(t, results[1].Err)
	c.want(t, faulty.Tenant, nil)
	c.want(t, other.tenant, nil)
	c.want(t, g.tenant, l.Entries)
}

func committerTakesMany(t *testing.T, c CommitterUnderTest) {
	g, other := newGenerator(newTenant(t), 9), newGenerator(newTenant(t), 10)
	large := loadOf(g, 300, 1, 2, 3, 4)
	small := loadOf(other, 10, 1, 2)
	c.commit(t, large, small)
	c.want(t, g.tenant, large.Entries)
	c.want(t, other.tenant, small.Entries)
	messages := must[[]audit.MessageID](t)(c.Arrivals.Placed(t.Context(), g.tenant, []audit.MessageID{messageNumber(1), messageNumber(4), messageNumber(5)}))
	if got, want := len(messages), 2; got != want {
		t.Errorf("got %d messages with places, want %d", got, want)
	}
}

// committerMindsRepairs: a message comes after the reconciler has placed one of its entries.
func committerMindsRepairs(t *testing.T, c CommitterUnderTest) {
	g := newGenerator(newTenant(t), 11)
	l := loadOf(g, 3, 1)
	received := l.Entries[0].ReceivedAt
	appendAll(t, c.Entries, g.tenant, l.Entries[:1])
	c.Index.Put(t, g.tenant, l.Entries[:1])
	at := received.Add(2 * time.Hour).UTC().Truncate(time.Millisecond)
	noError(t, c.Arrivals.Append(t.Context(), g.tenant, arrival.Segment{
		First: 1, IDs: audit.IDsOf(l.Entries[:1]), Messages: []audit.MessageID{messageNumber(99)}, WrittenAt: at, Repair: true, RepairedAt: at,
	}))
	c.commit(t, l)
	c.want(t, g.tenant, l.Entries)
}
