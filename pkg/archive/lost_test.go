package archive_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// retain sets the retention of the tenant, and has all days of the archive looked at.
func (w *world) retain(days int) {
	w.T.Helper()
	w.Owner.Settings.RetentionDays = days
	if err := w.DB.Activity().TouchAll(w.T.Context(), activity.Archive, acme, w.Time); err != nil {
		w.T.Fatal(err)
	}
}

// wantMarked checks whether all parts of March are marked for their removal, or none.
func (w *world) wantMarked(when string, want bool) {
	w.T.Helper()
	m := w.manifest("2026-03")
	for i := range m.Files {
		if got := !m.Files[i].DeletableAt.IsZero(); got != want {
			w.T.Errorf("%s: %s is marked: %t, want %t", when, m.Files[i].Name, got, want)
		}
	}
}

// TestAShorterRetentionLeavesPartsForSevenDays. A longer one, or a legal hold, takes that back meanwhile.
func TestAShorterRetentionLeavesPartsForSevenDays(t *testing.T) {
	w := newWorld(t)
	w.Owner.Settings.RetentionDays = 365
	w.Time = date(3, 4, 12)
	w.store(date(3, 4, 0), largeDay)
	w.until(date(6, 1, 0))
	w.removeStored(date(3, 4, 0)) // it is not searchable any more
	for _, back := range []func(){
		func() { w.retain(365) },
		func() {
			h := hold.Hold{ID: "h", Tenant: acme, Matter: "m", Reason: "r", CreatedAt: w.Time, Version: 1}
			if err := w.DB.Holds().CreateHold(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		},
	} {
		lowered := w.Time
		w.retain(30)
		w.until(lowered.AddDate(0, 0, 6))
		w.wantMarked("six days later", true)
		w.wantArchived("six days later", []string{"2026-03"}, all)
		back()
		w.until(lowered.AddDate(0, 0, 9))
		w.wantMarked("after it was taken back", false)
		w.wantArchived("after it was taken back", []string{"2026-03"}, all)
	}
	h, err := w.DB.Holds().Hold(t.Context(), acme, "h")
	if err != nil {
		t.Fatal(err)
	}
	h.ReleasedAt, h.Version = w.Time, 2
	if err := w.DB.Holds().UpdateHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	lowered := w.Time
	w.retain(30)
	w.until(lowered.AddDate(0, 0, 7))
	w.wantArchived("before the seven days are over", []string{"2026-03"}, all)
	w.until(lowered.AddDate(0, 0, 7).Add(3 * time.Hour))
	if got, want := w.files("2026-03"), []string{"_manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("after the seven days: %v are left, want %v", got, want)
	}
}

// TestALostManifestCostsNoPart: jobs fail and say so, whether the database lacks what is archived or has
// more, until the manifest is back.
func TestALostManifestCostsNoPart(t *testing.T) {
	const key = "month=2026-02/_manifest.json"
	for name, late := range map[string]int{"late entries": 5, "nothing to archive": 0} {
		t.Run(name, func(t *testing.T) {
			w := february(t)
			w.until(date(3, 1, 6))
			files, manifest := w.files("2026-02"), w.read(key)
			w.removeStored(date(2, 14, 0)) // the archive has the only copy
			if late == 0 {
				for _, day := range []int{1, 15, 28} {
					w.removeStored(date(2, day, 0))
				}
			}
			if err := w.blobs.Blobs.Delete(t.Context(), acme, key); err != nil {
				t.Fatal(err)
			}
			w.store(date(2, 20, 0), late) // touches a day
			w.until(date(3, 4, 0))
			without := slices.DeleteFunc(files, func(name string) bool { return name == "_manifest.json" })
			if diff := cmp.Diff(without, w.files("2026-02")); diff != "" {
				t.Errorf("files without their manifest (-want +got):\n%s", diff)
			}
			failed := w.jobs()[0]
			if want := key + " is missing"; failed.State != jobs.StateFailed || !strings.HasPrefix(failed.Error, want) {
				t.Errorf("the last job is %s with %q, want it to have failed with %q", failed.State, failed.Error, want)
			}
			if err := w.blobs.Put(t.Context(), acme, key, export.ContentOf(manifest, "application/json")); err != nil {
				t.Fatal(err)
			}
			w.until(date(3, 6, 0))
			w.wantArchived("with its manifest", []string{"2026-02"}, all)
		})
	}
}

// TestAManifestThatIsLostDuringAJobCostsNoPart: it goes before each write of a job that follows.
func TestAManifestThatIsLostDuringAJobCostsNoPart(t *testing.T) {
	for at, reached := 1, true; reached; at++ {
		w := february(t)
		w.until(date(3, 1, 6))
		w.removeStored(date(2, 14, 0))
		files := w.files("2026-02")
		writes := 0
		reached = false
		w.blobs.before = func() {
			if writes++; writes == at {
				reached = true
				if err := w.blobs.Blobs.Delete(t.Context(), acme, "month=2026-02/_manifest.json"); err != nil {
					t.Error(err)
				}
			}
		}
		w.store(date(2, 20, 0), 5)
		w.until(date(3, 4, 0))
		left := w.files("2026-02")
		for _, name := range files {
			if name != "_manifest.json" && !slices.Contains(left, name) {
				t.Errorf("lost before write %d: %s is gone", at, name)
			}
		}
	}
}
