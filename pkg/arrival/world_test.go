package arrival_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// world is an orderer and a feed over an embedded engine.
type world struct {
	t       *testing.T
	db      *sqlite.DB
	tenants directory
	now     time.Time
	orderer *arrival.Orderer
	feed    *arrival.Feed
	sent    int
	// ahead is how far the clock of a worker that prunes is ahead of the shared one.
	ahead time.Duration
	// heldFrom is the From of a legal hold that stands; zero: none does.
	onHeld   func() // called after each look at the holds; nil: nothing
	heldFrom time.Time
}

type directory map[audit.TenantID]audit.Tenant

func (d directory) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	t, ok := d[id]
	if !ok {
		return t, audit.ErrNotFound
	}
	return t, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, db: db, now: start, tenants: directory{}}
	for _, id := range []audit.TenantID{"acme", "globex"} {
		w.tenants[id] = audit.Tenant{ID: id, Status: audit.TenantActive, Settings: audit.DefaultSettings()}
	}
	clock := func() time.Time { return w.now }
	w.orderer = &arrival.Orderer{Log: db.Arrivals(), Tenants: w.tenants, Now: clock}
	w.feed = &arrival.Feed{Log: db.Arrivals(), Reader: db.Entries(), Cursors: cursor.NewSigner(make([]byte, 32)), Now: clock}
	return w
}

// entry returns a new entry of acme that is some time old.
func (w *world) entry(age time.Duration, change func(*audit.Entry)) audit.Entry {
	w.sent++
	at := w.now.Add(-age)
	e := audit.Entry{
		ID: audit.DeriveEntryID("acme", at, fmt.Sprint(w.sent)), Tenant: "acme", UserID: "ann", Action: "CREATE", ResourceType: "order",
		ResourceID: fmt.Sprint(w.sent), Timestamp: at, ReceivedAt: w.now, SubmittedBy: "key:1",
	}
	if change != nil {
		change(&e)
	}
	return e
}

// arrival stores the entries and returns the message of their arrival.
func (w *world) arrival(number int, entries ...audit.Entry) string {
	w.t.Helper()
	if _, err := w.db.Entries().Append(w.t.Context(), entries[0].Tenant, entries); err != nil {
		w.t.Fatal(err)
	}
	a := envelope.Arrival{Message: messageID(number), Received: entries[0].ReceivedAt}
	for i := range entries {
		a.IDs = append(a.IDs, entries[i].ID)
	}
	bodies, err := envelope.PackArrivals(entries[0].Tenant, []envelope.Arrival{a})
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies[0]
}

func messageID(number int) (id audit.MessageID) {
	binary.BigEndian.PutUint64(id[8:], uint64(number)+1)
	return id
}

// arrive stores the entries and gives them their places.
func (w *world) arrive(entries ...audit.Entry) {
	w.t.Helper()
	for _, err := range w.orderer.Order(w.t.Context(), []string{w.arrival(w.sent, entries...)}) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// read reads one page of acme's feed.
func (w *world) read(query string, scope access.Scope) arrival.FeedPage {
	w.t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		w.t.Fatal(err)
	}
	page, err := w.feed.Read(w.t.Context(), w.tenants["acme"], scope, values)
	if err != nil {
		w.t.Fatal(err)
	}
	return page
}

// walk reads page after page, from the cursor to the end of the log.
func (w *world) walk(query, cursor string) (entries []audit.Entry, next string) {
	w.t.Helper()
	for pages := 0; ; pages++ {
		if cursor != "" {
			cursor = "&cursor=" + cursor
		}
		page := w.read(query+cursor, access.Scope{})
		entries, cursor = append(entries, page.Entries...), page.Next
		if !page.More {
			return entries, cursor
		}
		if pages > 10_000 {
			w.t.Fatal("the feed does not end")
		}
	}
}

// orderBy lets an orderer of its own, the nth, handle the bodies in batches.
func (w *world) orderBy(n int, bodies []string) {
	o := &arrival.Orderer{Log: w.db.Arrivals(), Tenants: w.tenants, Now: w.orderer.Now}
	for batch := range slices.Chunk(bodies, 2+n) {
		for _, err := range o.Order(w.t.Context(), batch) {
			if err != nil {
				w.t.Errorf("orderer %d: %v, want nil", n, err)
			}
		}
	}
}

// names returns the resource ids of the entries.
func names(entries []audit.Entry) string {
	texts := make([]string, len(entries))
	for i := range entries {
		texts[i] = entries[i].ResourceID
	}
	return strings.Join(texts, " ")
}

// wantDense fails unless the log of acme has these entries, each once and without a gap.
func (w *world) wantDense(want map[audit.EntryID]bool) {
	w.t.Helper()
	next, seen := int64(1), map[audit.EntryID]bool{}
	for {
		segments, err := w.db.Arrivals().Read(w.t.Context(), "acme", next-1, 100)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(segments) == 0 {
			break
		}
		for _, s := range segments {
			if s.First != next {
				w.t.Fatalf("a segment begins at %d, want %d", s.First, next)
			}
			next = s.Last() + 1
			for _, id := range s.IDs {
				if !want[id] {
					w.t.Errorf("entry %s has a place, want only what arrived", id)
				}
				if seen[id] {
					w.t.Errorf("entry %s has two places, want one", id)
				}
				seen[id] = true
			}
		}
	}
	if len(seen) != len(want) {
		w.t.Errorf("%d entries have a place, want %d", len(seen), len(want))
	}
}
