package localcloud_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

func TestEndToEndRestore(t *testing.T) {
	onBothEngines(t, "restore", embeddedEntries, serverEntries, entriesComeBack)
}

// addMasterKey adds what encrypts the filters of cleanups.
func (r *reconciled) addMasterKey() {
	r.t.Helper()
	key, err := localkeys.Open(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.stores.MasterKey = key
}

// wantFailures checks that the tenant's log soon has one entry for each restore that failed, and no other failure.
func (r *retained) wantFailures(errors map[string]string) {
	r.t.Helper()
	r.handle()
	var recorded map[string]string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Second) {
		if recorded = r.failures(); len(recorded) >= len(errors) {
			break // OpenSearch shows entries after a second
		}
	}
	if !maps.Equal(recorded, errors) {
		r.t.Errorf("recorded failures: got %q, want %q", recorded, errors)
	}
}

// failures returns the errors of the restores that the tenant's log has as failed, by their ids.
func (r *retained) failures() map[string]string {
	r.t.Helper()
	recorded := map[string]string{}
	for _, entry := range r.admin.list(url.Values{"action": {"job.fail"}, "severity": {"ERROR"}}).Items {
		var about struct{ Kind, Error string }
		decode(r.t, entry["metadata"], &about)
		var id string
		decode(r.t, entry["resource_id"], &id)
		if before, again := recorded[id]; again {
			r.t.Errorf("restore %s is recorded with %q and %q, want it once", id, before, about.Error)
		}
		if recorded[id] = about.Error; about.Kind != "restore" {
			r.t.Errorf("job %s is recorded as a failed %s, want a restore", id, about.Kind)
		}
	}
	return recorded
}

// restoreAnswer is an answer about a restore.
type restoreAnswer struct {
	jobAnswer
	Until   string `json:"restored_until"`
	Cleaned int
}

// finish handles messages until a job has ended.
func (r *retained) finish(id string) (job jobAnswer) {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		r.handle()
		decode(r.t, r.admin.get("/jobs/"+id, nil).body, &job)
		if job.State != "queued" && job.State != "running" {
			return job
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the job is %s after some minutes, want it to end", job.State)
		}
	}
}

// restore brings entries of a time back, and waits for the end of the job.
func (r *retained) restore(from, to time.Time, options string) restoreAnswer {
	r.t.Helper()
	return r.restoreBy(from, to, options, func(id string) { r.finish(id) })
}

// restoreBy is restore by workers that handle the job with the id.
func (r *retained) restoreBy(from, to time.Time, options string, work func(id string)) (restored restoreAnswer) {
	r.t.Helper()
	path := "/tenants/" + string(r.admin.tenant) + "/restores"
	body := fmt.Sprintf(`{"from":%q,"to":%q%s}`, from.Format(time.RFC3339), to.Format(time.RFC3339), options)
	got := r.admin.do("POST", path, body, nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("restore: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	decode(r.t, got.body, &restored)
	stop := r.indexMeanwhile()
	work(restored.ID)
	stop()
	decode(r.t, r.admin.get(path+"/"+restored.ID, nil).body, &restored)
	return restored
}

// indexMeanwhile indexes what jobs send, until it is stopped. The queue slows those who send more than is indexed.
func (r *retained) indexMeanwhile() (stop func()) {
	ctx, end := context.WithCancel(r.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if err := r.handleQueue(manifest.QueueIndex); err != nil && !audit.IsUnavailable(err) && ctx.Err() == nil {
				r.t.Error(err)
			}
		}
	})
	return func() { end(); group.Wait() }
}

func (r *retained) wantRestored(when string, got restoreAnswer, state string, count int) {
	r.t.Helper()
	if got.State != state {
		r.t.Errorf("%s: the restore is %s (%s), want %s", when, got.State, got.Error, state)
	}
	if got.Count != count {
		r.t.Errorf("%s: the restore counts %d, want %d", when, got.Count, count)
	}
}

