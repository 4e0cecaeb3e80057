package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// QuarantineStore is a quarantine.
type QuarantineStore interface {
	quarantine.Store
	jobs.CountedPurger
}

// Quarantine tests an adapter of quarantine.Store and jobs.CountedPurger.
func Quarantine(t *testing.T, open func(t *testing.T) QuarantineStore) {
	for name, test := range map[string]func(t *testing.T, s QuarantineStore){
		"ListsAndReadsWhatWasPut":   quarantineReadsBack,
		"PuttingAgainKeepsTheFirst": quarantineIsIdempotent,
		"TellsWhatExists":           quarantineTellsWhatExists,
		"ListsOneResource":          quarantineListsResources,
		"ReplaceIsConditional":      quarantineReplaces,
		"ReplacingAtOnceLosesNone":  quarantineReplacesAtOnce,
		"DeleteRemovesOne":          quarantineDeletes,
		"TenantsAreApart":           quarantineKeepsTenantsApart,
		"PurgeForgetsOneTenant":     quarantinePurges,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func newItem(g *generator) quarantine.Item {
	e := g.record().Entry
	return quarantine.Item{
		ID: randomHex(16), Step: pick(g, audit.StepPersist, audit.StepIndex), Code: audit.CodeUnstorable, Reason: "cannot be stored",
		QuarantinedAt: epoch.Add(time.Hour), Entry: e,
	}
}

func newItems(g *generator, n int) []quarantine.Item {
	items := make([]quarantine.Item, n)
	for i := range items {
		items[i] = newItem(g)
	}
	slices.SortFunc(items, func(a, b quarantine.Item) int { return cmp.Compare(a.ID, b.ID) })
	return items
}

func sameItems(t *testing.T, got, want []quarantine.Item) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d items, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.ID != w.ID {
			t.Fatalf("item %d has the id %s, want %s", i, g.ID, w.ID)
		}
		if g.Step != w.Step {
			t.Fatalf("item %d has the step %q, want %q", i, g.Step, w.Step)
		}
		if g.Code != w.Code {
			t.Fatalf("item %d has the code %q, want %q", i, g.Code, w.Code)
		}
		if g.Reason != w.Reason {
			t.Fatalf("item %d has the reason %q, want %q", i, g.Reason, w.Reason)
		}
		if !g.QuarantinedAt.Equal(w.QuarantinedAt) {
			t.Fatalf("item %d is quarantined at %v, want %v", i, g.QuarantinedAt, w.QuarantinedAt)
		}
		sameEntries(t, []audit.Entry{g.Entry}, []audit.Entry{w.Entry})
	}
}

// listItems pages through the quarantine.
func listItems(t *testing.T, s QuarantineStore, tenant audit.TenantID, limit int, resources ...quarantine.Resource) []quarantine.Item {
	t.Helper()
	var all []quarantine.Item
	after := ""
	for {
		items, more, err := s.List(t.Context(), tenant, resources, after, limit)
		noError(t, err)
		all = append(all, items...)
		if !more {
			return all
		}
		if len(items) != limit {
			t.Fatalf("got %d items and more, want %d items before more follow", len(items), limit)
		}
		after = items[len(items)-1].ID
	}
}

func quarantineReadsBack(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 40)
	sameItems(t, listItems(t, s, g.tenant, 10), nil)
	items := newItems(g, 12)
	e := items[0].Entry // as what is left of a discarded item, which comes after the others
	items = append(items, quarantine.Item{ID: "x-" + randomHex(16), Step: audit.StepIndex, QuarantinedAt: epoch, Entry: audit.Entry{
		ID: e.ID, Tenant: e.Tenant, Timestamp: e.Timestamp, ReceivedAt: e.ReceivedAt, Action: e.Action, Severity: e.Severity, SubmittedBy: e.SubmittedBy, Digest: e.Digest,
		Encrypted: []audit.Encrypted{{Paths: []string{"/message"}, Key: "u", Generation: 2, Tokens: []audit.ValueToken{{9}}}},
	}})
	noError(t, s.Put(t.Context(), g.tenant, items))
	for _, limit := range []int{1, 5, 12, 100} {
		sameItems(t, listItems(t, s, g.tenant, limit), items)
	}
	for _, want := range items {
		sameItems(t, []quarantine.Item{must[quarantine.Item](t)(s.Item(t.Context(), g.tenant, want.ID))}, []quarantine.Item{want})
	}
	_, err := s.Item(t.Context(), g.tenant, randomHex(16))
	wantError(t, err, audit.ErrNotFound)
}

