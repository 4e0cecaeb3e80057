package quarantine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

var (
	epoch   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	errDown = errors.New("down")
	admin   = access.Principal{Subject: "ada"}
	acme    = audit.Tenant{ID: "acme", Settings: audit.DefaultSettings()}
)

// queue keeps what is sent, or refuses it.
type queue struct {
	bodies []string
	err    error
	onSend func(body string) // plays the consumer
}

func (q *queue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	if q.err != nil {
		return q.err
	}
	q.bodies = append(q.bodies, bodies...)
	if q.onSend != nil {
		for _, body := range bodies {
			q.onSend(body)
		}
	}
	return nil
}

type recorder struct {
	entries []audit.Entry
	err     error
}

func (r *recorder) Record(_ context.Context, tenant audit.Tenant, entry audit.Entry) error {
	if r.err == nil {
		entry.Tenant = tenant.ID
		r.entries = append(r.entries, entry)
	}
	return r.err
}

// store is a real one that can be made to fail, and that notices when an entry
// is in it under no id at all.
type store struct {
	quarantine.Store
	deleteErr error
	watch     func(id string) // called after each removal
}

func (s *store) Delete(ctx context.Context, tenant audit.TenantID, id string) error {
	if s.deleteErr != nil {
		return s.deleteErr
	}
	err := s.Store.Delete(ctx, tenant, id)
	if s.watch != nil {
		s.watch(id)
	}
	return err
}

type fixture struct {
	*quarantine.Service
	store                     *store
	standard, priority, index *queue
	holds                     hold.Store
	recorder                  *recorder
	now                       time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{store: &store{Store: db.Quarantine()}, standard: &queue{}, priority: &queue{}, index: &queue{}, holds: db.Holds(), recorder: &recorder{}, now: epoch}
	f.Service = &quarantine.Service{
		Store: f.store, Standard: f.standard, Priority: f.priority, Index: f.index, Holds: f.holds, Recorder: f.recorder, Now: func() time.Time { return f.now },
	}
	return f
}

// entry returns the nth entry.
func entry(n byte) audit.Entry {
	return audit.Entry{
		ID: audit.NewEntryID(epoch, [10]byte{n}), Tenant: "acme", UserID: "u1", Action: "VIEW", ResourceType: "order", Timestamp: epoch, ReceivedAt: epoch,
		Message: "a secret message", Metadata: audit.Object(`{"n":1e400}`), Digest: audit.Digest{Sum: [32]byte{n}},
	}
}

func (f *fixture) add(t *testing.T, step string, entries ...audit.Entry) {
	t.Helper()
	reasons := make([]audit.Rejection, len(entries))
	for i := range reasons {
		reasons[i] = audit.Rejection{Index: i, Code: "unstorable", Reason: "because"}
	}
	if err := f.Add(t.Context(), "acme", step, entries, reasons); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) items(t *testing.T) []quarantine.Item {
	t.Helper()
	items, more, err := f.List(t.Context(), "acme", nil, "", 100)
	if err != nil {
		t.Fatal(err)
	} else if more {
		t.Fatalf("got %d items and more, want all in one page", len(items))
	}
	return items
}

