package localcloud_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

func TestEndToEndArchive(t *testing.T) {
	const late = embeddedEntries / 5 // besides a large day
	onBothEngines(t, "archive", embeddedEntries+late, serverEntries+serverEntries/5, func(r *retained, total int) {
		largeDay := 1000
		if total > archive.LargeDay {
			largeDay = archive.LargeDay
		}
		entriesAreArchived(r, total, largeDay)
	})
}

// archive has the schedule's function run once, and the workers do what it shares out.
func (r *retained) archive() {
	r.t.Helper()
	r.schedule("archive-logs", r.handle)
	r.handle() // what was recorded about jobs
}

// send sends entries with a timestamp each.
func (r *retained) send(n int, at func(i int) time.Time) {
	r.t.Helper()
	r.sendEach(n, func(i int) (user, text string) {
		user = fmt.Sprintf("u%d", i%100)
		return user, fmt.Sprintf(`{"user_id":%q,"action":"VIEW","resource_type":"order","timestamp":%q,"metadata":{"n":%d}}`, user, at(i).Format(time.RFC3339Nano), i)
	})
	r.handle()
}

// archived returns the ids of what the manifests list. Each part must be whole, no entry in two, and no file beside
// those that they list.
func (r *retained) archived() map[audit.EntryID]bool {
	r.t.Helper()
	list, err := r.stores.Archive.List(r.t.Context(), r.admin.tenant, "", "", export.MaxList)
	if err != nil {
		r.t.Fatal(err)
	}
	beside := map[string]bool{}
	for _, file := range list {
		beside[file.Key] = strings.HasPrefix(file.Key, "month=")
	}
	ids := map[audit.EntryID]bool{}
	for _, file := range list {
		folder, is := strings.CutSuffix(file.Key, "_manifest.json")
		if !is {
			continue
		}
		beside[file.Key] = false
		var m archive.Manifest
		decode(r.t, r.archiveFile(file.Key), &m)
		for i := range m.Files {
			beside[folder+m.Files[i].Name], beside[folder+m.Files[i].IDs.Name] = false, false
		}
		r.addArchived(folder, &m, ids)
	}
	for key, is := range beside {
		if is {
			r.t.Errorf("the archive has %s, which no manifest lists", key)
		}
	}
	return ids
}

// addArchived adds the ids of the entries of a month. None of them may be there yet.
func (r *retained) addArchived(folder string, m *archive.Manifest, ids map[audit.EntryID]bool) {
	r.t.Helper()
	rows := map[string]int64{}
	for i := range m.Files {
		for _, id := range r.partIDs(folder, m.Month, &m.Files[i]) {
			if ids[id] {
				r.t.Errorf("entry %s is archived twice", id)
			}
			ids[id] = true
			rows[id.Time().Format(time.DateOnly)]++
		}
	}
	for _, day := range m.Days {
		if got := rows[day.Day]; got != day.Rows.Rows {
			r.t.Errorf("the manifest says that %s has %d entries, but its parts have %d", day.Day, day.Rows.Rows, got)
		}
	}
}

// partIDs returns the ids of the entries of a part, in their order. Parts are never rewritten, so that the rows of each
// content are read once. Its bytes are compared with the manifest each time.
func (r *retained) partIDs(folder, month string, f *archive.File) (ids []audit.EntryID) {
	r.t.Helper()
	if ids, read := r.parts[f.SHA256]; read {
		if got := fmt.Sprintf("%x", sha256.Sum256(r.archiveFile(folder+f.Name))); got != f.SHA256 {
			r.t.Errorf("%s of %s has the SHA-256 %s, want %s", f.Name, month, got, f.SHA256)
		}
		return ids
	}
	err := archive.ReadPart(r.t.Context(), r.stores.Archive, r.admin.tenant, month, f, func(e *audit.Entry) error {
		ids = append(ids, e.ID)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.parts == nil {
		r.parts = map[string][]audit.EntryID{}
	}
	r.parts[f.SHA256] = ids
	return ids
}

// archiveFile returns the content of a file of the archive.
func (r *retained) archiveFile(key string) []byte {
	r.t.Helper()
	body, _, err := r.stores.Archive.Get(r.t.Context(), r.admin.tenant, key)
	if err != nil {
		r.t.Fatal(err)
	}
	content, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		r.t.Fatal(err)
	}
	return content
}

func (r *retained) wantArchived(when string, want map[audit.EntryID]bool) {
	r.t.Helper()
	r.wantSame(when+": the archive", r.archived(), want)
}

// entriesAreArchived sends entries of a day and of the months before, archives and expires them.
func entriesAreArchived(r *retained, total, large int) {
	const oneDay = 24 * time.Hour
	day := today().AddDate(0, 0, -2) // has settled
	old := today().AddDate(0, 0, -50)
	r.admin.configure(`{"archive":true}`)
	r.handleDelayed() // else all days are due a minute after the change
	r.send(large, func(i int) time.Time { return day.Add(time.Duration(i) * oneDay / time.Duration(large)) })
	r.send(total-large, func(i int) time.Time {
		return old.AddDate(0, 0, i*20/(total-large)-19).Add(time.Duration(i) * time.Millisecond)
	})
	sent := r.acknowledgedBefore(today())
	r.wantOnly("at first", sent)
	r.archive()
	r.wantArchived("before a day is due", nil)
	r.pass(2 * oneDay)
	r.archiveKilled()
	ended := time.Date(day.Year(), day.Month()+1, 1, 0, 0, 0, 0, time.UTC).Add(activity.ArchiveDelay)
	if large < archive.LargeDay && time.Now().Before(ended) { // waits for the end of its month
		sent = r.acknowledgedBefore(day)
	}
	r.wantArchived("once the days are due", sent)
	r.wantArchiveJobs("once the days are due", len(sent))

	const late = 10
	r.send(late, func(i int) time.Time { return old.AddDate(0, 0, 3).Add(time.Duration(i) * time.Second) })
	r.admin.configure(`{"retention_days":30}`)
	r.handle()
	r.pass(8 * oneDay)
	r.retain()
	r.pass(oneDay)
	r.retain()
	r.wantCounts("after the removal of what is archived", counts{stored: large + late, indexed: large + late, visible: large})
	r.archive()
	maps.Copy(sent, r.acknowledgedBefore(day)) // the late ones
	r.wantArchived("with the late ones", sent)
	r.pass(8 * oneDay)
	r.retain()
	r.pass(8 * oneDay)
	r.retain()
	r.wantCounts("after the late ones were archived", counts{stored: large, indexed: large, visible: large})
	r.wantOnly("after the late ones were archived", r.acknowledgedFrom(day))
	r.admin.configure(`{"archive":false,"retention_days":1}`)
	r.handle()
	r.pass(8 * oneDay)
	r.retain()
	r.pass(oneDay)
	r.retain()
	r.wantCounts("without the setting", counts{})
	r.wantOnly("without the setting", nil)
}
