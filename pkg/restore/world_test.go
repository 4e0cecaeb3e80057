package restore_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

const (
	acme    = audit.TenantID("acme")
	oneDay  = 24 * time.Hour
	maxRows = 400 // of a part
)

var (
	admin = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{acme: {access.ArchiveRestore}}}
	// first and last bound what worlds archive: the days of a month.
	first = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
)

// world is an archive and a worker over the embedded engine.
type world struct {
	*jobtest.World
	service *restore.Service
	runner  *restore.Runner
	blobs   *fileblob.Blobs
	archive *archive.Runner
	log     *archive.CleanedLog
	all     []audit.Entry // that are archived
	indexed map[audit.EntryID]audit.Entry
	touched map[time.Time]bool // days
}

// newWorld returns a world with entries that are archived and stored.
func newWorld(t *testing.T, entries int) *world {
	t.Helper()
	w := &world{World: jobtest.New(t), indexed: map[audit.EntryID]audit.Entry{}, touched: map[time.Time]bool{}}
	w.Owner.Settings = audit.DefaultSettings()
	w.Owner.Settings.Archive, w.Owner.Settings.SearchableDays = true, 20
	files, err := fileblob.OpenPlain(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	w.blobs = files
	w.archive = &archive.Runner{
		Store: w.DB.Entries(), Blobs: files, Holds: w.DB.Holds(), Tenants: w, Places: w, Recorder: w, Now: w.Clock, Random: jobtest.Random, MaxRows: maxRows,
	}
	w.log = &archive.CleanedLog{Blobs: files, Holds: w.DB.Holds(), Tenants: w, Now: w.Clock}
	w.service = &restore.Service{Jobs: w.Service, Recorder: w, Now: w.Clock, Random: jobtest.Random}
	w.runner = &restore.Runner{
		Entries: mortalEntries{w.DB.Entries(), w.World}, Archive: files, Index: w.index(), Days: w, Jobs: w.DB.Jobs(), Tenants: w,
		Now: w.Clock,
	}
	w.Worker.Runners[jobs.KindArchive], w.Worker.Runners[jobs.KindRestore] = w.archive, w.runner
	w.add(entries)
	return w
}

// add stores and archives entries.
func (w *world) add(entries int) {
	w.T.Helper()
	from := len(w.all)
	for i := range entries {
		w.all = append(w.all, entry(from+i, first.Add(time.Duration(i)*last.Sub(first)/time.Duration(entries))))
	}
	w.Put(acme, w.all[from:])
	w.run("archive", "2026-01")
}

// run archives a month.
func (w *world) run(id, month string) {
	w.T.Helper()
	job := jobs.Job{ID: fmt.Sprintf("%s-%d", id, len(w.all)), Kind: jobs.KindArchive, Tenant: acme, CreatedBy: "service", Checkpoint: json.RawMessage(`{"month":"` + month + `"}`)}
	if _, err := w.Service.Start(w.T.Context(), job); err != nil {
		w.T.Fatal(err)
	}
	w.Work()
}

func entry(n int, at time.Time) audit.Entry {
	var unique [10]byte
	binary.BigEndian.PutUint32(unique[6:], uint32(n))
	id := audit.NewEntryID(at, unique)
	e := audit.Entry{
		ID: id, Tenant: acme, UserID: fmt.Sprintf("u%d", n%10), Action: "VIEW", ResourceType: "order", ResourceID: fmt.Sprint(n % 100),
		Timestamp: id.Time(), ReceivedAt: at.Add(time.Second).Truncate(time.Millisecond), SubmittedBy: "key:1", Severity: audit.Severity(n % 4),
		Metadata: audit.Object(fmt.Sprintf(`{"n":%d,"1.0":1e21}`, n)), Digest: audit.Digest{Sum: [32]byte{byte(n), byte(n >> 8)}},
	}
	if n%50 == 0 {
		e.SubmittedBy = audit.SubmittedByService
	}
	return e
}

// Head implements archive.Places.
func (w *world) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// Update implements restore.Tenants.
func (w *world) Update(_ context.Context, tenant audit.Tenant) error {
	return w.Call(func() error {
		if tenant.Version != w.Owner.Version+1 {
			return audit.ErrPrecondition
		}
		w.Owner = tenant
		return nil
	})
}

// Touch implements restore.Days.
func (w *world) Touch(_ context.Context, _ audit.TenantID, entries []audit.Entry) error {
	return w.Call(func() error {
		for i := range entries {
			w.touched[entries[i].Timestamp.Truncate(oneDay)] = true
		}
		return nil
	})
}

// index returns the queue of the index.
func (w *world) index() search.Queue { return indexQueue{w} }

type indexQueue struct{ *world }

func (q indexQueue) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	return q.Call(func() error {
		for _, body := range bodies {
			contents, err := envelope.Unpack(body)
			if err != nil {
				return err
			}
			for _, e := range contents.Entries {
				q.indexed[e.ID] = e
			}
		}
		return nil
	})
}

