package localcloud_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/hold"
)

func TestEndToEndHeldInTheArchive(t *testing.T) {
	onBothEngines(t, "heldarchive", 6000, 2000, holdsCoverTheArchive)
}

// holdsCoverTheArchive archives entries that leave the stores. An export by a hold has them, and an erasure of a
// person of whom one of them has a value fails.
func holdsCoverTheArchive(r *retained, total int) {
	const oneDay = 24 * time.Hour
	tombstones, err := fileblob.Open(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = tombstones.Close() })
	r.services.Stores.Tombstones = tombstones
	first, last := today().AddDate(0, 0, -80), today().AddDate(0, 0, -59)
	r.admin.configure(`{"archive":true,"sensitive_fields":[{"path":"metadata.email","mask":"email","subject":"resource_id"}]}`)
	r.handle()
	r.sendEach(1, func(int) (user, text string) {
		return "eve", fmt.Sprintf(`{"user_id":"eve","action":"VIEW","resource_type":"person","resource_id":"person-9","timestamp":%q,"metadata":{"email":"p9@example.com"}}`,
			first.AddDate(0, 0, 3).Format(time.RFC3339Nano))
	})
	r.send(total-1, func(i int) time.Time { return first.AddDate(0, 0, i%20).Add(time.Duration(i) * time.Millisecond) })
	r.pass(2 * oneDay)
	r.archive()
	r.wantHeld(total)
	r.admin.configure(`{"searchable_days":30}`)
	r.handle()
	var ids []audit.EntryID
	for id := range r.stored(last) {
		ids = append(ids, id)
	}
	r.leave(ids[:total/2])
	r.wantHeld(total)
	r.leave(ids[total/2:])
	r.wantCounts("after they have left", counts{})
	r.wantHeld(total)
	r.wantErasure("eve", "failed")
	r.wantErasure("nobody", "running") // it has destroyed the key, and waits
}

// wantErasure erases a person while a hold stands on entries of a user.
func (r *retained) wantErasure(held, want string) {
	r.t.Helper()
	tenant := r.admin.tenant
	h := hold.Hold{ID: "on-" + held, Tenant: tenant, UserIDs: []string{held}, CreatedAt: time.Now().UTC().Truncate(time.Millisecond), Version: 1}
	if err := r.stores.Holds.CreateHold(r.t.Context(), h); err != nil {
		r.t.Fatal(err)
	}
	path := "/tenants/" + string(tenant) + "/erasures"
	got := r.admin.do("POST", path, `{"subject":"person-9","reason":"r","delay_hours":0}`, nil)
	if got.status != http.StatusAccepted {
		r.t.Fatalf("erase a person: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var job jobAnswer
	got.decode(r.t, &job)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r.handle()
		got = r.admin.get(path+"/"+job.ID, nil)
		got.decode(r.t, &job)
		if job.State == "failed" || strings.Contains(string(got.body), "erased_at") {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the erasure is %s after a minute: %s", job.State, got.body)
		}
	}
	if job.State != want {
		r.t.Errorf("a hold on %s: the erasure is %s (%s), want %s", held, job.State, job.Error, want)
	}
	if want == "failed" && !strings.Contains(job.Error, "legal hold") {
		r.t.Errorf("the erasure failed with %q, want the hold", job.Error)
	}
	h.ReleasedAt, h.Version = h.CreatedAt, 2
	if err := r.stores.Holds.UpdateHold(r.t.Context(), h); err != nil {
		r.t.Fatal(err)
	}
}
