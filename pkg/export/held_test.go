package export_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

// holder may export by legal holds.
var holder = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsExport, access.HoldsRead}}}

// heldEntries is how many entries a heldWorld has: one a minute, of ten users in turn.
const heldEntries = 5000

// newHeldWorld returns a world whose entries are stored and not indexed, as those that have expired are
// at last. A hold covers those of u3.
func newHeldWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 1
	w.storeHeld(heldEntries, 0)
	w.Time = w.Time.Add(time.Second)
	w.hold(hold.Hold{ID: "h", UserIDs: []string{"u3"}})
	return w
}

func (w *world) hold(h hold.Hold) {
	w.t.Helper()
	h.Tenant, h.CreatedAt, h.Version = "acme", w.Time, 1
	if err := w.DB.Holds().CreateHold(w.t.Context(), h); err != nil {
		w.t.Fatal(err)
	}
}

// heldStart is the time of the first held entry, which has expired.
var heldStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// storeHeld stores entries that are received now, with messages of a length.
func (w *world) storeHeld(n, length int) {
	w.t.Helper()
	entries := make([]audit.Entry, n)
	for i := range entries {
		at := heldStart.Add(time.Duration(i) * time.Minute)
		var unique [10]byte
		copy(unique[:], fmt.Sprintf("%010d", i))
		resource := "order"
		if i%20 == 3 {
			resource = "user"
		}
		entries[i] = audit.Entry{
			ID: audit.NewEntryID(at, unique), Tenant: "acme", UserID: fmt.Sprintf("u%d", i%10), Action: "VIEW", ResourceType: resource,
			Timestamp: at, ReceivedAt: w.Time, Message: strings.Repeat("x", length),
		}
	}
	for page := range slices.Chunk(entries, 1000) {
		if _, err := w.DB.Entries().Append(w.t.Context(), "acme", page); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) createHeld(scope access.Scope, query url.Values) export.Export {
	w.t.Helper()
	e, err := w.Create(w.t.Context(), holder, w.Owner, scope, query)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// What is expired is in no list, and a legal hold exports it: all of what it covers, and nothing else.
func TestAnExportByALegalHoldHasWhatItCovers(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	w.hold(hold.Hold{ID: "day", UserIDs: []string{"u3", "u4"}, From: heldStart.AddDate(0, 0, 1), To: heldStart.AddDate(0, 0, 2)})
	w.hold(hold.Hold{ID: "all"})
	users := access.Scope{Resources: []access.Resource{{Type: "user"}}}
	for name, test := range map[string]struct {
		scope access.Scope
		query url.Values
		want  int
	}{
		"one user":         {query: url.Values{"hold": {"h"}}, want: heldEntries / 10},
		"users of a day":   {query: url.Values{"hold": {"day"}}, want: 2 * 24 * 60 / 10},
		"a later from":     {query: url.Values{"hold": {"day"}, "from": {"2026-01-02T12:00:00Z"}}, want: 24 * 60 / 10},
		"an earlier to":    {query: url.Values{"hold": {"day"}, "to": {"2026-01-02T12:00:00Z"}}, want: 24 * 60 / 10},
		"a wider range":    {query: url.Values{"hold": {"day"}, "from": {"2025-01-01"}, "to": {"2027-01-01"}}, want: 2 * 24 * 60 / 10},
		"another user":     {query: url.Values{"hold": {"day"}, "user_id": {"u5"}}, want: 0},
		"a filter":         {query: url.Values{"hold": {"h"}, "resource_type": {"user"}}, want: heldEntries / 20},
		"a query":          {query: url.Values{"hold": {"h"}, "q": {"-resource_type:user"}}, want: heldEntries / 20},
		"within a scope":   {scope: users, query: url.Values{"hold": {"h"}}, want: heldEntries / 20},
		"all within scope": {scope: users, query: url.Values{"hold": {"all"}}, want: heldEntries / 20},
		"all, as CSV":      {query: url.Values{"hold": {"all"}, "format": {"csv"}, "fields": {"id"}}, want: heldEntries + 1},
	} {
		e := w.createHeld(test.scope, test.query)
		w.Work()
		job, content := w.file(e.ID)
		if job.State != jobs.StateSucceeded {
			t.Errorf("%s: the job is %s (%s), want %s", name, job.State, job.Error, jobs.StateSucceeded)
		}
		if got := strings.Count(string(content), "\n"); got != test.want {
			t.Errorf("%s: the file has %d lines, want %d", name, got, test.want)
		}
	}
	if w.Recorded[0].Action != "export.create" || !strings.Contains(string(w.Recorded[0].Metadata), `"hold":"`) {
		t.Errorf("recorded %s with %s, want the hold", w.Recorded[0].Action, w.Recorded[0].Metadata)
	}
}

func TestExportsByAHoldThatIsNone(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	w.hold(hold.Hold{ID: "released", ReleasedAt: w.Time})
	for id, want := range map[string]error{"none": export.ErrNoHold, "released": hold.ErrReleased} {
		query := url.Values{"hold": {id}}
		if _, err := w.Create(t.Context(), holder, w.Owner, access.Scope{}, query); !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", id, err, want)
		}
	}
	_, err := w.Create(t.Context(), admin, w.Owner, access.Scope{}, url.Values{"hold": {"h"}})
	if denied := (*access.DeniedError)(nil); !errors.As(err, &denied) || denied.Permission != access.HoldsRead {
		t.Errorf("without holds:read: got error %v, want that it lacks", err)
	}
	restricted := holder
	restricted.Resources = []access.Resource{{Type: "order"}}
	scope, query := access.Scope{Resources: restricted.Resources}, url.Values{"hold": {"h"}}
	if _, err := w.Create(t.Context(), restricted, w.Owner, scope, query); !errors.Is(err, audit.ErrForbidden) {
		t.Errorf("restricted to resources: got error %v, want %v", err, audit.ErrForbidden)
	}
	if len(w.Recorded) > 0 {
		t.Errorf("recorded %q, want nothing", w.Actions())
	}
	w.Files = urls{}
	e := w.createHeld(scope, query)
	w.Work()
	got, err := w.Export(t.Context(), restricted, w.Owner, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.URL != "" || !slices.Equal(got.Lacking, []access.Permission{access.HoldsRead}) {
		t.Errorf("restricted to resources: got URL %q, lacking %q, want none and that it lacks", got.URL, got.Lacking)
	}
}

// A hold that is released while its entries are exported fails the export: what it covered can go.
func TestAReleaseFailsTheExport(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	e := w.createHeld(access.Scope{}, url.Values{"hold": {"h"}})
	w.release("h")
	w.Work()
	job, content := w.file(e.ID)
	if job.State != jobs.StateFailed || !strings.Contains(job.Error, "released") {
		t.Errorf("the job is %s (%s), want it failed by the release", job.State, job.Error)
	}
	if content != nil {
		t.Errorf("the file has %d bytes, want none", len(content))
	}
	w.wantNoUploads()
}

// The slices of an export look at few entries each, and its worker is killed before and after each of its
// calls in turn. The file has every entry once.
func TestAKilledExportByAHoldResumes(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	query := url.Values{"hold": {"h"}, "format": {"json"}}
	first := w.createHeld(access.Scope{}, query)
	w.Work()
	_, want := w.file(first.ID)
	w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond
	w.Calls = 0
	e := w.createHeld(access.Scope{}, query)
	w.Work()
	total := w.Calls
	if job, _ := w.file(e.ID); job.Generation < 5 {
		t.Errorf("the job had %d deliveries, want one for each few entries", job.Generation)
	}
	for at := 1; at <= total; at++ {
		for _, after := range []bool{false, true} {
			w.Calls, w.KillAt, w.After = 0, at, after
			e := w.createHeld(access.Scope{}, query)
			w.Work()
			job, content := w.file(e.ID)
			if job.State != jobs.StateSucceeded {
				t.Errorf("killed at call %d, after its effect %t: the job is %s (%s), want %s", at, after, job.State, job.Error, jobs.StateSucceeded)
			}
			if job.Count != heldEntries/10 {
				t.Errorf("killed at call %d, after its effect %t: the job counts %d, want %d", at, after, job.Count, heldEntries/10)
			}
			if !bytes.Equal(content, want) {
				t.Errorf("killed at call %d, after its effect %t: the file has %d bytes of other content, want %d", at, after, len(content), len(want))
			}
		}
	}
}

// An export of several parts, whose slices end at any entry, has every entry once.
func TestASlicedExportByAHoldIsWhole(t *testing.T) {
	t.Parallel()
	const entries = 3000
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 1
	w.storeHeld(entries, 7000)
	w.Time = w.Time.Add(time.Second)
	w.hold(hold.Hold{ID: "all"})
	w.Tick, w.Worker.SliceTime = time.Microsecond, 60*time.Microsecond
	e := w.createHeld(access.Scope{}, url.Values{"hold": {"all"}})
	w.Work()
	job, content := w.file(e.ID)
	if w.parts < 2 {
		t.Errorf("the file of %d bytes has %d parts, want several", len(content), w.parts)
	}
	if w.small > 1 {
		t.Errorf("%d parts have fewer bytes than a part that is not the last must have, want at most 1", w.small)
	}
	if job.Generation < 4 {
		t.Errorf("the job had %d deliveries, want several", job.Generation)
	}
	w.wantLines(content, entries)
}

// An export by a hold reads the archive, so that it is always a job.
func TestAnExportByAHoldIsAJob(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	service := &export.Service{Entries: &search.Service{Index: w.DB.Index(), Now: w.Clock}, Recorder: w, Now: w.Clock}
	_, err := service.AtOnce(t.Context(), holder, w.Owner, access.Scope{}, url.Values{"hold": {"h"}})
	if tooLarge := (*export.TooLargeError)(nil); !errors.As(err, &tooLarge) {
		t.Errorf("got error %v, want that it takes a job", err)
	}
	archived := w.runner.Archived
	w.runner.Archived = nil // as other workers
	e := w.createHeld(access.Scope{}, url.Values{"hold": {"h"}})
	w.Deliver(1)
	if job := w.Job(e.ID); !job.Archive || job.State.Finished() {
		t.Errorf("the job is %s, for the workers of the archive: %t, want it to wait for them", job.State, job.Archive)
	}
	w.runner.Archived = archived
	w.Work()
	w.WantJob(e.ID, jobs.StateSucceeded, heldEntries/10)
}

// readStore counts the entries that are read.
type readStore struct {
	export.HeldStore
	read int
}

func (s *readStore) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	s.read += len(ids)
	return s.HeldStore.EntriesByID(ctx, tenant, ids)
}

// An export whose slices never fill a part reads every entry once, and its record stays small.
func TestANarrowExportEnds(t *testing.T) {
	t.Parallel()
	for _, query := range []url.Values{
		{"hold": {"all"}, "format": {"csv"}, "fields": {"action"}, "compress": {"zstd"}},
		{"hold": {"all"}, "format": {"csv"}, "fields": {"action"}, "compress": {"gzip"}},
		{"hold": {"all"}, "format": {"parquet"}, "fields": {"action"}},
	} {
		w := newHeldWorld(t)
		w.hold(hold.Hold{ID: "all"})
		store := &readStore{HeldStore: w.runner.Held}
		w.runner.Held = store
		w.Tick, w.Worker.SliceTime = time.Microsecond, time.Nanosecond // each page is a slice
		e := w.createHeld(access.Scope{}, query)
		largest := 0
		for len(w.Messages) > 0 {
			w.Deliver(1)
			largest = max(largest, len(w.Job(e.ID).Checkpoint))
		}
		w.WantJob(e.ID, jobs.StateSucceeded, heldEntries)
		if store.read != heldEntries {
			t.Errorf("%v: read %d entries, want each of %d once", query, store.read, heldEntries)
		}
		if largest > 16<<10 {
			t.Errorf("%v: the checkpoint had %d bytes, want at most 16 KiB", query, largest)
		}
		_, content := w.file(e.ID)
		if query.Get("format") == "parquet" {
			if table := parquettest.Read(t, content); len(table.Rows) != heldEntries {
				t.Errorf("the Parquet file has %d rows, want %d", len(table.Rows), heldEntries)
			}
			continue
		}
		if n := strings.Count(unpacked(t, content, query.Get("compress")), "\n"); n != heldEntries+1 {
			t.Errorf("%v: the file has %d lines, want %d", query, n, heldEntries+1)
		}
	}
}

// A hold is released after each call of a worker that is killed there. The export succeeds, or it fails and
// has no file, also if that was complete.
func TestAFailedExportHasNoFile(t *testing.T) {
	t.Parallel()
	failed := 0
	for at := 1; at <= 8; at++ { // claim, begin and save it, its part, commit, complete, finish
		w := newWorld(t)
		w.storeHeld(20, 0)
		w.hold(hold.Hold{ID: "h"})
		w.Time = w.Time.Add(time.Second)
		e := w.createHeld(access.Scope{}, url.Values{"hold": {"h"}})
		w.Time = w.Time.Add(time.Minute)
		w.KillAt, w.After = at, true
		w.Deliver(1)
		w.release("h")
		w.Time = w.Time.Add(5 * time.Minute)
		if _, err := w.Service.Plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Work()
		job, content := w.file(e.ID)
		if job.State == jobs.StateSucceeded {
			continue
		}
		failed++
		if content != nil {
			t.Errorf("killed at call %d: the job is %s and has a file of %d bytes, want none", at, job.State, len(content))
		}
	}
	if failed < 5 {
		t.Errorf("%d exports failed, want those of all calls but the last", failed)
	}
}

func (w *world) release(id string) {
	w.t.Helper()
	h, err := w.DB.Holds().Hold(w.t.Context(), "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	h.ReleasedAt, h.Version = w.Time, h.Version+1
	if err := w.DB.Holds().UpdateHold(w.t.Context(), h); err != nil {
		w.t.Fatal(err)
	}
}