func TestAdd(t *testing.T) {
	f := newFixture(t)
	entries := []audit.Entry{entry(0), entry(1), entry(2)}
	reasons := []audit.Rejection{
		{Index: 2, Code: "identity_conflict", Reason: strings.Repeat("ü", 1000)}, {Index: 0, Code: "unstorable", Reason: "first"}, {Index: 0, Code: "unstorable", Reason: "second"},
	}
	for range 3 {
		if err := f.Add(t.Context(), "acme", audit.StepPersist, entries, reasons); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(time.Hour)
	}
	items := f.items(t)
	if len(items) != 2 {
		t.Fatalf("%d items, want 2", len(items))
	}
	for _, item := range items {
		if len(item.ID) != 32 {
			t.Errorf("%+v: got %d bytes of ID, want 32", item, len(item.ID))
		}
		if item.Step != "persist" {
			t.Errorf("%+v: got step %q, want %q", item, item.Step, "persist")
		}
		if !item.QuarantinedAt.Equal(epoch) {
			t.Errorf("%+v: got quarantined at %v, want %v", item, item.QuarantinedAt, epoch)
		}
		if item.Entry.UserID != "u1" {
			t.Errorf("%+v: got user ID %q, want %q", item, item.Entry.UserID, "u1")
		}
		switch item.Entry.Digest.Sum[0] {
		case 0:
			if want := "first"; item.Reason != want {
				t.Errorf("got reason %q, want %q", item.Reason, want)
			}
		case 2:
			if n, most := len(item.Reason), quarantine.MaxReason; n > most || n < most-utf8.UTFMax {
				t.Errorf("got a reason of %d bytes, want %d to %d", n, most-utf8.UTFMax, most)
			}
			if !utf8.ValidString(item.Reason) {
				t.Errorf("got reason %q, want valid UTF-8", item.Reason)
			}
			if item.Code != "identity_conflict" {
				t.Errorf("got code %q, want %q", item.Code, "identity_conflict")
			}
		default:
			t.Errorf("entry %x is in quarantine, want it absent", item.Entry.Digest.Sum[0])
		}
	}
	other := entry(0)
	other.Digest = audit.Digest{Sum: [32]byte{99}} // other content under the same identity
	f.add(t, audit.StepPersist, other)
	f.add(t, audit.StepIndex, entry(0))
	if n := len(f.items(t)); n != 4 {
		t.Errorf("%d items, want 4", n)
	}
	if err := f.Add(t.Context(), "acme", audit.StepIndex, entries, nil); err != nil {
		t.Error(err)
	}
	for _, index := range []int{-1, 3} {
		if err := f.Add(t.Context(), "acme", audit.StepIndex, entries, []audit.Rejection{{Index: index}}); err == nil {
			t.Errorf("a reason for entry %d of 3: got no error, want one", index)
		}
	}
}

func TestContainsTellsOfEachEntry(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepIndex, entry(1), entry(3))
	f.add(t, audit.StepPersist, entry(2))
	other := entry(3)
	other.Digest.Sum[0] = 9 // another entry with this id
	got, err := f.Contains(t.Context(), "acme", audit.StepIndex, []audit.Entry{entry(0), entry(1), entry(2), entry(3), other})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bool{false, true, false, true, false}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRetryChoosesTheQueue(t *testing.T) {
	priority := acme
	priority.Settings.Tier = audit.TierPriority
	for _, tt := range []struct {
		name, step string
		tenant     audit.Tenant
		queue      func(f *fixture) *queue
	}{
		{"persist", audit.StepPersist, acme, func(f *fixture) *queue { return f.standard }},
		{"persist with priority", audit.StepPersist, priority, func(f *fixture) *queue { return f.priority }},
		{"index", audit.StepIndex, priority, func(f *fixture) *queue { return f.index }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.add(t, tt.step, entry(1))
			id := f.items(t)[0].ID
			if err := f.Retry(t.Context(), admin, tt.tenant, id); err != nil {
				t.Fatal(err)
			}
			if sent := len(f.standard.bodies) + len(f.priority.bodies) + len(f.index.bodies); sent != 1 {
				t.Fatalf("sent %d messages, want 1", sent)
			} else if len(tt.queue(f).bodies) != 1 {
				t.Fatalf("its queue has %d messages, want 1", len(tt.queue(f).bodies))
			}
			contents, err := envelope.Unpack(tt.queue(f).bodies[0])
			if err != nil {
				t.Error(err)
			} else if contents.Tenant != "acme" {
				t.Errorf("got tenant %q, want %q", contents.Tenant, "acme")
			} else if len(contents.Entries) != 1 {
				t.Errorf("got %d entries, want 1", len(contents.Entries))
			} else if contents.Entries[0].Digest != entry(1).Digest {
				t.Errorf("got digest %v, want %v", contents.Entries[0].Digest, entry(1).Digest)
			} else if string(contents.Entries[0].Metadata) != `{"n":1e400}` {
				t.Errorf("got metadata %q, want %q", string(contents.Entries[0].Metadata), `{"n":1e400}`)
			}
			if n := len(f.items(t)); n != 0 {
				t.Errorf("%d items are left, want none", n)
			}
			f.recorded(t, "quarantine.retry", id)
			if err := f.Retry(t.Context(), admin, tt.tenant, id); !errors.Is(err, audit.ErrNotFound) {
				t.Errorf("again: got error %v, want %v", err, audit.ErrNotFound)
			}
		})
	}
}