// mortalEntries is the system of record of a worker that can be killed.
type mortalEntries struct {
	restore.Entries
	w *jobtest.World
}

func (m mortalEntries) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (appended ingest.Appended, err error) {
	return appended, m.w.Call(func() error { appended, err = m.Entries.Append(ctx, tenant, entries); return err })
}

func (m mortalEntries) KeepRestored(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, until time.Time) error {
	return m.w.Call(func() error { return m.Entries.KeepRestored(ctx, tenant, ids, until) })
}

// remove removes entries from the store, as retention does.
func (w *world) remove(entries []audit.Entry) {
	w.T.Helper()
	ctx, ids := w.T.Context(), audit.IDsOf(entries)
	err := w.DB.Entries().Mark(ctx, acme, ids, -time.Second)
	n := 0
	if err == nil {
		n, err = w.DB.Entries().RemoveDue(ctx, acme, ids)
	}
	if err != nil || n != len(ids) {
		w.T.Fatalf("removed %d of %d entries: %v", n, len(ids), err)
	}
}

func (w *world) create(r restore.Request) restore.Restore {
	w.T.Helper()
	created, err := w.service.Create(w.T.Context(), admin, w.Owner, r)
	if err != nil {
		w.T.Fatal(err)
	}
	return created
}

func (w *world) get(id string) restore.Restore {
	w.T.Helper()
	found, err := w.service.Restore(w.T.Context(), admin, acme, id)
	if err != nil {
		w.T.Fatal(err)
	}
	return found
}

// stored returns what the store has of the archived entries.
func (w *world) stored() map[audit.EntryID]audit.Entry {
	w.T.Helper()
	found, err := w.DB.Entries().EntriesByID(w.T.Context(), acme, audit.IDsOf(w.all))
	if err != nil {
		w.T.Fatal(err)
	}
	byID := make(map[audit.EntryID]audit.Entry, len(found))
	for _, e := range found {
		byID[e.ID] = e
	}
	if n, err := w.DB.Entries().Count(w.T.Context(), acme, time.Time{}, time.Time{}); err != nil || n != int64(len(byID)) {
		w.T.Errorf("the store has %d entries, %v, want %d", n, err, len(byID))
	}
	return byID
}

// wantBack checks that the store has exactly these entries as restored until a time, and the others as
// living. All of both are whole. What was restored was sent to the index, and its days are registered.
func (w *world) wantBack(when string, until time.Time, restored, living []audit.Entry) {
	w.T.Helper()
	got := w.stored()
	if want := len(restored) + len(living); len(got) != want {
		w.T.Errorf("%s: %d entries are stored, want %d", when, len(got), want)
	}
	check := func(e audit.Entry) {
		w.T.Helper()
		stored, found := got[e.ID]
		if !found {
			w.T.Fatalf("%s: entry %s is not stored, want it to be", when, e.ID)
		}
		if got, want := fmt.Sprintf("%+v", stored), fmt.Sprintf("%+v", e); got != want {
			w.T.Fatalf("%s: got entry %s, want %s", when, got, want)
		}
	}
	for _, e := range living {
		check(e)
	}
	for _, e := range restored {
		e.RestoredUntil = until
		check(e)
		if indexed := w.indexed[e.ID]; !indexed.RestoredUntil.Equal(until) {
			w.T.Fatalf("%s: entry %s was sent to the index as restored until %v, want %v", when, e.ID, indexed.RestoredUntil, until)
		}
		if day := e.Timestamp.Truncate(oneDay); !w.touched[day] {
			w.T.Fatalf("%s: the day %v is not registered", when, day)
		}
	}
}

func (w *world) damage(key string, how func(text []byte) []byte) {
	w.T.Helper()
	text, err := readBlob(w.T.Context(), w.blobs, key)
	if err == nil {
		text = how(text)
		err = w.blobs.Delete(w.T.Context(), acme, key)
	}
	if err == nil && text != nil {
		err = w.blobs.Put(w.T.Context(), acme, key, export.ContentOf(text, ""))
	}
	if err != nil {
		w.T.Fatal(err)
	}
}
