package stream_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

// directory has the records of tenants that a test decides. Other tenants are active.
type directory struct {
	mu      sync.Mutex
	tenants map[audit.TenantID]audit.Tenant
}

func (d *directory) set(tenant audit.Tenant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tenants[tenant.ID] = tenant
}

func (d *directory) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if tenant, ok := d.tenants[id]; ok {
		return tenant, nil
	}
	return audit.Tenant{ID: id, Status: audit.TenantActive}, nil
}

// replays replays the streams of tenants from the beginning.
type replays struct {
	*world
	directory *directory
	starts    map[audit.TenantID]string        // cursors before the first entry
	lasts     map[audit.TenantID]audit.EntryID // the last entry of each
	clients   int

	reads sync.Mutex
	last  audit.EntryID // of the tenant that is read
	seen  bool          // it was read
}

// EntriesByID notes when the last entry is read.
func (r *replays) EntriesByID(ctx context.Context, id audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	r.reads.Lock()
	r.seen = r.seen || slices.Contains(ids, r.last)
	r.reads.Unlock()
	return r.db.Entries().EntriesByID(ctx, id, ids)
}

// pauseAfterReading is pause once the last entry was read. The time stands still until then.
func (r *replays) pauseAfterReading(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		r.reads.Lock()
		seen := r.seen
		r.reads.Unlock()
		if seen {
			break
		}
	}
	return r.pause(ctx, d)
}

// watch sets the entry whose reading lets the time go on.
func (r *replays) watch(last audit.EntryID) {
	r.reads.Lock()
	defer r.reads.Unlock()
	r.last, r.seen = last, last.IsZero()
}

func newReplays(t *testing.T) *replays {
	w := newWorld(t)
	r := &replays{world: w, directory: &directory{tenants: map[audit.TenantID]audit.Tenant{}}, starts: map[audit.TenantID]string{}, lasts: map[audit.TenantID]audit.EntryID{}}
	w.Tenants, w.Reader, w.Pause = r.directory, r, r.pauseAfterReading
	r.watch(audit.EntryID{})
	w.now = time.Date(2026, 6, 15, 11, 0, 0, 0, time.UTC) // shortly before the suite reads
	return r
}

// client subscribes to the tenant's stream.
func (r *replays) client(id audit.TenantID, after string) *client {
	r.clients++
	name := string(id) + "-" + string(rune('a'+r.clients%26)) + time.Duration(r.clients).String()
	principal := access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{id: {access.LogsStream}}}
	c := r.connect(name, principal, id)
	r.say(name, `{}`, after)
	if err := r.Disconnect(r.t.Context(), name, nil); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *replays) put(t *testing.T, id audit.TenantID, entries []audit.Entry) {
	t.Helper()
	if r.starts[id] == "" {
		r.starts[id] = r.client(id, "").last().Cursor
	}
	if _, err := r.db.Entries().Append(t.Context(), id, entries); err != nil {
		t.Fatal(err)
	}
	ids := make([]audit.EntryID, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	for some := range slices.Chunk(ids, 7) {
		r.place(id, some...)
	}
	r.lasts[id] = ids[len(ids)-1]
}

func (r *replays) read(t *testing.T, tenant audit.Tenant, now time.Time) []audit.EntryID {
	t.Helper()
	r.directory.set(tenant)
	r.mu.Lock()
	r.now = now
	r.mu.Unlock()
	r.watch(r.lasts[tenant.ID])
	defer r.watch(audit.EntryID{})
	var ids []audit.EntryID
	for _, text := range r.client(tenant.ID, r.starts[tenant.ID]).ids() {
		id, err := audit.ParseEntryID(text)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestExpiry(t *testing.T) {
	conformance.Expiry(t, func(t *testing.T) conformance.ExpiryUnderTest {
		r := newReplays(t)
		return conformance.ExpiryUnderTest{Put: r.put, Stream: r.read}
	})
}

func TestTheLiveStreamObeysTheCurrentSettings(t *testing.T) {
	w := newWorld(t)
	d := &directory{tenants: map[audit.TenantID]audit.Tenant{}}
	w.Tenants = d
	record := audit.Tenant{ID: tenant, Status: audit.TenantActive, Settings: audit.Settings{RetentionDays: 2}}
	d.set(record)
	c := w.subscribe("c1", `{}`, "")
	start := c.last().Cursor
	old, young := w.entry(func(e *audit.Entry) {
		e.Timestamp = e.Timestamp.Add(-48 * time.Hour)
		e.ID = audit.NewEntryID(e.Timestamp, [10]byte{1})
	}), w.entry(nil)
	w.publish(old, young)
	c.wants(t, young)
	if got, want := c.last().Items[0].ExpiresAt, young.Timestamp.Add(48*time.Hour); !got.Equal(want) {
		t.Errorf("expires_at is %v, want %v", got, want)
	}
	record.Settings.RetentionDays = 0
	d.set(record)
	again := w.subscribe("c2", `{}`, start)
	again.wants(t, old, young)
	if got := again.last().Items[0].ExpiresAt; !got.IsZero() {
		t.Errorf("expires_at is %v, want none", got)
	}
}