// recorded checks that exactly this was recorded, and nothing of the entry's content.
func (f *fixture) recorded(t *testing.T, action, id string) {
	t.Helper()
	if len(f.recorder.entries) != 1 {
		t.Fatalf("recorded %d entries, want 1", len(f.recorder.entries))
	}
	e := f.recorder.entries[0]
	var metadata map[string]string
	if err := json.Unmarshal(e.Metadata, &metadata); err != nil {
		t.Fatal(err)
	}
	if e.Tenant != "acme" {
		t.Errorf("got tenant %q, want %q", e.Tenant, "acme")
	}
	if e.UserID != "ada" {
		t.Errorf("got user ID %q, want %q", e.UserID, "ada")
	}
	if e.Action != action {
		t.Errorf("got action %q, want %q", e.Action, action)
	}
	if e.ResourceID != id {
		t.Errorf("got resource ID %q, want %q", e.ResourceID, id)
	}
	if e.ResourceType == "" {
		t.Error("got an empty resource type, want a value")
	}
	if metadata["entry_id"] != entry(1).ID.String() {
		t.Errorf("got entry_id %q, want %q", metadata["entry_id"], entry(1).ID.String())
	}
	if metadata["code"] != "unstorable" {
		t.Errorf("got code %q, want %q", metadata["code"], "unstorable")
	}
	if len(metadata) != 3 {
		t.Errorf("got %d members of the metadata, want 3", len(metadata))
	}
	if text, err := json.Marshal(e); err != nil {
		t.Error(err)
	} else if strings.Contains(string(text), "secret") {
		t.Errorf("recorded %s, want it without content", text)
	}
}

// TestRetryThatFailsAgain: the consumer is quicker than Retry and holds the
// entry again before Retry has removed its item.
func TestRetryThatFailsAgain(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepIndex, entry(1))
	id := f.items(t)[0].ID
	f.index.onSend = func(string) { f.add(t, audit.StepIndex, entry(1)) }
	for range 3 {
		if err := f.Retry(t.Context(), admin, acme, id); err != nil {
			t.Fatal(err)
		}
		if items := f.items(t); len(items) != 1 {
			t.Fatalf("got %d items, want 1", len(items))
		} else if items[0].ID != id {
			t.Fatalf("got ID %q, want %q", items[0].ID, id)
		}
	}
}

