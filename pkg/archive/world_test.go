package archive_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

const (
	acme   = audit.TenantID("acme")
	oneDay = 24 * time.Hour
	// largeDay and maxRows are those of the worlds of tests.
	largeDay = 60
	maxRows  = 40
)

func date(month, day, hour int) time.Time {
	return time.Date(2026, time.Month(month), day, hour, 0, 0, 0, time.UTC)
}

// world is the archive of a tenant over the embedded engine, with files in a folder.
type world struct {
	*jobtest.World
	blobs   *blobs
	runner  *archive.Runner
	planner *archive.Planner
	plan    *activity.Plan
	put     int                      // entries so far
	want    map[audit.EntryID]string // the entries, by what must be archived of them
	place   int64                    // the end of the arrival log
	// ownerGone says that the tenant's record is gone.
	ownerGone bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: jobtest.New(t), want: map[audit.EntryID]string{}}
	w.Owner.Settings = audit.DefaultSettings()
	w.Owner.Settings.Archive = true
	files, err := fileblob.OpenPlain(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	w.blobs = &blobs{Blobs: files, w: w.World}
	w.runner = &archive.Runner{
		Store: w.DB.Entries(), Blobs: w.blobs, Holds: w.DB.Holds(), Tenants: w, Places: w, Recorder: w, Now: w.Clock, Random: jobtest.Random, MaxRows: maxRows,
	}
	w.planner = &archive.Planner{
		Register: w.DB.Activity(), Tenants: w, Store: w.DB.Entries(), Blobs: w.blobs, Holds: w.DB.Holds(), Jobs: w.Service, Continue: w.share, Now: w.Clock,
		Log: slog.New(slog.DiscardHandler), LargeDay: largeDay,
	}
	w.Worker.Runners[jobs.KindArchive] = w.runner
	w.plan = &activity.Plan{
		Work: activity.Archive, Register: w.DB.Activity(), Now: w.Clock, Log: slog.New(slog.DiscardHandler), Share: w.share,
		More: func(ctx context.Context, tenant audit.TenantID, input any) error {
			return jobs.SendTask(ctx, w, tenant, jobs.TaskPlanArchive, input)
		},
	}
	w.Worker.Tasks = map[jobs.TaskName]jobs.Task{jobs.TaskArchive: w.planner.Do, jobs.TaskPlanArchive: w.plan.Do}
	return w
}

// Tenant implements archive.Tenants.
func (w *world) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	if w.ownerGone {
		return audit.Tenant{}, audit.ErrNotFound
	}
	return w.World.Tenant(ctx, id)
}

// Head implements archive.Places.
func (w *world) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{Last: w.place}, nil
}

// blobs are the files of a worker that can be killed at each of its writes.
type blobs struct {
	*fileblob.Blobs
	w *jobtest.World
	// before, if it is set, is called before each write, and created after each file that is new.
	before  func()
	created func(key string)
}

func (b *blobs) write(do func() error) error {
	if b.before != nil {
		b.before()
	}
	return b.w.Call(do)
}

func (b *blobs) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	return b.write(func() error {
		err := b.Blobs.Create(ctx, tenant, key, c)
		if err == nil && b.created != nil {
			b.created(key)
		}
		return err
	})
}

func (b *blobs) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	return b.write(func() error { return b.Blobs.Replace(ctx, tenant, key, etag, c) })
}

func (b *blobs) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	return b.write(func() error { return b.Blobs.Delete(ctx, tenant, key) })
}

// entry is the n-th entry, which has every field that is archived.
func entry(n int, at time.Time) audit.Entry {
	var unique [10]byte
	binary.BigEndian.PutUint32(unique[6:], uint32(n))
	id := audit.NewEntryID(at, unique)
	e := audit.Entry{
		ID: id, Tenant: acme, UserID: fmt.Sprintf("u%d", n%10), Action: "VIEW", ResourceType: "order", ResourceID: fmt.Sprint(n % 100),
		Timestamp: id.Time(), ReceivedAt: at.Add(time.Second).Truncate(time.Millisecond), SubmittedBy: "key:1", Severity: audit.Severity(n % 4),
		Metadata: audit.Object(fmt.Sprintf(`{"n":%d,"1.0":1e21}`, n)),
	}
	if n%7 == 0 {
		e.Message, e.Changed, e.Before, e.After = "Größe ✓", []string{"a", "b.c"}, audit.Object(`{"a":1}`), audit.Object(`{"a":2}`)
	}
	if n%11 == 0 {
		e.Encrypted = []audit.Encrypted{{Paths: []string{"/metadata/x"}, Key: "u", Generation: 2, Data: []byte{1, 2, 3}, Tokens: []audit.ValueToken{{9}}}}
	}
	return e
}

// archived is what must be archived of an entry.
func archived(e audit.Entry) string {
	for i := range e.Encrypted {
		e.Encrypted[i].Tokens = nil
	}
	e.QueueMessage = audit.MessageID{}
	return fmt.Sprintf("%+v", e)
}