func quarantineTellsWhatExists(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 47)
	items := newItems(g, 3)
	ids := []string{items[2].ID, randomHex(16), items[0].ID}
	wantExisting := func(tenant audit.TenantID, ids []string, want ...string) {
		t.Helper()
		got := must[[]string](t)(s.Existing(t.Context(), tenant, ids))
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("got the ids %q, want %q", got, want)
		}
	}
	wantExisting(g.tenant, ids)
	noError(t, s.Put(t.Context(), g.tenant, items))
	wantExisting(g.tenant, ids, items[0].ID, items[2].ID)
	wantExisting(g.tenant, nil)
	wantExisting(g.tenant+"-2", ids)
	noError(t, s.Delete(t.Context(), g.tenant, items[0].ID))
	wantExisting(g.tenant, ids, items[2].ID)
}

func quarantineListsResources(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 46)
	items := newItems(g, 30)
	for i := range items {
		e := &items[i].Entry
		switch i % 10 {
		case 3:
			e.ResourceType, e.ResourceID = "order", "1"
		case 5:
			e.ResourceType, e.ResourceID = "order", ""
		case 9:
			e.ResourceType, e.ResourceID = "user", "1"
		default:
			e.ResourceType, e.ResourceID = "Order", "1"
		}
	}
	noError(t, s.Put(t.Context(), g.tenant, items))
	resource := func(kind, id string) quarantine.Resource { return quarantine.Resource{Type: kind, ID: id} }
	for _, resources := range [][]quarantine.Resource{
		{resource("order", "")}, {resource("order", "1")}, {resource("order", "1"), resource("user", "")}, {resource("user", "1"), resource("order", ""), resource("order", "1")},
		{resource("1", "order")}, {resource("user", "2")},
	} {
		var want []quarantine.Item
		for _, item := range items {
			if slices.ContainsFunc(resources, func(r quarantine.Resource) bool {
				return r.Type == item.Entry.ResourceType && (r.ID == "" || r.ID == item.Entry.ResourceID)
			}) {
				want = append(want, item)
			}
		}
		for _, limit := range []int{1, 2, 3, 100} {
			sameItems(t, listItems(t, s, g.tenant, limit, resources...), want)
		}
	}
}

func quarantineIsIdempotent(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 41)
	item := newItem(g)
	noError(t, s.Put(t.Context(), g.tenant, []quarantine.Item{item}))
	later := item
	later.QuarantinedAt, later.Reason = item.QuarantinedAt.Add(time.Hour), "another reason"
	noError(t, s.Put(t.Context(), g.tenant, []quarantine.Item{later, later}))
	sameItems(t, listItems(t, s, g.tenant, 10), []quarantine.Item{item})
}

// replaced returns the item with another entry of the same id.
func replaced(item quarantine.Item, message, resource string) quarantine.Item {
	item.Entry.Message, item.Entry.ResourceType, item.Entry.ResourceID = message, "replaced", resource
	return item
}