// TestRetryFails: whatever fails, the entry stays in quarantine under its id.
func TestRetryFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(f *fixture)
	}{
		{"queue", func(f *fixture) { f.index.err = errDown }},
		{"recorder", func(f *fixture) { f.recorder.err = errDown }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.add(t, audit.StepIndex, entry(1))
			before := f.items(t)[0]
			tt.spoil(f)
			ctx, cancel := context.WithCancel(t.Context())
			removals := 0
			f.store.watch = func(string) {
				if removals++; removals == 1 {
					defer cancel() // and the caller goes away
				}
				if n := len(f.items(t)); n == 0 {
					t.Error("got 0 items for a moment, want the entry in quarantine until it is elsewhere")
				}
			}
			err := f.Retry(ctx, admin, acme, before.ID)
			var unavailable *audit.UnavailableError
			if !errors.As(err, &unavailable) {
				t.Errorf("got error %v, want one of type %T", err, unavailable)
			}
			if !errors.Is(err, errDown) {
				t.Errorf("got error %v, want %v", err, errDown)
			}
			switch items := f.items(t); {
			case len(items) != 1:
				t.Errorf("got %d items, want 1", len(items))
			case items[0].ID != before.ID:
				t.Errorf("got ID %q, want %q", items[0].ID, before.ID)
			case items[0].QuarantinedAt != before.QuarantinedAt:
				t.Errorf("got quarantined at %v, want %v", items[0].QuarantinedAt, before.QuarantinedAt)
			case items[0].Reason != "because":
				t.Errorf("got reason %q, want %q", items[0].Reason, "because")
			}
			f.index.err, f.recorder.err, f.store.watch = nil, nil, nil
			if err := f.Retry(t.Context(), admin, acme, before.ID); err != nil {
				t.Error(err)
			} else if len(f.items(t)) != 0 {
				t.Errorf("%d items are left, want none", len(f.items(t)))
			}
		})
	}
	f := newFixture(t)
	f.add(t, "bake", entry(1))
	if err := f.Retry(t.Context(), admin, acme, f.items(t)[0].ID); err == nil {
		t.Error("a step without a queue: got no error, want one")
	} else if len(f.items(t)) != 1 {
		t.Errorf("a step without a queue: got %d items, want 1", len(f.items(t)))
	}
	f = newFixture(t)
	f.add(t, audit.StepIndex, entry(1))
	f.store.deleteErr = errDown
	switch err := f.Retry(t.Context(), admin, acme, f.items(t)[0].ID); {
	case !errors.Is(err, errDown):
		t.Errorf("a store that does not delete: got error %v, want %v", err, errDown)
	case len(f.items(t)) == 0:
		t.Error("a store that does not delete: got no items, want some")
	case len(f.index.bodies) != 0:
		t.Errorf("a store that does not delete: got bodies %q, want none", f.index.bodies)
	}
}

func TestDelete(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepPersist, entry(1))
	id := f.items(t)[0].ID
	f.recorder.err = errDown
	var unavailable *audit.UnavailableError
	if err := f.Delete(t.Context(), admin, acme, id); !errors.As(err, &unavailable) {
		t.Errorf("unrecorded: got error %v, want one of type %T", err, unavailable)
	} else if len(f.items(t)) != 1 {
		t.Errorf("unrecorded: got %d items, want 1", len(f.items(t)))
	}
	f.recorder.err = nil
	globex := audit.Tenant{ID: "globex", Settings: audit.DefaultSettings()}
	for _, missing := range []struct {
		tenant audit.Tenant
		id     string
	}{{globex, id}, {acme, strings.Repeat("0", 32)}, {acme, ""}} {
		if err := f.Delete(t.Context(), admin, missing.tenant, missing.id); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%s %q: %v, want ErrNotFound", missing.tenant.ID, missing.id, err)
		}
		if err := f.Retry(t.Context(), admin, missing.tenant, missing.id); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%s %q: %v, want ErrNotFound", missing.tenant.ID, missing.id, err)
		}
	}
	if err := f.Delete(t.Context(), admin, acme, id); err != nil {
		t.Error(err)
	} else if len(f.items(t)) != 0 {
		t.Errorf("%d items are left, want none", len(f.items(t)))
	}
	f.recorded(t, "quarantine.delete", id)
}