// store stores entries with timestamps on a day, as if they came now, and registers the day.
func (w *world) store(day time.Time, n int) {
	w.T.Helper()
	var entries []audit.Entry
	for i := range n {
		entries = append(entries, entry(w.put, day.Add(time.Duration(i)*oneDay/time.Duration(n))))
		w.put++
	}
	receipt := activity.Receipt{Received: w.Time.Truncate(oneDay), Day: day}
	if err := w.DB.Activity().Touch(w.T.Context(), acme, []activity.Receipt{receipt}, w.Time.Add(time.Hour)); err != nil {
		w.T.Fatal(err)
	}
	w.Put(acme, entries)
	stored, err := w.DB.Entries().EntriesByID(w.T.Context(), acme, audit.IDsOf(entries))
	if err != nil {
		w.T.Fatal(err)
	}
	for _, e := range stored {
		w.want[e.ID] = archived(e)
	}
	w.place += int64(n)
}

// share sends days of a tenant as a task.
func (w *world) share(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error {
	return jobs.SendTask(ctx, w, tenant, jobs.TaskArchive, days)
}

// run shares out what is due and does it.
func (w *world) run() {
	w.T.Helper()
	if err := w.plan.Run(w.T.Context()); err != nil {
		w.T.Fatal(err)
	}
	w.Work()
}

// until lets time pass, with a run an hour.
func (w *world) until(at time.Time) {
	w.T.Helper()
	for w.Time.Before(at) {
		w.Time = w.Time.Add(time.Hour)
		w.run()
	}
}

func (w *world) manifest(month string) (m archive.Manifest) {
	w.T.Helper()
	text := w.read("month=" + month + "/_manifest.json")
	if text == nil {
		return m
	}
	if err := json.Unmarshal(text, &m); err != nil {
		w.T.Fatal(err)
	}
	return m
}

// read returns a file, nil if there is none.
func (w *world) read(key string) []byte {
	w.T.Helper()
	body, _, err := w.blobs.Get(w.T.Context(), acme, key)
	if errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.T.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		w.T.Fatal(err)
	}
	return text
}

// files returns the names of the files of a month.
func (w *world) files(month string) (names []string) {
	w.T.Helper()
	list, err := w.blobs.List(w.T.Context(), acme, "month="+month+"/", "", export.MaxList)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, f := range list {
		names = append(names, strings.TrimPrefix(f.Key, "month="+month+"/"))
	}
	return names
}

// wantArchived checks that the archive has exactly those of the entries that a condition selects, each once,
// and no file but theirs.
func (w *world) wantArchived(when string, months []string, is func(day time.Time) bool) {
	w.T.Helper()
	want := map[audit.EntryID]string{}
	for id, text := range w.want {
		if is(id.Time()) {
			want[id] = text
		}
	}
	got := map[audit.EntryID]string{}
	for _, month := range months {
		m := w.manifest(month)
		names := []string{"_manifest.json"}
		for i := range m.Files {
			f := &m.Files[i]
			names = append(names, f.Name, f.IDs.Name)
			err := archive.ReadPart(w.T.Context(), w.blobs, acme, month, f, func(e *audit.Entry) error {
				if _, twice := got[e.ID]; twice {
					w.T.Errorf("%s: entry %s is archived twice", when, e.ID)
				}
				got[e.ID] = archived(*e)
				return nil
			})
			if err != nil {
				w.T.Error(err)
			}
		}
		if m.Version == 0 {
			names = nil
		}
		slices.Sort(names)
		if diff := cmp.Diff(names, w.files(month)); diff != "" {
			w.T.Errorf("%s: the files of %s (-want +got):\n%s", when, month, diff)
		}
	}
	if len(got) != len(want) {
		w.T.Errorf("%s: %d entries are archived, want %d", when, len(got), len(want))
	}
	if !maps.Equal(got, want) {
		for id, text := range want {
			if got[id] != text {
				w.T.Fatalf("%s: entry %s: got %s, want %s", when, id, got[id], text)
			}
		}
		w.T.Errorf("%s: there are others", when)
	}
}

func all(time.Time) bool { return true }

// start starts a job that archives February.
func (w *world) start(id string) {
	w.T.Helper()
	job := jobs.Job{ID: id, Kind: jobs.KindArchive, Tenant: acme, CreatedBy: "service", Checkpoint: json.RawMessage(`{"month":"2026-02"}`)}
	if _, err := w.Service.Start(w.T.Context(), job); err != nil {
		w.T.Fatal(err)
	}
}

// jobs returns the jobs of the tenant, the newest first.
func (w *world) jobs() []jobs.Job {
	w.T.Helper()
	list, _, err := w.DB.Jobs().Jobs(w.T.Context(), acme, jobs.Filter{}, nil, 100)
	if err != nil {
		w.T.Fatal(err)
	}
	return list
}

func (w *world) wantJobs(when string, want int) {
	w.T.Helper()
	list := w.jobs()
	if len(list) != want {
		w.T.Errorf("%s: %d jobs, want %d", when, len(list), want)
	}
	for _, job := range list {
		if job.State != jobs.StateSucceeded {
			w.T.Errorf("%s: job %s is %s (%s), want it to have succeeded", when, job.ID, job.State, job.Error)
		}
	}
}
