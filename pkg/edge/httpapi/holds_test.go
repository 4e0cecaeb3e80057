package httpapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/hold"
)

const legalHolds = "/tenants/acme/legal-holds"

func TestAHoldFromItsBeginningToItsEnd(t *testing.T) {
	w := newWorld(t)
	var set struct{ ID, State, Matter string }
	got := w.call("admin", "POST", legalHolds, `{"matter":"Case 17","reason":"letter","user_ids":["user-42"],"to":"2026-01-01T00:00:00+01:00"}`, nil).want(t, 202, "")
	got.decode(t, &set)
	if set.State != "starting" || set.Matter != "Case 17" {
		t.Errorf("got %+v, want it starting with its matter", set)
	}
	if got, want := got.header.Get("Location"), "/api/v1/jobs/"+set.ID; got != want {
		t.Errorf("got location %q, want %q", got, want)
	}
	w.call("admin", "GET", "/jobs/"+set.ID, "", nil).want(t, 200, "")
	const list = " GET /tenants/{id}/legal-holds lists the holds."
	request := `{"subject":"user-42","reason":"r"}`
	wantDetail(t, w.call("admin", "POST", erasures, request, nil), `A legal hold covers entries of the subject. Its matter is "Case 17".`+list)
	wantDetail(t, w.call("admin's key", "POST", erasures, request, nil), "A legal hold covers entries of the subject.") // it has no holds:read
	wantDetail(t, w.call("operator", "DELETE", "/tenants/acme", "", nil), `A legal hold stands in the tenant. Its matter is "Case 17".`+list)
	var other struct{ ID string }
	w.call("admin", "POST", legalHolds, `{"matter":"Case 18","reason":"letter"}`, nil).want(t, 202, "").decode(t, &other)
	wantDetail(t, w.call("admin", "POST", erasures, request, nil), `A legal hold covers entries of the subject. The matter of one of 2 is "Case 18".`+list)
	w.call("admin", "DELETE", legalHolds+"/"+other.ID+"?reason=closed", "", nil).want(t, 200, "")
	var read struct{ State, To string }
	w.call("auditor", "GET", legalHolds+"/"+set.ID, "", nil).want(t, 200, "").decode(t, &read)
	if want := "2025-12-31T23:00:00.000Z"; read.To != want {
		t.Errorf("it covers what is before %s, want %s", read.To, want)
	}
	w.call("admin", "DELETE", legalHolds+"/"+set.ID, "", nil).want(t, 422, "invalid")
	w.call("admin", "DELETE", legalHolds+"/"+set.ID+"?reason=closed", "", nil).want(t, 200, "").decode(t, &read)
	if read.State != "released" {
		t.Errorf("it is %s, want released", read.State)
	}
	wantDetail(t, w.call("admin", "DELETE", legalHolds+"/"+set.ID+"?reason=closed", "", nil), "The legal hold is released already.")
	w.call("admin", "POST", erasures, `{"subject":"user-42","reason":"r"}`, nil).want(t, 202, "")
	w.processQueues()
	for _, action := range []string{"legal_hold.create", "legal_hold.release"} {
		list := w.call("auditor", "GET", "/logs?action="+action, "", nil).want(t, 200, "").body
		if n := strings.Count(list, `"resource_id":"`+set.ID+`"`); n != 1 {
			t.Errorf("%d entries %s, want 1: %s", n, action, list)
		}
	}
}

// TestBoundsBetweenMilliseconds: an entry of the last millisecond before the end is covered, one before the beginning
// is not.
func TestBoundsBetweenMilliseconds(t *testing.T) {
	w := newWorld(t)
	for path, body := range map[string]string{
		legalHolds:               `{"matter":"m","reason":"r",`,
		"/tenants/acme/restores": `{"days":1,`,
	} {
		var got struct{ From, To string }
		w.call("admin", "POST", path, body+`"from":"2026-01-01T00:00:00.0005Z","to":"2026-01-31T23:59:59.999999Z"}`, nil).want(t, 202, "").decode(t, &got)
		if want := "2026-01-01T00:00:00.001Z"; got.From != want {
			t.Errorf("%s begins at %s, want %s", path, got.From, want)
		}
		if want := "2026-02-01T00:00:00.000Z"; got.To != want {
			t.Errorf("%s ends at %s, want %s", path, got.To, want)
		}
	}
}

func TestHoldsThatCannotBeSet(t *testing.T) {
	w := newWorld(t)
	got := w.call("admin", "POST", legalHolds, `{"reason":7,"user_ids":["u",""],"from":"yesterday","to":"0001-01-01T00:00:00Z","colour":"red"}`, nil).want(t, 422, "invalid")
	for _, want := range []string{"/reason", "/from", "/to", "/colour"} {
		if !strings.Contains(got.body, `"`+want+`"`) {
			t.Errorf("got %s, want a fault at %s", got.body, want)
		}
	}
	w.call("scoped", "GET", legalHolds, "", nil).want(t, 403, "forbidden")
	detail := w.call("scoped", "POST", legalHolds, `{"matter":"m","reason":"r"}`, nil).want(t, 403, "forbidden").problem(t).Detail
	if detail == "" {
		t.Error("got no detail for a credential with resources, want one")
	}
	for i := range hold.MaxStanding {
		if err := w.db.Holds().CreateHold(t.Context(), hold.Hold{ID: fmt.Sprint(i), Tenant: "acme", CreatedAt: start}); err != nil {
			t.Fatal(err)
		}
	}
	wantDetail(t, w.call("admin", "POST", legalHolds, `{"matter":"m","reason":"r"}`, nil), "The tenant has 100 legal holds that are not released. Release one.")
}
