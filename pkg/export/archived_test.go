package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/testkit/jobtest"
)

// Head implements archive.Places.
func (w *world) Head(context.Context, audit.TenantID) (arrival.Head, error) {
	return arrival.Head{}, nil
}

// archiveHeld archives what is stored of the month of heldStart, in parts of a few hundred entries.
func (w *world) archiveHeld(id string) {
	w.t.Helper()
	w.Owner.Settings.Archive = true
	w.Worker.Runners[jobs.KindArchive] = &archive.Runner{
		Store: w.DB.Entries(), Blobs: w.archive, Holds: w.DB.Holds(), Tenants: w, Places: w, Recorder: w, Now: w.Clock, Random: jobtest.Random, MaxRows: 300,
	}
	job := jobs.Job{ID: id, Kind: jobs.KindArchive, Tenant: "acme", CreatedBy: "service", Checkpoint: json.RawMessage(`{"month":"2026-01"}`)}
	if _, err := w.Service.Start(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
	w.Work()
	if job := w.Job(id); job.State != jobs.StateSucceeded {
		w.t.Fatalf("the job that archives is %s (%s)", job.State, job.Error)
	}
}

// leave removes those of the stored entries that a condition selects, as retention does.
func (w *world) leave(is func(n int) bool) {
	w.t.Helper()
	var ids []audit.EntryID
	of, n := retention.Selection{}, 0
	for {
		page, err := w.DB.Entries().Retained(w.t.Context(), "acme", of, retention.MaxEntries)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			if of.After = page[i].ID; is(n) {
				ids = append(ids, page[i].ID)
			}
			n++
		}
	}
	for len(ids) > 0 {
		page := ids[:min(len(ids), retention.MaxEntries)]
		ids = ids[len(page):]
		if err := w.DB.Entries().Mark(w.t.Context(), "acme", page, -time.Second); err != nil {
			w.t.Fatal(err)
		}
		if n, err := w.DB.Entries().RemoveDue(w.t.Context(), "acme", page); err != nil || n != len(page) {
			w.t.Fatalf("removed %d of %d entries: %v", n, len(page), err)
		}
	}
}

// heldFile returns the file of an export by a hold.
func (w *world) heldFile(query url.Values) []byte {
	w.t.Helper()
	e := w.createHeld(access.Scope{}, query)
	w.Work()
	job, content := w.file(e.ID)
	if job.State != jobs.StateSucceeded {
		w.t.Fatalf("the export is %s (%s), want %s", job.State, job.Error, jobs.StateSucceeded)
	}
	return content
}

// The file of an export by a hold is the same, byte for byte, wherever what the hold covers is.
func TestAnExportByAHoldHasWhatOnlyTheArchiveHas(t *testing.T) {
	t.Parallel()
	queries := []url.Values{
		{"hold": {"h"}}, {"hold": {"all"}}, {"hold": {"day"}, "format": {"csv"}}, {"hold": {"all"}, "q": {"-resource_type:user"}},
		{"hold": {"day"}, "from": {"2026-01-02T12:00:00Z"}, "user_id": {"u4"}},
	}
	for name, leaves := range map[string]func(n int) bool{
		"all are stored": func(int) bool { return false }, "none": func(int) bool { return true }, "one in two": func(n int) bool { return n%2 == 0 },
		"the newest": func(n int) bool { return n < 4000 }, "the oldest": func(n int) bool { return n > 700 }, "one in thousand": func(n int) bool { return n%1000 != 999 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHeldWorld(t)
			w.hold(hold.Hold{ID: "day", UserIDs: []string{"u3", "u4"}, From: heldStart.AddDate(0, 0, 1), To: heldStart.AddDate(0, 0, 2)})
			w.hold(hold.Hold{ID: "all"})
			w.Time = w.Time.Add(time.Minute)
			var want [][]byte
			for _, query := range queries {
				want = append(want, w.heldFile(query))
			}
			w.archiveHeld("a")
			w.leave(leaves)
			for i, query := range queries {
				if got := w.heldFile(query); !bytes.Equal(got, want[i]) {
					t.Errorf("%v: the file has %d bytes, %d lines, want %d, %d", query, len(got), bytes.Count(got, []byte{'\n'}), len(want[i]), bytes.Count(want[i], []byte{'\n'}))
				}
			}
		})
	}
}