// TestADiscardedEntryThatTheIndexRefusesStaysAway: the index refuses it again, as after a comparison with the store.
func TestADiscardedEntryThatTheIndexRefusesStaysAway(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepIndex, entry(1), entry(2))
	f.add(t, audit.StepPersist, entry(1))
	var id string
	for _, item := range f.items(t) {
		if item.Step == audit.StepIndex && item.Entry.ID == entry(1).ID {
			id = item.ID
		}
	}
	if err := f.Delete(t.Context(), admin, acme, id); err != nil {
		t.Fatal(err)
	}
	f.add(t, audit.StepIndex, entry(1), entry(2))
	if n := len(f.items(t)); n != 2 {
		t.Errorf("%d items are left, want 2", n)
	}
	for _, limit := range []int{1, 2} { // what is left of it is on no page
		after, pages := "", 0
		for more := true; more; pages++ {
			var items []quarantine.Item
			var err error
			if items, more, err = f.List(t.Context(), "acme", nil, after, limit); err != nil {
				t.Fatal(err)
			}
			for _, item := range items {
				if after = item.ID; item.ID == id || len(item.ID) != 32 {
					t.Errorf("item %s is listed", item.ID)
				}
			}
		}
		if most := 2/limit + 1; pages > most {
			t.Errorf("there are %d pages of %d items, want %d at most", pages, limit, most)
		}
	}
	contained, err := f.Contains(t.Context(), "acme", audit.StepIndex, []audit.Entry{entry(1), entry(2), entry(3)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bool{true, true, false}, contained); diff != "" {
		t.Errorf("the index will never have (-want +got)\n%s", diff)
	}
	kept, _, err := f.Store.List(t.Context(), "acme", nil, "x", 10)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%d discarded items are noted, %v, want 1", len(kept), err)
	}
	if e := kept[0].Entry; e.Message != "" || e.Metadata != nil || e.UserID != "" || e.ResourceType != "" {
		t.Errorf("what is left of the item has the content %+v", e)
	}
	for name, do := range map[string]func(context.Context, access.Principal, audit.Tenant, string) error{"retry": f.Retry, "delete": f.Delete} {
		if err := do(t.Context(), admin, acme, kept[0].ID); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%s what is left of the item: got %v, want ErrNotFound", name, err)
		}
	}
	expired := func(e *audit.Entry) bool { return e.Timestamp.Equal(epoch) }
	last := ""
	n, err := quarantine.RemoveIf(t.Context(), f.Store, "acme", &last, func(context.Context) (func(*audit.Entry) bool, error) { return expired, nil })
	if err != nil || n != 3 {
		t.Errorf("after the end of the entries %d items were removed, %v, want 3", n, err)
	}
}

// TestADiscardedEntryOfTheStoreComesAgain: a client has sent it again.
func TestADiscardedEntryOfTheStoreComesAgain(t *testing.T) {
	f := newFixture(t)
	for range 2 {
		f.add(t, audit.StepPersist, entry(1))
		items := f.items(t)
		if len(items) != 1 {
			t.Fatalf("%d items, want 1", len(items))
		}
		if err := f.Delete(t.Context(), admin, acme, items[0].ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRetryAfterADeletionThatFailed: the item is there, so that it comes back if its step refuses it again.
func TestRetryAfterADeletionThatFailed(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepIndex, entry(1))
	id := f.items(t)[0].ID
	f.store.deleteErr = errDown
	if err := f.Delete(t.Context(), admin, acme, id); !errors.Is(err, errDown) {
		t.Errorf("got error %v, want %v", err, errDown)
	}
	f.store.deleteErr = nil
	f.index.onSend = func(string) { f.add(t, audit.StepIndex, entry(1)) }
	if err := f.Retry(t.Context(), admin, acme, id); err != nil {
		t.Fatal(err)
	}
	if items := f.items(t); len(items) != 1 || items[0].ID != id {
		t.Errorf("got the items %v, want %s", items, id)
	}
}

// TestDeleteKeepsWhatAHoldCovers: nothing of it is recorded either. Holds of others do not matter.
func TestDeleteKeepsWhatAHoldCovers(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepPersist, entry(1))
	id := f.items(t)[0].ID
	covering := hold.Hold{ID: "h1", Tenant: "acme", UserIDs: []string{"u1"}}
	for _, h := range []hold.Hold{covering, {ID: "h2", Tenant: "acme", UserIDs: []string{"u2"}}, {ID: "h3", Tenant: "globex"}} {
		if err := f.holds.CreateHold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	var held *hold.HeldError
	if err := f.Delete(t.Context(), admin, acme, id); !errors.As(err, &held) {
		t.Fatalf("held: got error %v, want one of type %T", err, held)
	}
	if len(held.Holds) != 1 || held.Holds[0].ID != "h1" {
		t.Errorf("held: by %v, want h1 alone", held.Holds)
	}
	if got := len(f.items(t)); got != 1 {
		t.Errorf("held: got %d items, want 1", got)
	}
	if got := len(f.recorder.entries); got != 0 {
		t.Errorf("held: recorded %d entries, want none", got)
	}
	covering.ReleasedAt, covering.Version = epoch, 1
	if err := f.holds.UpdateHold(t.Context(), covering); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), admin, acme, id); err != nil {
		t.Errorf("released: %v", err)
	}
	if got := len(f.items(t)); got != 0 {
		t.Errorf("released: got %d items, want none", got)
	}
}

