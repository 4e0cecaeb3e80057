package search_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// batchIndex records what is put and returns the results that it was given.
type batchIndex struct {
	search.IndexWriter
	calls   [][]search.Batch
	results map[audit.TenantID]search.PutResult
}

func (x *batchIndex) Put(_ context.Context, batches []search.Batch) []search.PutResult {
	x.calls = append(x.calls, batches)
	results := make([]search.PutResult, len(batches))
	for i, b := range batches {
		results[i] = x.results[b.Tenant]
	}
	return results
}

// quarantined counts the rejected entries of each tenant.
type quarantined map[audit.TenantID]int

func (q quarantined) Add(_ context.Context, tenant audit.TenantID, _ string, _ []audit.Entry, reasons []audit.Rejection) error {
	q[tenant] += len(reasons)
	return nil
}

// existing has a record for every tenant but those that it names.
type existing map[audit.TenantID]bool

func (e existing) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	if e[id] {
		return audit.Tenant{}, audit.ErrNotFound
	}
	return audit.Tenant{ID: id, Status: audit.TenantActive}, nil
}

func messageOf(t *testing.T, tenant audit.TenantID, values ...audit.Encrypted) string {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bodies, err := envelope.Pack(tenant, []audit.Entry{{
		ID: audit.NewEntryID(at, [10]byte{1}), Tenant: tenant, UserID: "u", Action: "A", ResourceType: "r", Timestamp: at, Encrypted: values,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return bodies[0]
}

// destroyedKeys are the keys of all tenants that were destroyed.
type destroyedKeys map[protect.KeyRef]bool

func (d destroyedKeys) Destroyed(_ context.Context, tenant audit.TenantID, _ []protect.KeyRef) (map[protect.KeyRef]bool, error) {
	if tenant == "down" {
		return nil, &audit.UnavailableError{Err: errors.New("down")}
	}
	return d, nil
}

// TestAnErasureReachesWhatIsIndexedLater: also in two messages of a tenant, which are written together.
func TestAnErasureReachesWhatIsIndexedLater(t *testing.T) {
	erased, alive := protect.KeyRef{Subject: protect.SubjectID{1}, Generation: 1}, protect.KeyRef{Subject: protect.SubjectID{2}, Generation: 1}
	value := func(ref protect.KeyRef) audit.Encrypted {
		return audit.Encrypted{Paths: []string{"/message"}, Key: ref.Subject.String(), Generation: 1, Data: []byte("data"), Tokens: []audit.ValueToken{{1}}}
	}
	index := &batchIndex{}
	x := &search.Indexer{Index: index, Tenants: existing{}, Keys: destroyedKeys{erased: true}, Now: time.Now}
	bodies := []string{messageOf(t, "acme", value(erased)), messageOf(t, "acme", value(alive), value(erased)), messageOf(t, "down", value(erased))}
	for i, err := range x.IndexMessages(t.Context(), bodies) {
		if got, want := err != nil, i == 2; got != want {
			t.Errorf("message %d: got error %v, want failure %t", i, err, want)
		}
	}
	if got := len(index.calls); got != 1 {
		t.Fatalf("called the index %d times, want once", got)
	}
	if got := len(index.calls[0]); got != 1 {
		t.Fatalf("the index got entries of %d tenants, want 1", got)
	}
	for i, e := range index.calls[0][0].Entries {
		for _, part := range e.Encrypted {
			ref, err := protect.RefOf(&part)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := len(part.Tokens) > 0, ref == alive; got != want {
				t.Errorf("entry %d, key %v: indexed with a token: %t, want %t", i, ref, got, want)
			}
		}
	}
}

func TestIndexerWritesABatchWithOneCall(t *testing.T) {
	down := errors.New("down")
	index := &batchIndex{results: map[audit.TenantID]search.PutResult{
		"broken":   {Err: down},
		"rejected": {Rejections: []audit.Rejection{{Index: 0, Code: "index_refused"}}},
	}}
	quarantine := quarantined{}
	x := &search.Indexer{Index: index, Quarantine: quarantine, Tenants: existing{"deleted": true}, Now: time.Now}
	var bodies []string
	for _, tenant := range []audit.TenantID{"acme", "broken", "globex", "acme", "deleted", "rejected"} {
		bodies = append(bodies, messageOf(t, tenant))
	}
	bodies = append(bodies, "unreadable")
	outcomes := x.IndexMessages(t.Context(), bodies)
	want := []error{nil, down, nil, nil, nil, nil, audit.ErrUnreadable}
	if len(outcomes) != len(want) {
		t.Fatalf("got %d outcomes, want %d", len(outcomes), len(want))
	}
	for i := range want {
		if !errors.Is(outcomes[i], want[i]) {
			t.Errorf("message %d: got %v, want %v", i, outcomes[i], want[i])
		}
	}
	if got := len(index.calls); got != 1 {
		t.Fatalf("the index got %d calls, want 1", got)
	}
	var tenants []audit.TenantID
	for _, b := range index.calls[0] {
		tenants = append(tenants, b.Tenant)
	}
	if got := len(index.calls[0][0].Entries); got != 2 {
		t.Errorf("%s has %d entries in its batch, want 2; tenants %v", tenants[0], got, tenants)
	}
	if got := quarantine["rejected"]; got != 1 {
		t.Errorf("%d entries are in quarantine, want 1", got)
	}
}

// retaining has one record for every tenant.
type retaining audit.Settings

func (r retaining) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{ID: id, Status: audit.TenantActive, Settings: audit.Settings(r)}, nil
}

// TestIndexerLeavesOutWhatLeftTheIndex: a message that comes again after retention removed its
// entries from the index.
func TestIndexerLeavesOutWhatLeftTheIndex(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, settings := range []audit.Settings{{RetentionDays: 30}, {SearchableDays: 30, Archive: true}} {
		index := &batchIndex{}
		x := &search.Indexer{Index: index, Quarantine: quarantined{}, Tenants: retaining(settings), Now: func() time.Time { return now }}
		body := receivedMessage(t, "acme", now, []time.Duration{time.Hour, 31 * day, 32*day - time.Millisecond, 32*day + time.Millisecond, 90 * day})
		for _, err := range x.IndexMessages(t.Context(), []string{body, receivedMessage(t, "gone", now, []time.Duration{40 * day})}) {
			if err != nil {
				t.Error(err)
			}
		}
		got := map[audit.TenantID]int{}
		for _, b := range slices.Concat(index.calls...) {
			got[b.Tenant] += len(b.Entries)
		}
		if diff := cmp.Diff(map[audit.TenantID]int{"acme": 3, "gone": 0}, got); diff != "" {
			t.Errorf("%+v: indexed entries (-want +got):\n%s", settings, diff)
		}
	}
}

func TestIndexerMeasuresWhatItIndexed(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)
	index := &batchIndex{results: map[audit.TenantID]search.PutResult{"broken": {Err: errors.New("down")}}}
	var delays []time.Duration
	x := &search.Indexer{
		Index: index, Quarantine: quarantined{}, Tenants: existing{"deleted": true}, Now: func() time.Time { return now },
		Searchable: func(_ context.Context, d []time.Duration) { delays = append(delays, d...) },
	}
	var bodies []string
	for _, m := range []struct {
		tenant   audit.TenantID
		received []time.Duration // ago
	}{
		{"acme", []time.Duration{2 * time.Second, 5 * time.Second, time.Second}},
		{"acme", []time.Duration{time.Minute}},
		{"acme", []time.Duration{-time.Second}},        // another clock
		{"acme", []time.Duration{15 * 24 * time.Hour}}, // sent by the reconciler
		{"broken", []time.Duration{time.Hour}}, {"deleted", []time.Duration{time.Hour}},
	} {
		bodies = append(bodies, receivedMessage(t, m.tenant, now, m.received))
	}
	x.IndexMessages(t.Context(), bodies)
	want := []time.Duration{5 * time.Second, time.Minute, 0}
	if diff := cmp.Diff(want, delays); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
}

// receivedMessage returns a message with entries that were received some time ago.
func receivedMessage(t *testing.T, tenant audit.TenantID, now time.Time, ago []time.Duration) string {
	t.Helper()
	entries := make([]audit.Entry, len(ago))
	for i, d := range ago {
		at := now.Add(-d)
		entries[i] = audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{byte(i)}), Tenant: tenant, UserID: "u", Action: "A", ResourceType: "r", Timestamp: at, ReceivedAt: at,
		}
	}
	bodies, err := envelope.Pack(tenant, entries)
	if err != nil {
		t.Fatal(err)
	}
	return bodies[0]
}

