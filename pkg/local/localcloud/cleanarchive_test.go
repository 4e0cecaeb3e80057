package localcloud_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func TestEndToEndCleanupOfTheArchive(t *testing.T) {
	onBothEngines(t, "cleanarchive", 6000, 2000, entriesLeaveTheArchive)
}

// entriesLeaveTheArchive removes the entries of users from the archive, some of which the stores have no more. Nothing
// brings them back.
func entriesLeaveTheArchive(r *retained, total int) {
	const oneDay = 24 * time.Hour
	first, last := today().AddDate(0, 0, -80), today().AddDate(0, 0, -59)
	r.admin.configure(`{"archive":true}`)
	r.handle()
	r.send(total, func(i int) time.Time { return first.AddDate(0, 0, i%20).Add(time.Duration(i) * time.Millisecond) })
	r.pass(2 * oneDay)
	r.archive()
	all := r.stored(last)
	r.wantArchived("at first", all)
	gone := map[audit.EntryID]bool{}
	for _, e := range r.admin.list(url.Values{"user_id": {"u7"}, "limit": {"1000"}, "to": {last.Format(time.DateOnly)}}).Items {
		var id audit.EntryID
		var text string
		err := json.Unmarshal(e["id"], &text)
		if err == nil {
			id, err = audit.ParseEntryID(text)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		gone[id] = true
	}
	if len(gone) != total/100 {
		r.t.Fatalf("listed %d entries of the user, want %d", len(gone), total/100)
	}
	var ids []audit.EntryID
	for id := range all {
		if len(ids) < total/2 {
			ids = append(ids, id)
		}
	}
	r.leave(ids)
	stored := len(gone)
	for _, id := range ids {
		if gone[id] {
			stored--
		}
	}
	query := url.Values{"before": {last.Format(time.DateOnly)}, "user_id": {"u7"}, "archive": {"true"}}
	r.wantPreview(query, stored)
	var job struct {
		jobAnswer
		ArchiveCount *int `json:"archive_count"`
	}
	got := r.admin.do("DELETE", "/logs/cleanup?"+query.Encode(), "", nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("clean up: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	decode(r.t, got.body, &job)
	r.finish(job.ID)
	decode(r.t, r.admin.get("/jobs/"+job.ID, nil).body, &job)
	if job.State != "succeeded" || job.Count != stored {
		r.t.Errorf("the cleanup is %s (%s) and counts %d, want it to succeed with %d", job.State, job.Error, job.Count, stored)
	}
	if job.ArchiveCount == nil || *job.ArchiveCount != len(gone) {
		r.t.Errorf("the cleanup counts %v of the archive, want %d", job.ArchiveCount, len(gone))
	}
	kept := map[audit.EntryID]bool{}
	for id := range all {
		if !gone[id] {
			kept[id] = true
		}
	}
	r.wantArchived("after the cleanup", kept)
	r.pass(2 * oneDay)
	r.archive()
	r.wantArchived("after archiving again", kept)
	r.wantRestored("with what was cleaned up", r.restore(first, last, `,"include_cleaned":true`), "succeeded", len(kept)-r.left(ids, gone))
	r.wantCounts("after the restore", counts{stored: len(kept), indexed: len(kept), visible: len(kept)})
}

// left returns how many entries that are not gone had stayed in the stores.
func (r *retained) left(ids []audit.EntryID, gone map[audit.EntryID]bool) int {
	stayed := 0
	for id := range r.archived() {
		if !gone[id] {
			stayed++
		}
	}
	for _, id := range ids {
		if !gone[id] {
			stayed--
		}
	}
	return stayed
}

func (r *retained) wantPreview(query url.Values, want int) {
	r.t.Helper()
	dry := url.Values{"dry_run": {"true"}}
	for name, values := range query {
		dry[name] = values
	}
	got := r.admin.do("DELETE", "/logs/cleanup?"+dry.Encode(), "", nil)
	var preview struct {
		Count          int
		ArchiveCounted *bool `json:"archive_counted"`
	}
	decode(r.t, got.body, &preview)
	if preview.Count != want || preview.ArchiveCounted == nil || *preview.ArchiveCounted {
		r.t.Errorf("the preview is %s, want %d entries and that the archive is not counted", got.body, want)
	}
}