// leave removes entries from the stores.
func (r *retained) leave(ids []audit.EntryID) {
	r.t.Helper()
	ctx, entries := r.t.Context(), r.services.Stores.Entries
	for len(ids) > 0 {
		page := ids[:min(len(ids), retention.MaxEntries)]
		ids = ids[len(page):]
		err := entries.Unmark(ctx, r.admin.tenant, page) // retention has marked them for later
		if err == nil {
			err = entries.Mark(ctx, r.admin.tenant, page, -time.Minute)
		}
		if err == nil {
			err = r.services.Stores.Index.Remove(ctx, r.admin.tenant, page)
		}
		if err == nil {
			_, err = entries.RemoveDue(ctx, r.admin.tenant, page)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// entriesComeBack archives entries that leave the stores, and restores them.
func entriesComeBack(r *retained, total int) {
	const oneDay = 24 * time.Hour
	first, last := today().AddDate(0, 0, -80), today().AddDate(0, 0, -41) // in two months at least
	r.admin.configure(`{"archive":true}`)
	r.handle()
	r.send(total, func(i int) time.Time {
		return first.AddDate(0, 0, i*20/total*2).Add(time.Duration(i) * time.Millisecond)
	})
	r.pass(2 * oneDay)
	r.archive()
	all := r.acknowledgedBefore(last)
	r.wantArchived("at first", all)
	r.wantOnly("at first", all)
	places := r.places(first)

	cleaned := r.cleanUpWhileHeld(last, total)
	kept := r.stored(last)
	gone, left := r.leaveWhileHeld(last, total-cleaned)
	r.wantCounts("after they have left", counts{stored: left, marked: left, indexed: anyStored})

	back := total - cleaned
	h := r.holdOn("u20") // it changes nothing
	restored := r.restoreBy(first, last, `,"days":14`, func(string) {
		r.workKilled(faults{kills: 8, apart: 12, skew: oneDay, before: map[nth]func(){{"Append", 2}: h.set}, each: h.look})
	})
	h.release()
	r.handle()
	r.wantRestored("without what was cleaned up", restored, "succeeded", back)
	if restored.Cleaned != cleaned {
		r.t.Errorf("the restore passed over %d entries, want %d", restored.Cleaned, cleaned)
	}
	r.wantCounts("after the restore", counts{stored: back, indexed: back, visible: back})
	r.retain()
	r.pass(8 * oneDay)
	r.retain()
	r.reconcile(r.admin.tenant)
	r.archive()
	r.wantCounts("after retention, reconciliation and archiving", counts{stored: back, indexed: back, visible: back})
	r.wantOnly("after retention, reconciliation and archiving", kept)
	r.wantArchived("after the restore", all)
	if got := r.places(first); got != places {
		r.t.Errorf("the first day has %d places after the restore, want %d", got, places)
	}
	for _, entry := range r.admin.list(url.Values{"user_id": {"u28"}, "resource_type": {"order"}, "limit": {"5"}}).Items {
		if got := string(entry["restored_until"]); got != fmt.Sprintf("%q", restored.Until) {
			r.t.Errorf("a list has an entry with restored_until %s, want %q", got, restored.Until)
		}
	}
	one := r.admin.get("/logs/"+gone.String(), nil)
	if !strings.Contains(string(one.body), fmt.Sprintf(`"restored_until":%q`, restored.Until)) {
		r.t.Errorf("an entry is answered as %d %s, want it with restored_until %q", one.status, one.body, restored.Until)
	}

	r.entriesLeaveTheArchive(first, last, all)
	r.partIsDamaged(first, last)
}

// cleanUpWhileHeld removes the entries of twenty of a hundred users, while a hold is set on ten of them. It returns how many
// it removed.
func (r *retained) cleanUpWhileHeld(before time.Time, total int) (removed int) {
	r.t.Helper()
	query := url.Values{"before": {before.Format(time.DateOnly)}}
	for i := range 20 {
		query.Add("user_id", fmt.Sprintf("u%d", i))
	}
	h := r.holdOn(query["user_id"][10:]...)
	got := r.admin.do("DELETE", "/logs/cleanup?"+query.Encode(), "", nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("clean up: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var job jobAnswer
	decode(r.t, got.body, &job)
	r.workKilled(faults{kills: 8, apart: 12, skew: 24 * time.Hour, before: map[nth]func(){{"MarkRead", 2}: h.set}, each: h.look})
	held := h.wantKept()
	removed = total/5 - held
	if job = r.finish(job.ID); job.State != "succeeded" || job.Count != removed {
		r.t.Errorf("the cleanup is %s (%s) with the count %d, want it to succeed with %d", job.State, job.Error, job.Count, removed)
	}
	r.wantCounts("after the cleanup", counts{stored: total - removed, indexed: total - removed, visible: total - removed})
	stored := r.stored(before)
	r.wantOnly("after the cleanup", r.acknowledgedIf(func(id audit.EntryID, user string) bool {
		return !slices.Contains(query["user_id"], user) || slices.Contains(h.users, user) && stored[id]
	}))
	h.release()
	return removed
}

// leaveWhileHeld has so many entries leave the stores for the archive, while a hold is set on some of them. It is
// released then. It returns an entry that has left, and how many have not.
func (r *retained) leaveWhileHeld(before time.Time, total int) (gone audit.EntryID, left int) {
	r.t.Helper()
	const oneDay = 24 * time.Hour
	stored := r.stored(before)
	kill := faults{kills: 8, apart: 5, skew: oneDay}
	r.admin.configure(`{"searchable_days":30}`)
	r.workKilled(kill)
	r.wantCounts("before they leave", counts{stored: total, marked: total, indexed: total})
	r.pass(6 * oneDay)
	r.schedule("retain-logs", func() { r.workKilled(kill) })
	r.pass(3 * oneDay) // and a day by the clock that is behind
	var users []string
	for i := range 20 {
		users = append(users, fmt.Sprintf("u%d", 20+i))
	}
	h := r.holdOn(users...)
	kill.before, kill.each = map[nth]func(){{"RemoveDue", 2}: h.set}, h.look
	r.schedule("retain-logs", func() { r.workKilled(kill) })
	left = h.wantKept()
	h.release()
	r.reconcile(r.admin.tenant)
	now := r.stored(before)
	for id := range stored {
		if !now[id] {
			gone = id
			break
		}
	}
	return gone, left
}

// places returns how many places of the arrival log have entries of a day.
func (r *retained) places(day time.Time) int64 {
	r.t.Helper()
	n, err := r.stores.Arrivals.PlacesOn(r.t.Context(), r.admin.tenant, day)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// partIsDamaged removes a part, and cuts it short: a restore fails and names it, and so does the tenant's log.
func (r *retained) partIsDamaged(from, to time.Time) {
	r.t.Helper()
	ctx, tenant := r.t.Context(), r.admin.tenant
	list, err := r.stores.Archive.List(ctx, tenant, "month=", "", export.MaxList)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, file := range list {
		if !strings.HasSuffix(file.Key, ".parquet") {
			continue
		}
		name := file.Key[strings.LastIndexByte(file.Key, '/')+1:]
		if err := r.stores.Archive.Delete(ctx, tenant, file.Key); err != nil {
			r.t.Fatal(err)
		}
		failures := map[string]string{}
		for _, what := range []string{"missing", "damaged"} {
			if what == "damaged" {
				if err := r.stores.Archive.Create(ctx, tenant, file.Key, export.ContentOf([]byte("PAR1"), "")); err != nil {
					r.t.Fatal(err)
				}
			}
			got := r.restore(from, to, "")
			r.wantRestored(what, got, "failed", 0)
			if !strings.HasPrefix(got.Error, name+" of ") || !strings.Contains(got.Error, what) {
				r.t.Errorf("a part is %s: the restore failed with %q, want it to name %s", what, got.Error, name)
			}
			failures[got.ID] = got.Error
		}
		r.wantFailures(failures)
		return
	}
	r.t.Error("there is no part")
}
