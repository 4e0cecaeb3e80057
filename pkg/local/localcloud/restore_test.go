package localcloud_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

func TestEndToEndRestore(t *testing.T) { onBothEngines(t, "restore", 20_000, 3000, entriesComeBack) }

// addMasterKey adds what encrypts the filters of cleanups.
func (r *reconciled) addMasterKey() {
	r.t.Helper()
	key, err := localkeys.Open(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.stores.MasterKey = key
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
func (r *retained) restore(from, to time.Time, options string) (restored restoreAnswer) {
	r.t.Helper()
	path := "/tenants/" + string(r.admin.tenant) + "/restores"
	body := fmt.Sprintf(`{"from":%q,"to":%q%s}`, from.Format(time.RFC3339), to.Format(time.RFC3339), options)
	got := r.admin.do("POST", path, body, nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("restore: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	decode(r.t, got.body, &restored)
	r.finish(restored.ID)
	decode(r.t, r.admin.get(path+"/"+restored.ID, nil).body, &restored)
	return restored
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
	const oneDay, left = 24 * time.Hour, 100
	first, last := today().AddDate(0, 0, -80), today().AddDate(0, 0, -59)
	r.admin.configure(`{"archive":true}`)
	r.handle()
	r.send(total, func(i int) time.Time { return first.AddDate(0, 0, i%20).Add(time.Duration(i) * time.Millisecond) })
	r.pass(2 * oneDay)
	r.archive()
	all := r.stored(last)
	r.wantArchived("at first", all)
	places := r.places(first)

	cleaned := total / 100 // of one of a hundred users
	var job jobAnswer
	decode(r.t, r.admin.do("DELETE", "/logs/cleanup?"+url.Values{"before": {last.Format(time.DateOnly)}, "user_id": {"u7"}}.Encode(), "", nil).body, &job)
	if job = r.finish(job.ID); job.Count != cleaned {
		r.t.Fatalf("the cleanup removed %d entries, want %d: %s", job.Count, cleaned, job.Error)
	}
	r.admin.configure(`{"searchable_days":30}`)
	r.handle()
	var gone []audit.EntryID
	for id := range r.stored(last) {
		if len(gone) < total-cleaned-left { // the others are about to leave
			gone = append(gone, id)
		}
	}
	r.leave(gone)
	r.wantCounts("after they have left", counts{stored: left, marked: left, indexed: left})

	back := total - cleaned
	restored := r.restore(first, last, `,"days":14`)
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
	r.wantArchived("after the restore", all)
	if got := r.places(first); got != places {
		r.t.Errorf("the first day has %d places after the restore, want %d", got, places)
	}
	for _, entry := range r.admin.list(url.Values{"user_id": {"u8"}, "resource_type": {"order"}, "limit": {"5"}}).Items {
		if got := string(entry["restored_until"]); got != fmt.Sprintf("%q", restored.Until) {
			r.t.Errorf("a list has an entry with restored_until %s, want %q", got, restored.Until)
		}
	}
	one := r.admin.get("/logs/"+gone[0].String(), nil)
	if !strings.Contains(string(one.body), fmt.Sprintf(`"restored_until":%q`, restored.Until)) {
		r.t.Errorf("an entry is answered as %d %s, want it with restored_until %q", one.status, one.body, restored.Until)
	}

	r.wantRestored("with what was cleaned up", r.restore(first, last, `,"days":15,"include_cleaned":true`), "succeeded", total)
	r.wantCounts("with what was cleaned up", counts{stored: total, indexed: total, visible: total})
	r.partIsDamaged(first, last)
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

// partIsDamaged cuts a part short, and removes it: a restore fails and names it.
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
		}
		return
	}
	r.t.Error("there is no part")
}
