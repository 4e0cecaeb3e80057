package arrival_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

// TestFeedIsInTheOrderOfArrival: whatever the timestamps and the size of pages.
func TestFeedIsInTheOrderOfArrival(t *testing.T) {
	w := newWorld(t)
	w.arrive(w.entry(0, nil), w.entry(300*24*time.Hour, nil))
	w.arrive(w.entry(time.Hour, nil))
	w.arrive(w.entry(0, nil), w.entry(30*24*time.Hour, nil), w.entry(-time.Hour, nil))
	for limit := 1; limit <= 7; limit++ {
		entries, next := w.walk(fmt.Sprint("limit=", limit), "")
		if got, want := names(entries), "1 2 3 4 5 6"; got != want {
			t.Errorf("limit %d: read %s, want %s", limit, got, want)
		}
		if more, _ := w.walk("", next); len(more) > 0 {
			t.Errorf("limit %d: after the end came %s, want nothing", limit, names(more))
		}
	}
}

// TestFeedWhileOthersWrite: a reader gets each entry once, late ones included.
func TestFeedWhileOthersWrite(t *testing.T) {
	w := newWorld(t)
	bodies, ids := w.arrivals(900)
	var running sync.WaitGroup
	for n := range 3 {
		running.Go(func() {
			o := &arrival.Orderer{Log: w.db.Arrivals(), Tenants: w.tenants, Now: w.orderer.Now}
			for i := n; i < len(bodies); i += 3 {
				for _, err := range o.Order(t.Context(), bodies[i:i+1]) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	seen, cursor := map[audit.EntryID]bool{}, ""
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		default:
		}
		var entries []audit.Entry
		entries, cursor = w.walk("limit=7", cursor)
		for i := range entries {
			if seen[entries[i].ID] {
				t.Errorf("entry %s came twice, want once", entries[i].ID)
			}
			seen[entries[i].ID] = true
		}
	}
	if len(seen) != len(ids) {
		t.Errorf("read %d entries, want %d", len(seen), len(ids))
	}
}

func TestFeedFilters(t *testing.T) {
	w := newWorld(t)
	is := func(user, action, message string) func(*audit.Entry) {
		return func(e *audit.Entry) { e.UserID, e.Action, e.Message = user, action, message }
	}
	w.arrive(w.entry(0, is("ann", "CREATE", "paid in full")), w.entry(0, is("bob", "DELETE", "")))
	w.arrive(w.entry(time.Hour, is("bob", "CREATE", "paid twice")), w.entry(0, func(e *audit.Entry) { e.ResourceType, e.UserID = "invoice", "bob" }))
	for query, want := range map[string]string{
		"user_id=bob":                                  "2 3 4",
		"user_id=bob&action=CREATE":                    "3 4",
		"q=paid%20-twice":                              "1",
		"to=" + start.Format(time.RFC3339):             "3",
		"from=" + start.Format(time.RFC3339):           "1 2 4",
		"user_id=nobody":                               "",
		"q=resource_type:invoice%20OR%20action:DELETE": "2 4",
	} {
		if entries, _ := w.walk(query, ""); names(entries) != want {
			t.Errorf("%s: read %q, want %q", query, names(entries), want)
		}
	}
	for name, test := range map[string]struct {
		scope access.Scope
		want  string
	}{
		"own":      {access.Scope{Owner: "ann"}, "1"},
		"a type":   {access.Scope{Resources: []access.Resource{{Type: "invoice"}}}, "4"},
		"resource": {access.Scope{Resources: []access.Resource{{Type: "order", ID: "2"}, {Type: "order", ID: "3"}}}, "2 3"},
	} {
		if got := names(w.read("", test.scope).Entries); got != test.want {
			t.Errorf("scope %s: read %q, want %q", name, got, test.want)
		}
	}
}

// TestFeedLeavesOutWhatIsNotVisible: expired and removed entries, and those past searchable_days.
func TestFeedLeavesOutWhatIsNotVisible(t *testing.T) {
	w := newWorld(t)
	w.arrive(w.entry(364*24*time.Hour, nil), w.entry(0, nil))
	gone := envelope.Arrival{Message: audit.MessageID{9}, IDs: []audit.EntryID{audit.DeriveEntryID("acme", start, "removed")}}
	bodies, err := envelope.PackArrivals("acme", []envelope.Arrival{gone})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.orderer.Order(t.Context(), bodies)[0]; err != nil {
		t.Fatal(err)
	}
	w.arrive(w.entry(40*24*time.Hour, nil))
	want := func(want string) {
		t.Helper()
		if entries, _ := w.walk("limit=1", ""); names(entries) != want {
			t.Errorf("read %q, want %q", names(entries), want)
		}
	}
	want("1 2 3")
	w.now = start.AddDate(0, 0, 2)
	want("2 3")
	record := w.tenants["acme"]
	record.Settings.SearchableDays = 30
	w.tenants["acme"] = record
	want("2")
}

func TestFeedFromNow(t *testing.T) {
	w := newWorld(t)
	empty := w.read("cursor=now", access.Scope{})
	w.arrive(w.entry(0, nil))
	page := w.read("cursor=now", access.Scope{})
	if len(page.Entries) > 0 {
		t.Errorf("read %s, want nothing", names(page.Entries))
	}
	if page.More {
		t.Error("more is true, want false")
	}
	w.arrive(w.entry(500*time.Hour, nil))
	for cursor, want := range map[string]string{page.Next: "2", empty.Next: "1 2"} {
		if entries, _ := w.walk("", cursor); names(entries) != want {
			t.Errorf("read %q, want %q", names(entries), want)
		}
	}
}

// TestFeedAfterPruning: a cursor continues at the oldest place that is left.
func TestFeedAfterPruning(t *testing.T) {
	w := newWorld(t)
	w.arrive(w.entry(0, nil), w.entry(0, nil))
	cursor := w.read("limit=1", access.Scope{}).Next
	w.arrive(w.entry(0, nil))
	w.arrive(w.entry(0, nil), w.entry(0, nil))
	if n, err := w.db.Arrivals().Prune(t.Context(), "acme", start.Add(time.Hour), 2); err != nil || n != 2 {
		t.Fatalf("pruned %d segments (%v), want 2", n, err)
	}
	for _, from := range []string{"", cursor} {
		if entries, _ := w.walk("limit=1", from); names(entries) != "4 5" {
			t.Errorf("read %q, want 4 5", names(entries))
		}
	}
}

// TestFeedCursorsBelongToATenant: whatever the filter, and however old they are.
func TestFeedCursorsBelongToATenant(t *testing.T) {
	w := newWorld(t)
	w.arrive(w.entry(0, nil), w.entry(0, func(e *audit.Entry) { e.UserID = "bob" }))
	cursor := w.read("limit=1", access.Scope{}).Next
	w.now = w.now.AddDate(0, 0, 300)
	if entries, _ := w.walk("user_id=bob", cursor); names(entries) != "2" {
		t.Errorf("with another filter: read %q, want 2", names(entries))
	}
	var invalid *audit.ValidationError
	for name, query := range map[string]url.Values{
		"another tenant's cursor": {"cursor": {cursor}},
		"a forged cursor":         {"cursor": {strings.ToUpper(cursor)}},
		"two cursors":             {"cursor": {"now", "now"}},
		"a limit of 0":            {"limit": {"0"}},
		"a sort":                  {"sort": {"timestamp"}},
	} {
		if _, err := w.feed.Read(t.Context(), w.tenants["globex"], access.Scope{}, query); !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want a validation error", name, err)
		}
	}
	page, err := w.feed.Read(t.Context(), w.tenants["globex"], access.Scope{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) > 0 {
		t.Errorf("the other tenant reads %s, want nothing", names(page.Entries))
	}
}

// places gives acme's log this number of places with entries that do not exist.
func (w *world) places(count int) {
	w.t.Helper()
	var arrivals []envelope.Arrival
	for n := 0; n < count; n += 1000 {
		a := envelope.Arrival{Message: messageID(n)}
		for i := range min(1000, count-n) {
			a.IDs = append(a.IDs, audit.DeriveEntryID("acme", start, fmt.Sprint("none", n+i)))
		}
		arrivals = append(arrivals, a)
	}
	bodies, err := envelope.PackArrivals("acme", arrivals)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, err := range w.orderer.Order(w.t.Context(), bodies) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestFeedReadsALimitedNumberOfPlaces: a request ends, and the next one continues there.
func TestFeedReadsALimitedNumberOfPlaces(t *testing.T) {
	w := newWorld(t)
	w.places(arrival.MaxPlaces + 500)
	w.arrive(w.entry(0, nil))
	first := w.read("", access.Scope{})
	if len(first.Entries) > 0 {
		t.Errorf("the first page has %s, want nothing", names(first.Entries))
	}
	if !first.More {
		t.Error("more is false after the first page, want true")
	}
	second := w.read("cursor="+first.Next, access.Scope{})
	if got := names(second.Entries); got != "1" {
		t.Errorf("the second page has %q, want 1", got)
	}
	if second.More {
		t.Error("more is true after the second page, want false")
	}
}

// slowReader takes two seconds for each read.
type slowReader struct {
	w     *world
	reads int
}

func (r *slowReader) EntriesByID(context.Context, audit.TenantID, []audit.EntryID) ([]audit.Entry, error) {
	r.w.now = r.w.now.Add(2 * time.Second)
	r.reads++
	return nil, nil
}

func TestFeedReadsForALimitedTime(t *testing.T) {
	w := newWorld(t)
	w.places(2000)
	r := &slowReader{w: w}
	w.feed.Reader = r
	page := w.read("", access.Scope{})
	if r.reads != 3 {
		t.Errorf("%d reads of two seconds, want 3", r.reads)
	}
	if !page.More {
		t.Error("more is false, want true")
	}
}

// TestFeedPagesHaveALimitedSize: a page ends before it passes audit.MaxPageBytes.
func TestFeedPagesHaveALimitedSize(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("x", 200<<10)
	for range 4 {
		var entries []audit.Entry
		for range 10 {
			entries = append(entries, w.entry(0, func(e *audit.Entry) { e.Metadata = audit.Object(`{"a":"` + large + `"}`) }))
		}
		w.arrive(entries...)
	}
	page := w.read("limit=1000", access.Scope{})
	if got, want := len(page.Entries), 20; got != want {
		t.Errorf("the first page has %d entries of 200 KiB, want %d", got, want)
	}
	if entries, _ := w.walk("limit=1000", ""); len(entries) != 40 {
		t.Errorf("read %d entries, want 40", len(entries))
	}
}
