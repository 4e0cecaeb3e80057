package localcloud_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// userOf returns the number of the user of an entry that entriesComeBack has sent.
func userOf(id audit.EntryID) int {
	at := id.Time()
	return int(at.Sub(at.Truncate(24*time.Hour)).Milliseconds()) % 100
}

// entriesLeaveTheArchive removes the entries of twenty of a hundred users from the stores and the archive by workers that are
// killed. The stores have those of five users no more. A hold on ten users is set in the middle. Nothing brings back what
// is removed.
func (r *retained) entriesLeaveTheArchive(first, last time.Time, all map[audit.EntryID]bool) {
	r.t.Helper()
	const from, held, to, away = 40, 50, 60, 5
	share := len(all) / 100
	query := url.Values{"before": {last.Format(time.DateOnly)}, "archive": {"true"}}
	for user := from; user < to; user++ {
		query.Add("user_id", fmt.Sprintf("u%d", user))
	}
	var ids []audit.EntryID
	for id := range all {
		if user := userOf(id); from <= user && user < from+away {
			ids = append(ids, id)
		}
	}
	r.leave(ids)
	stored := share * (to - from - away)
	r.wantPreview(query, stored)
	got := r.admin.do("DELETE", "/logs/cleanup?"+query.Encode(), "", nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("clean up: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var job struct {
		jobAnswer
		ArchiveCount *int `json:"archive_count"`
	}
	got.decode(r.t, &job)
	h := r.holdOn(query["user_id"][held-from:]...)
	r.workKilled(faults{kills: 8, apart: 12, skew: 24 * time.Hour, before: map[nth]func(){{"Replace", 1}: h.set}, each: h.look})
	r.handle()
	r.admin.get("/jobs/"+job.ID, nil).decode(r.t, &job)
	if job.State != "succeeded" || job.Count != stored {
		r.t.Errorf("the cleanup is %s (%s) and counts %d, want it to succeed with %d", job.State, job.Error, job.Count, stored)
	}

	kept := r.archived()
	lost, stayed := 0, 0
	for id := range all {
		switch user := userOf(id); {
		case kept[id] && from <= user && user < held:
			stayed++
		case !kept[id] && (user < from || user >= to):
			lost++
		}
	}
	if lost > 0 {
		r.t.Errorf("the archive has lost %d entries that the cleanup did not select, want none", lost)
	}
	if stayed > 0 {
		r.t.Errorf("the archive has %d entries that the cleanup removes, want none", stayed)
	}
	gone := len(all) - len(kept)
	if gone == share*(to-from) {
		r.t.Error("a hold in the middle of a cleanup of the archive has kept nothing, want it to keep some entries")
	}
	if job.ArchiveCount == nil || *job.ArchiveCount != gone {
		r.t.Errorf("the cleanup counts %v of the archive, want %d", job.ArchiveCount, gone)
	}
	h.release()
	r.pass(2 * 24 * time.Hour)
	r.archive()
	r.wantArchived("after archiving again", kept)
	r.wantRestored("with what was cleaned up", r.restore(first, last, `,"days":15,"include_cleaned":true`), "succeeded", len(kept))
	r.wantCounts("with what was cleaned up", counts{stored: len(kept), indexed: len(kept), visible: len(kept)})
	r.wantOnly("with what was cleaned up", kept)
}

func (r *retained) wantPreview(query url.Values, want int) {
	r.t.Helper()
	dry := url.Values{"dry_run": {"true"}}
	for name, values := range query {
		dry[name] = slices.Clone(values)
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
