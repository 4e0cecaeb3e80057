package localcloud_test

import (
	"net/http"
	"testing"
)

func TestEndToEndALegalHold(t *testing.T) { everyWay(t, aLegalHold) }

// aLegalHold sets and releases a hold. What its job does after 20 minutes is tested with the job.
func aLegalHold(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	admin, operator := s.tenantAdmin("acme"), s.as(s.operator(), "")
	want := func(got answer, status int) answer {
		t.Helper()
		if got.status != status {
			t.Fatalf("got status %d, want %d: %s", got.status, status, got.body)
		}
		return got
	}
	var set struct{ ID, State string }
	const holds, erasure = "/tenants/acme/legal-holds", `{"subject":"user-42","reason":"r"}`
	want(admin.do("POST", holds, `{"matter":"Case 17","reason":"letter"}`, nil), http.StatusAccepted).decode(t, &set)
	want(admin.do("POST", "/tenants/acme/erasures", erasure, nil), http.StatusConflict)
	want(operator.do("DELETE", "/tenants/acme", "", nil), http.StatusConflict)
	var list struct{ Items []struct{ ID string } }
	want(admin.get(holds, nil), http.StatusOK).decode(t, &list)
	if len(list.Items) != 1 || list.Items[0].ID != set.ID {
		t.Errorf("got the holds %v, want %s", list.Items, set.ID)
	}
	want(admin.get(holds+"/"+set.ID, nil), http.StatusOK).decode(t, &set)
	if set.State != "starting" {
		t.Errorf("it is %s, want starting", set.State)
	}
	want(admin.do("DELETE", holds+"/"+set.ID+"?reason=closed", "", nil), http.StatusOK)
	want(admin.do("POST", "/tenants/acme/erasures", erasure, nil), http.StatusAccepted)
	admin.eventually(3) // the hold, its release and the erasure are recorded
}