// TestWhatWasJustRestoredIsIndexed: by the clock that all processes share. That of this one is a day off.
func TestWhatWasJustRestoredIsIndexed(t *testing.T) {
	shared := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	entry := func(n byte, until time.Time) audit.Entry {
		return audit.Entry{
			ID: audit.NewEntryID(shared.AddDate(-1, 0, 0), [10]byte{n}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r",
			Timestamp: shared.AddDate(-1, 0, 0), RestoredUntil: until,
		}
	}
	entries := []audit.Entry{entry(1, shared.Add(time.Millisecond)), entry(2, shared), entry(3, time.Time{})}
	for name, c := range map[string]struct {
		ahead time.Duration
		clock error
		want  []audit.EntryID
	}{
		"right":          {0, nil, []audit.EntryID{entries[0].ID, entries[2].ID}},
		"a day ahead":    {24 * time.Hour, nil, []audit.EntryID{entries[0].ID, entries[2].ID}},
		"a day behind":   {-24 * time.Hour, nil, []audit.EntryID{entries[0].ID, entries[2].ID}},
		"nobody can say": {0, &audit.UnavailableError{Err: errors.New("down")}, nil},
	} {
		bodies, err := envelope.Pack("acme", entries)
		if err != nil {
			t.Fatal(err)
		}
		index := &batchIndex{}
		x := &search.Indexer{
			Index: index, Tenants: existing{}, Now: func() time.Time { return shared.Add(c.ahead) },
			Clock: func(context.Context) (time.Time, error) { return shared, c.clock },
		}
		if err := x.IndexMessages(t.Context(), bodies)[0]; !errors.Is(err, c.clock) {
			t.Errorf("%s: got error %v, want %v", name, err, c.clock)
		}
		var got []audit.EntryID
		for _, batches := range index.calls {
			got = append(got, audit.IDsOf(batches[0].Entries)...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: indexed %v, want %v", name, got, c.want)
		}
	}
	x := &search.Indexer{Index: &batchIndex{}, Tenants: existing{}, Now: time.Now, Clock: func(context.Context) (time.Time, error) {
		t.Error("the shared clock was asked, want it asked for restored entries alone")
		return time.Time{}, nil
	}}
	if err := x.IndexMessages(t.Context(), []string{messageOf(t, "acme")})[0]; err != nil {
		t.Error(err)
	}
}
