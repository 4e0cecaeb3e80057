package localcloud_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

func TestEndToEndArchive(t *testing.T) {
	onBothEngines(t, "archive", 120_000, 12_000, func(r *retained, total int) {
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
	r.schedule("archive-logs")
	r.handle() // what was recorded about jobs
}

// send sends entries with a timestamp each.
func (r *retained) send(n int, at func(i int) time.Time) {
	r.t.Helper()
	var entries []string
	for i := range n {
		entries = append(entries, fmt.Sprintf(`{"user_id":"u%d","action":"VIEW","resource_type":"order","timestamp":%q,"metadata":{"n":%d}}`,
			i%100, at(i).Format(time.RFC3339Nano), i))
		if len(entries) == 1000 || i == n-1 {
			r.admin.bulk(entries)
			entries = entries[:0]
		}
	}
	r.handle()
}

// stored returns the ids of the tenant's entries before a time.
func (r *retained) stored(to time.Time) map[audit.EntryID]bool {
	r.t.Helper()
	ids := map[audit.EntryID]bool{}
	var after audit.EntryID
	for {
		page, err := r.services.Stores.Entries.IDs(r.t.Context(), r.admin.tenant, time.Time{}, to, after, search.MaxIDs)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(page) == 0 {
			return ids
		}
		for _, id := range page {
			ids[id] = true
		}
		after = page[len(page)-1]
	}
}

// archived returns the ids of what the manifests list. Each part must be whole, and no entry in two.
func (r *retained) archived() map[audit.EntryID]bool {
	r.t.Helper()
	ctx, blobs, tenant := r.t.Context(), r.stores.Archive, r.admin.tenant
	ids := map[audit.EntryID]bool{}
	list, err := blobs.List(ctx, tenant, "", "", export.MaxList)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range list {
		if !strings.HasSuffix(file.Key, "/_manifest.json") {
			continue
		}
		var m archive.Manifest
		body, _, err := blobs.Get(ctx, tenant, file.Key)
		if err == nil {
			err = json.NewDecoder(body).Decode(&m)
			_, copyErr := io.Copy(io.Discard, body)
			err = errors.Join(err, copyErr, body.Close())
		}
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range m.Files {
			err := archive.ReadPart(ctx, blobs, tenant, m.Month, &m.Files[i], func(e *audit.Entry) error {
				if ids[e.ID] {
					r.t.Errorf("entry %s is archived twice", e.ID)
				}
				ids[e.ID] = true
				return nil
			})
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return ids
}

func (r *retained) wantArchived(when string, want map[audit.EntryID]bool) {
	r.t.Helper()
	got := r.archived()
	if len(got) != len(want) {
		r.t.Errorf("%s: %d entries are archived, want %d", when, len(got), len(want))
	}
	for id := range want {
		if !got[id] {
			r.t.Fatalf("%s: entry %s is not archived", when, id)
		}
	}
}

// entriesAreArchived sends entries of a day and of the months before, archives and expires them.
func entriesAreArchived(r *retained, total, large int) {
	const oneDay = 24 * time.Hour
	day := today().AddDate(0, 0, -2) // has settled
	old := today().AddDate(0, 0, -50)
	r.admin.configure(`{"archive":true}`)
	r.handleDelayed() // else all days are due a minute after the change
	r.send(large, func(i int) time.Time { return day.Add(time.Duration(i) * oneDay / time.Duration(large)) })
	r.send(total-large, func(i int) time.Time { return old.AddDate(0, 0, -i%20).Add(time.Duration(i) * time.Millisecond) })
	stored := r.stored(today())
	if len(stored) != total {
		r.t.Fatalf("%d entries are stored, want %d", len(stored), total)
	}
	r.archive()
	r.wantArchived("before a day is due", nil)
	r.pass(2 * oneDay)
	r.archive()
	if large < archive.LargeDay && day.Month() == today().Month() { // waits for the end of its month
		for id := range stored {
			if !id.Time().Before(day) {
				delete(stored, id)
			}
		}
	}
	r.wantArchived("once the days are due", stored)
	archived := len(stored)

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
	if got := len(r.archived()); got != archived+late {
		r.t.Errorf("%d entries are archived, want %d with the late ones", got, archived+late)
	}
	r.pass(8 * oneDay)
	r.retain()
	r.pass(8 * oneDay)
	r.retain()
	r.wantCounts("after the late ones were archived", counts{stored: large, indexed: large, visible: large})
	r.admin.configure(`{"archive":false,"retention_days":1}`)
	r.handle()
	r.pass(8 * oneDay)
	r.retain()
	r.pass(oneDay)
	r.retain()
	r.wantCounts("without the setting", counts{})
}