// Late entries are in parts of their own, whose times are those of other parts.
func TestAnExportByAHoldMergesLateEntries(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	w.hold(hold.Hold{ID: "all"})
	w.archiveHeld("a")
	late := make([]audit.Entry, 900)
	for i := range late {
		at := heldStart.Add(time.Duration(i)*5*time.Minute + time.Second)
		late[i] = audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "u3", Action: "LATE", ResourceType: "order", Timestamp: at, ReceivedAt: w.Time,
		}
	}
	if _, err := w.DB.Entries().Append(t.Context(), "acme", late); err != nil {
		t.Fatal(err)
	}
	w.Time = w.Time.Add(time.Minute)
	want := w.heldFile(url.Values{"hold": {"all"}})
	w.archiveHeld("b")
	w.leave(func(n int) bool { return n%3 != 0 })
	if got := w.heldFile(url.Values{"hold": {"all"}}); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, want the %d of one from before", len(got), len(want))
	}
	w.wantLines(want, heldEntries+len(late))
}

// A worker that reads the archive is killed at each of its calls in turn. The file has every entry once.
func TestAKilledExportOfTheArchiveResumes(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	query := url.Values{"hold": {"h"}}
	w.Time = w.Time.Add(time.Minute)
	want := w.heldFile(query)
	w.archiveHeld("a")
	w.leave(func(n int) bool { return n%7 < 4 })
	w.Tick, w.Worker.SliceTime = time.Microsecond, 20*time.Microsecond
	w.Calls = 0
	w.heldFile(query)
	for at, total := 1, w.Calls; at <= total; at++ {
		w.Calls, w.KillAt, w.After = 0, at, at%2 == 0
		if got := w.heldFile(query); !bytes.Equal(got, want) {
			t.Errorf("killed at call %d: the file has %d bytes, want %d", at, len(got), len(want))
		}
	}
}

// The same identity was sent again with other content after the entry had left the database. Both are evidence.
func TestAnExportByAHoldHasBothContentsOfAnIdentity(t *testing.T) {
	t.Parallel()
	w := newHeldWorld(t)
	w.archiveHeld("a")
	w.leave(func(int) bool { return true })
	w.Time = w.Time.Add(time.Hour)
	at := heldStart.Add(3 * time.Minute)
	again := audit.Entry{
		Tenant: "acme", UserID: "u3", Action: "OTHER", ResourceType: "order", Timestamp: at, ReceivedAt: w.Time, Digest: audit.Digest{Sum: [32]byte{1}},
	}
	var unique [10]byte
	copy(unique[:], fmt.Sprintf("%010d", 3))
	again.ID = audit.NewEntryID(at, unique)
	same := again
	same.Action, same.Timestamp, same.Digest = "VIEW", heldStart.Add(13*time.Minute), audit.Digest{} // the content that is archived
	copy(unique[:], fmt.Sprintf("%010d", 13))
	same.ID = audit.NewEntryID(same.Timestamp, unique)
	if _, err := w.DB.Entries().Append(t.Context(), "acme", []audit.Entry{again, same}); err != nil {
		t.Fatal(err)
	}
	w.Time = w.Time.Add(time.Minute)
	content := w.heldFile(url.Values{"hold": {"h"}})
	for id, want := range map[audit.EntryID]int{again.ID: 2, same.ID: 1} {
		if got := strings.Count(string(content), id.String()); got != want {
			t.Errorf("the file has the id %s %d times, want %d", id, got, want)
		}
	}
	w.wantLines(content, heldEntries/10+1)
}

// A damaged archive fails the export, and the job names what is damaged: it is never silently less.
func TestADamagedArchiveFailsTheExport(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"part-000003.parquet": "part-000003.parquet of 2026-01 is damaged", "_ids-000004": "part-000004.parquet of 2026-01 is damaged",
		"_manifest.json": "the manifest of 2026-01 is damaged", "-part-000003.parquet": "part-000003.parquet of 2026-01 is missing", "-_manifest.json": "_manifest.json is missing",
	} {
		w := newHeldWorld(t)
		w.archiveHeld("a")
		w.leave(func(int) bool { return true })
		file, removed := strings.CutPrefix(name, "-")
		key := "month=2026-01/" + file
		if err := w.archive.Delete(t.Context(), "acme", key); err != nil {
			t.Fatal(err)
		}
		if !removed {
			if err := w.archive.Create(t.Context(), "acme", key, export.ContentOf([]byte("damaged"), "text/plain")); err != nil {
				t.Fatal(err)
			}
		}
		w.Time = w.Time.Add(time.Minute)
		e := w.createHeld(access.Scope{}, url.Values{"hold": {"h"}})
		w.Work()
		job, content := w.file(e.ID)
		if job.State != jobs.StateFailed || !strings.Contains(job.Error, want) {
			t.Errorf("%s: the job is %s (%s), want it failed with %q", name, job.State, job.Error, want)
		}
		if content != nil {
			t.Errorf("%s: there is a file of %d bytes, want none", name, len(content))
		}
	}
}
