package localcloud_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// embeddedEntries and serverEntries are how many entries the tests have at least whose faults concern the archive,
// retention and deletion. Workers are killed while they handle these. Each acknowledged entry has to be exactly once
// where it belongs then: in the store, in the index and in the archive.
const (
	embeddedEntries = 100_000
	serverEntries   = 10_000
)

// acknowledged are the entries that the service has accepted from a test.
type acknowledged struct {
	mu    sync.Mutex
	users map[audit.EntryID]string // that have them
}

// sendEach sends entries in bulks, and notes them as acknowledged. No entry is sent twice.
func (r *retained) sendEach(n int, entry func(i int) (user, text string)) {
	r.t.Helper()
	users, texts := make([]string, n), make([]string, n)
	for i := range n {
		users[i], texts[i] = entry(i)
	}
	for len(texts) > 0 {
		size := min(len(texts), audit.MaxBulkEntries)
		var got bulkAnswer
		r.admin.do("POST", "/logs/bulk", "["+strings.Join(texts[:size], ",")+"]", nil).decode(r.t, &got)
		if got.Accepted != size || len(got.Items) != size {
			r.t.Errorf("bulk: %d entries were accepted and %d answered, want %d", got.Accepted, len(got.Items), size)
			return
		}
		ids := make([]audit.EntryID, size)
		for _, item := range got.Items {
			var err error
			if ids[item.Index], err = audit.ParseEntryID(item.ID); err != nil {
				r.t.Error(err)
			}
		}
		if added := r.sent.add(ids, users); added != size {
			r.t.Errorf("bulk: %d entries got ids of their own, want %d", added, size)
		}
		users, texts = users[size:], texts[size:]
	}
}

// add notes entries and their users. It returns how many of the entries are new.
func (a *acknowledged) add(ids []audit.EntryID, users []string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == nil {
		a.users = map[audit.EntryID]string{}
	}
	before := len(a.users)
	for i, id := range ids {
		a.users[id] = users[i]
	}
	return len(a.users) - before
}

// acknowledgedIf returns the acknowledged entries that are chosen by their ids and users.
func (r *retained) acknowledgedIf(chosen func(id audit.EntryID, user string) bool) map[audit.EntryID]bool {
	r.sent.mu.Lock()
	defer r.sent.mu.Unlock()
	ids := map[audit.EntryID]bool{}
	for id, user := range r.sent.users {
		if chosen(id, user) {
			ids[id] = true
		}
	}
	return ids
}

// acknowledgedBefore returns the acknowledged entries with a timestamp before a time.
func (r *retained) acknowledgedBefore(to time.Time) map[audit.EntryID]bool {
	return r.acknowledgedIf(func(id audit.EntryID, _ string) bool { return id.Time().Before(to) })
}

// acknowledgedFrom returns the acknowledged entries with a timestamp at a time or later.
func (r *retained) acknowledgedFrom(from time.Time) map[audit.EntryID]bool {
	return r.acknowledgedIf(func(id audit.EntryID, _ string) bool { return !id.Time().Before(from) })
}

// idsIn returns the ids that the store or the index has of the tenant.
func (r *retained) idsIn(list search.IDLister, to time.Time) map[audit.EntryID]bool {
	r.t.Helper()
	ids := map[audit.EntryID]bool{}
	var after audit.EntryID
	for {
		page, err := list.IDs(r.t.Context(), r.admin.tenant, time.Time{}, to, after, search.MaxIDs)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(page) == 0 {
			return ids
		}
		for _, id := range page {
			if ids[id] {
				r.t.Errorf("entry %s is listed twice", id)
			}
			ids[id] = true
		}
		after = page[len(page)-1]
	}
}

// stored returns the ids of the tenant's entries before a time.
func (r *retained) stored(to time.Time) map[audit.EntryID]bool {
	r.t.Helper()
	return r.idsIn(r.services.Stores.Entries, to)
}

// own returns the ids of the stored entries that the service wrote. Their timestamps are from the time of the test.
func (r *retained) own() map[audit.EntryID]bool {
	r.t.Helper()
	return r.retainedIDs(retention.Selection{From: r.began}, true)
}

// retainedIDs returns the ids of the stored entries of a selection that the service wrote, or those of the others.
func (r *retained) retainedIDs(of retention.Selection, own bool) map[audit.EntryID]bool {
	r.t.Helper()
	ids := map[audit.EntryID]bool{}
	for {
		page, err := r.services.Stores.Entries.Retained(r.t.Context(), r.admin.tenant, of, retention.MaxEntries)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(page) == 0 {
			return ids
		}
		for i := range page {
			if (page[i].SubmittedBy == audit.SubmittedByService) == own {
				ids[page[i].ID] = true
			}
		}
		of.After = page[len(page)-1].ID
	}
}

// wantOnly checks that the store and the index have these entries, and no others beside those that the service wrote. It
// waits for that, because an index shows what was written after a second.
func (r *retained) wantOnly(when string, want map[audit.EntryID]bool) {
	r.t.Helper()
	var wrong []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		wrong = nil
		own := r.own()
		for place, list := range map[string]search.IDLister{"store": r.services.Stores.Entries, "index": r.services.Stores.Index} {
			got := r.idsIn(list, time.Time{})
			maps.DeleteFunc(got, func(id audit.EntryID, _ bool) bool { return own[id] })
			wrong = append(wrong, differences(when+": the "+place, got, want)...)
		}
		if len(wrong) == 0 {
			return
		}
	}
	r.t.Error(strings.Join(wrong, "\n"))
}

// wantSame checks that a place has exactly these entries.
func (r *retained) wantSame(place string, got, want map[audit.EntryID]bool) {
	r.t.Helper()
	for _, wrong := range differences(place, got, want) {
		r.t.Error(wrong)
	}
}

// differences says which entries a place lacks, and which it has too many.
func differences(place string, got, want map[audit.EntryID]bool) (all []string) {
	const named = 5
	for what, of := range map[string][2]map[audit.EntryID]bool{"lacks": {want, got}, "has too many": {got, want}} {
		var ids []audit.EntryID
		for id := range of[0] {
			if !of[1][id] {
				ids = append(ids, id)
			}
		}
		if len(ids) > 0 {
			slices.SortFunc(ids, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
			all = append(all, fmt.Sprintf("%s %s: %d of %d entries, the first are %v", place, what, len(ids), len(of[0]), ids[:min(len(ids), named)]))
		}
	}
	return all
}
