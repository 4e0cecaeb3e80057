package localcloud_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

func TestEndToEndSearchableDays(t *testing.T) {
	onBothEngines(t, "searchable", 20_000, 3000, entriesLeaveForTheArchive)
}

// entriesLeaveForTheArchive archives entries, and shortens and lengthens the time for which they are
// searchable. No entry is ever in neither place.
func entriesLeaveForTheArchive(r *retained, total int) {
	const (
		oneDay = 24 * time.Hour
		late   = 10
	)
	recent := total / 10
	old := today().AddDate(0, 0, -50) // of a month that has ended
	r.admin.configure(`{"archive":true,"retention_days":400}`)
	r.handle()
	r.send(recent, func(i int) time.Time { return today().Add(-oneDay + time.Duration(i)*time.Millisecond) })
	r.send(total-recent, func(i int) time.Time {
		return old.AddDate(0, 0, i*20/(total-recent)-19).Add(time.Duration(i) * time.Millisecond)
	})
	r.pass(2 * oneDay)
	r.archive()
	archived := r.acknowledgedBefore(old.Add(oneDay))
	r.wantOldArchived("at first", archived, old)
	r.send(late, func(i int) time.Time { return old.AddDate(0, 0, 3).Add(time.Duration(i) * time.Second) })
	all := counts{stored: total + late, indexed: total + late, visible: total + late}
	r.wantCounts("with late entries that are not archived", all)

	less, more := `{"searchable_days":30}`, `{"searchable_days":100}`
	marked := counts{stored: total + late, marked: total - recent, indexed: total + late, visible: recent}
	r.admin.configure(less)
	r.handle()
	r.wantCounts("after the days were shortened", marked)
	r.admin.configure(more)
	r.handle()
	r.wantCounts("after they were lengthened", all)

	r.admin.configure(less)
	r.handle()
	r.pass(6 * oneDay)
	r.retain()
	r.reconcile(r.admin.tenant)
	marked.indexed = recent + late
	r.wantCounts("a day before the removal", marked)
	r.admin.configure(more)
	r.handle()
	r.reconcile(r.admin.tenant)
	r.wantCounts("after they were lengthened at the last moment", all)

	r.admin.configure(less)
	r.handle()
	r.pass(6 * oneDay)
	r.retain()
	r.pass(2 * oneDay)
	r.retain()
	r.wantCounts("after the removal of what is archived", counts{stored: recent + late, indexed: recent + late, visible: recent})
	r.wantOldArchived("after the removal", archived, old)
	archived = r.acknowledgedBefore(old.AddDate(0, 0, 4))
	r.archive()
	r.wantOldArchived("after the late ones were archived", archived, old)
	r.pass(8 * oneDay)
	r.retain()
	r.pass(8 * oneDay)
	r.retain()
	r.wantCounts("after the removal of the late ones", counts{stored: recent, indexed: recent, visible: recent})
	r.wantNothingTold(archived)

	r.admin.configure(more)
	r.handle()
	r.reconcile(r.admin.tenant)
	r.wantCounts("after a change that comes too late", counts{stored: recent, indexed: recent, visible: recent})
	r.pass(2 * oneDay)
	r.archive()
	r.wantOldArchived("at the end", archived, old)
	r.wantOnly("at the end", r.acknowledgedFrom(old.AddDate(0, 0, 5)))
}

// wantOldArchived checks which entries of the old days the archive has.
func (r *retained) wantOldArchived(when string, want map[audit.EntryID]bool, old time.Time) {
	r.t.Helper()
	got := r.archived()
	for id := range got {
		if id.Time().After(old.AddDate(0, 0, 4)) {
			delete(got, id)
		}
	}
	r.wantSame(when+": the archive", got, want)
}

// wantNothingTold asks for entries that are in the archive alone, and sends one of them again. The answers are
// those for an id that no entry has.
func (r *retained) wantNothingTold(archived map[audit.EntryID]bool) {
	r.t.Helper()
	var some audit.EntryID
	for some = range archived {
		break
	}
	absent := audit.NewEntryID(some.Time(), [10]byte{1, 2, 3})
	var first string
	for _, id := range []audit.EntryID{absent, some} {
		got := r.admin.do("GET", "/logs/"+id.String(), "", nil)
		var told struct{ Type, Detail string }
		got.decode(r.t, &told)
		if got.status != http.StatusNotFound {
			r.t.Errorf("entry %s: got status %d, want %d", id, got.status, http.StatusNotFound)
		}
		if !strings.HasSuffix(told.Type, "archived") {
			r.t.Errorf("entry %s: got the type %s, want archived", id, told.Type)
		}
		if text := told.Type + told.Detail; first == "" {
			first = text
		} else if text != first {
			r.t.Errorf("an archived entry: got %s, want %s as for an absent one", text, first)
		}
	}
	again := fmt.Sprintf(`{"id":%q,"user_id":"u","action":"A","resource_type":"order","timestamp":%q}`, some, some.Time().Format(time.RFC3339Nano))
	if got := r.admin.do("POST", "/logs", again, nil); !strings.Contains(string(got.body), "expired") {
		r.t.Errorf("an entry under an archived identity: got %d %s, want it expired", got.status, got.body)
	}
	for _, path := range []string{"/logs", "/logs/stats"} {
		var told struct {
			SearchableFrom time.Time `json:"searchable_from"`
		}
		r.admin.get(path, nil).decode(r.t, &told)
		r.wantBound(path, told.SearchableFrom)
	}
	file := r.admin.do("GET", "/logs/export?user_id=nobody", "", nil)
	from, err := time.Parse(time.RFC3339, file.header.Get(httpapi.SearchableFromHeader))
	if err != nil {
		r.t.Errorf("an export: %v", err)
	}
	r.wantBound("an export", from)
}

// wantBound checks a bound of what is searchable for 30 days.
func (r *retained) wantBound(of string, got time.Time) {
	r.t.Helper()
	want := time.Now().AddDate(0, 0, -30)
	if d := want.Sub(got); d < -5*time.Minute || d > 5*time.Minute {
		r.t.Errorf("%s: searchable from %v, want about %v", of, got, want)
	}
}