func quarantineReplaces(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 47)
	items := newItems(g, 3)
	noError(t, s.Put(t.Context(), g.tenant, items))
	first, second := replaced(items[1], "first", "1"), replaced(items[1], "second", "2")
	for range 2 { // the second time as after a lost answer
		noError(t, s.Replace(t.Context(), g.tenant, items[1], first.Entry))
	}
	wantError(t, s.Replace(t.Context(), g.tenant, items[1], second.Entry), audit.ErrPrecondition)
	sameItems(t, listItems(t, s, g.tenant, 10), []quarantine.Item{items[0], first, items[2]})
	noError(t, s.Replace(t.Context(), g.tenant, first, second.Entry))
	sameItems(t, listItems(t, s, g.tenant, 10), []quarantine.Item{items[0], second, items[2]})
	for id, want := range map[string][]quarantine.Item{"1": nil, "2": {second}} {
		sameItems(t, listItems(t, s, g.tenant, 10, quarantine.Resource{Type: "replaced", ID: id}), want)
	}
	wantError(t, s.Replace(t.Context(), g.tenant+"-2", items[0], first.Entry), audit.ErrNotFound)
	noError(t, s.Delete(t.Context(), g.tenant, items[0].ID))
	wantError(t, s.Replace(t.Context(), g.tenant, items[0], first.Entry), audit.ErrNotFound)
	sameItems(t, listItems(t, s, g.tenant, 10), []quarantine.Item{second, items[2]})
}

// quarantineReplacesAtOnce has workers add a word each to the same entry: each replaces what it read.
func quarantineReplacesAtOnce(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 48)
	item := newItem(g)
	item.Entry.Message = ""
	noError(t, s.Put(t.Context(), g.tenant, []quarantine.Item{item}))
	const workers = 4
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			for {
				read, err := s.Item(t.Context(), g.tenant, item.ID)
				if err == nil {
					changed := read.Entry
					changed.Message += fmt.Sprint(n)
					err = s.Replace(t.Context(), g.tenant, read, changed)
				}
				if !errors.Is(err, audit.ErrPrecondition) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	group.Wait()
	words := []byte(must[quarantine.Item](t)(s.Item(t.Context(), g.tenant, item.ID)).Entry.Message)
	slices.Sort(words)
	if got, want := string(words), "0123"; got != want {
		t.Errorf("the entry has the words %q, want %q", got, want)
	}
}

func quarantineDeletes(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 42)
	items := newItems(g, 3)
	noError(t, s.Put(t.Context(), g.tenant, items))
	noError(t, s.Delete(t.Context(), g.tenant, items[1].ID))
	wantError(t, s.Delete(t.Context(), g.tenant, items[1].ID), audit.ErrNotFound)
	sameItems(t, listItems(t, s, g.tenant, 10), []quarantine.Item{items[0], items[2]})
}

func quarantineKeepsTenantsApart(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 43)
	other := g.tenant + "-2"
	items := newItems(g, 3)
	noError(t, s.Put(t.Context(), g.tenant, items))
	sameItems(t, listItems(t, s, other, 10), nil)
	_, err := s.Item(t.Context(), other, items[0].ID)
	wantError(t, err, audit.ErrNotFound)
	wantError(t, s.Delete(t.Context(), other, items[0].ID), audit.ErrNotFound)
	same := items[0] // the same id in another tenant is another item
	same.Reason, same.Entry.Tenant = "theirs", other
	noError(t, s.Put(t.Context(), other, []quarantine.Item{same}))
	noError(t, s.Delete(t.Context(), g.tenant, same.ID))
	sameItems(t, listItems(t, s, other, 10), []quarantine.Item{same})
	sameItems(t, listItems(t, s, g.tenant, 10), items[1:])
}

func quarantinePurges(t *testing.T, s QuarantineStore) {
	g := newGenerator(newTenant(t), 44)
	other := g.tenant + "-2"
	kept := newItem(newGenerator(other, 45))
	noError(t, s.Put(t.Context(), g.tenant, newItems(g, 25)))
	noError(t, s.Put(t.Context(), other, []quarantine.Item{kept}))
	if n := purgeAll(t, s, g.tenant, 10); n != 25 {
		t.Fatalf("Purge removed %d items, want 25", n)
	}
	sameItems(t, listItems(t, s, g.tenant, 10), nil)
	sameItems(t, listItems(t, s, other, 10), []quarantine.Item{kept})
}