// TestRemoveIfAsksAboutEveryItem has more items than RemoveIf has in memory, and another tenant's. It stops twice.
func TestRemoveIfAsksAboutEveryItem(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store := db.Quarantine()
	const total = 130
	for _, tenant := range []audit.TenantID{"acme", "globex"} {
		var items []quarantine.Item
		for i := range total {
			user := "stays"
			if i%2 == 0 {
				user = "goes"
			}
			items = append(items, quarantine.Item{
				ID: fmt.Sprintf("%032x", i), Step: audit.StepPersist, QuarantinedAt: epoch,
				Entry: audit.Entry{ID: audit.NewEntryID(epoch, [10]byte{9: byte(i)}), Tenant: tenant, UserID: user, Timestamp: epoch, ReceivedAt: epoch},
			})
		}
		if err := store.Put(t.Context(), tenant, items); err != nil {
			t.Fatal(err)
		}
	}
	removed, asked, last := 0, map[audit.EntryID]int{}, ""
	for page := range 3 {
		begun := false
		n, err := quarantine.RemoveIf(t.Context(), store, "acme", &last, func(context.Context) (func(*audit.Entry) bool, error) {
			if begun && page < 2 { // the time is up
				return nil, nil
			}
			begun = true
			return func(e *audit.Entry) bool { asked[e.ID]++; return e.UserID == "goes" }, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		removed += n
	}
	if removed != total/2 {
		t.Errorf("removed %d items, want %d", removed, total/2)
	}
	if got := len(asked); got != total {
		t.Errorf("asked about %d items, want %d", got, total)
	}
	for id, n := range asked {
		if n != 1 {
			t.Errorf("asked about %s %d times, want once", id, n)
		}
	}
	for tenant, want := range map[audit.TenantID]int{"acme": total / 2, "globex": total} {
		left, _, err := store.List(t.Context(), tenant, nil, "", 2*total)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != want {
			t.Errorf("%s has %d items, want %d", tenant, len(left), want)
		}
	}
}

// mortal is a store that fails from one of its writes on, and calls before at each of them.
type mortal struct {
	quarantine.Store
	writes, dies int
	before       func(write int)
}

var errKilled = errors.New("killed")

func (m *mortal) write(do func() error) error {
	m.writes++
	if m.before != nil {
		m.before(m.writes)
	}
	if m.dies > 0 && m.writes >= m.dies {
		return errKilled
	}
	return do()
}

func (m *mortal) Replace(ctx context.Context, tenant audit.TenantID, item quarantine.Item, entry audit.Entry) error {
	return m.write(func() error { return m.Store.Replace(ctx, tenant, item, entry) })
}

// toUpper changes entries once.
func toUpper(_ context.Context, e *audit.Entry) (bool, error) {
	before := e.UserID
	e.UserID = strings.ToUpper(before)
	return e.UserID != before, nil
}

// TestAKilledRewriteIsRepeated: every item has the change, wherever the worker was killed.
func TestAKilledRewriteIsRepeated(t *testing.T) {
	const items = 3
	for dies := 1; dies <= items; dies++ {
		f := newFixture(t)
		for i := range items {
			f.add(t, audit.StepPersist, entry(byte(i+1)))
		}
		of := func(item quarantine.Item) string {
			return fmt.Sprintf("%s %s %s", item.ID, item.Entry.ID, item.Entry.UserID)
		}
		var want, got []string
		for _, item := range f.items(t) {
			item.Entry.UserID = strings.ToUpper(item.Entry.UserID)
			want = append(want, of(item))
		}
		last := ""
		store := &mortal{Store: f.Store}
		for _, store.dies = range []int{dies, 0} {
			rewriter := &quarantine.Rewriter{Store: store}
			done, err := rewriter.Rewrite(t.Context(), "acme", &last, toUpper, func() bool { return false })
			if done == (store.dies > 0) {
				t.Fatalf("killed at write %d: got done %t and error %v", dies, done, err)
			}
		}
		for _, item := range f.items(t) {
			got = append(got, of(item))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("killed at write %d: the items differ (-want +got):\n%s", dies, diff)
		}
	}
}

// TestARewriteBringsNothingBack: what a retry or a deletion removes meanwhile is gone.
func TestARewriteBringsNothingBack(t *testing.T) {
	f := newFixture(t)
	f.add(t, audit.StepPersist, entry(1))
	id, last := f.items(t)[0].ID, ""
	store := &mortal{Store: f.Store, before: func(int) {
		if err := f.Store.Delete(t.Context(), "acme", id); err != nil {
			t.Error(err)
		}
	}}
	rewriter := &quarantine.Rewriter{Store: store}
	done, err := rewriter.Rewrite(t.Context(), "acme", &last, toUpper, func() bool { return false })
	if err != nil || !done {
		t.Fatalf("got done %t and error %v, want it done", done, err)
	}
	if got := f.items(t); len(got) > 0 {
		t.Errorf("got %d items, want none", len(got))
	}
}

// TestTwoRewritesAtOnceLoseNoChange has workers change the same items, each in a way of its own.
func TestTwoRewritesAtOnceLoseNoChange(t *testing.T) {
	const items, workers = 120, 4 // of several pages
	f := newFixture(t)
	for i := range items {
		e := entry(byte(i))
		for n := range workers {
			e.Encrypted = append(e.Encrypted, audit.Encrypted{Paths: []string{"/p"}, Key: fmt.Sprint(n), Generation: 1, Data: []byte{1}, Tokens: []audit.ValueToken{{9}}})
		}
		f.add(t, audit.StepPersist, e)
	}
	var group sync.WaitGroup
	for n := range workers {
		group.Go(func() {
			last := ""
			done, err := (&quarantine.Rewriter{Store: f.Store}).Rewrite(t.Context(), "acme", &last, func(_ context.Context, e *audit.Entry) (bool, error) {
				changed := len(e.Encrypted[n].Tokens) > 0
				e.Encrypted[n].Tokens = nil
				return changed, nil
			}, func() bool { return false })
			if err != nil || !done {
				t.Errorf("worker %d: got done %t and error %v, want it done", n, done, err)
			}
		})
	}
	group.Wait()
	left, _, err := f.Store.List(t.Context(), "acme", nil, "", 2*items)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != items {
		t.Errorf("got %d items, want %d", len(left), items)
	}
	for _, item := range left {
		for n := range item.Entry.Encrypted {
			if len(item.Entry.Encrypted[n].Tokens) > 0 {
				t.Errorf("item %s lost the change of worker %d", item.ID, n)
			}
		}
	}
}
