package localcloud_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

func TestEndToEndErasingASubject(t *testing.T) { everySlowWay(t, erasingASubject) }

// erasingASubject erases a subject, and reads its values by a function that has not read them before:
// another can have their key in memory for five minutes.
func erasingASubject(t *testing.T, start starter) {
	data := t.TempDir()
	s := start(t, data)
	admin := s.tenantAdmin("acme")
	admin.configure(`{"sensitive_fields":[{"path":"metadata.email","mask":"email","subject":"user_id"}]}`)
	entry := func(user string) string {
		return `{"user_id":"` + user + `","action":"UPDATE","resource_type":"user","timestamp":"2026-01-02T03:04:05Z","idempotency_key":"` + user + `",` +
			`"metadata":{"email":"` + mark + `@example.com"}}`
	}
	var ann, bob struct{ ID string }
	admin.do("POST", "/logs", entry("ann"), nil).decode(t, &ann)
	admin.do("POST", "/logs", entry("bob"), nil).decode(t, &bob)
	admin.eventually(3) // with the change of the settings
	wantParts(t, admin.do("POST", "/logs/search", `{"user_id":"ann","reveal":true,"reason":"a test"}`, nil).body,
		`"metadata":{"email":"`+mark+`@example.com"}`, `"revealed":["/metadata/email"]`)

	canceled := admin.erase("ann", 1)
	wantParts(t, admin.do("DELETE", "/tenants/acme/erasures/"+canceled, "", nil).body, `"state":"cancelled"`)
	done := admin.erase("ann", 0)
	again, never := admin.erase("ann", 0), admin.erase("nobody", 0)
	for _, id := range []string{done, again, never} {
		admin.wantAnswer("GET", "/tenants/acme/erasures/"+id, "", http.StatusOK, `"erased_at":`)
	}
	if got := admin.do("DELETE", "/tenants/acme/erasures/"+done, "", nil); got.status != http.StatusConflict {
		t.Errorf("cancel an erasure that has begun: got status %d, want %d: %s", got.status, http.StatusConflict, got.body)
	}
	reveal := url.Values{"reveal": {"true"}, "reason": {"a test"}}
	erased := admin.get("/logs/"+ann.ID, reveal).body
	wantParts(t, erased, `"user_id":"ann"`, `"metadata":{"email":"•••@example.com"}`, `"erased":["/metadata/email"]`)
	wantNoMark(t, "the erased entry", erased)
	wantParts(t, admin.get("/logs/"+bob.ID, reveal).body, `"metadata":{"email":"`+mark+`@example.com"}`, `"revealed":["/metadata/email"]`)

	var retried struct{ ID string }
	admin.do("POST", "/logs", entry("ann"), nil).decode(t, &retried)
	if retried.ID != ann.ID {
		t.Errorf("the retry has the id %s, want %s", retried.ID, ann.ID)
	}
	admin.do("POST", "/logs", `{"user_id":"cem","action":"UPDATE","resource_type":"user"}`, nil)
	admin.eventually(12) // 3 entries and 9 records: settings, 3 reveals, 4 erasures, a cancellation
	if got := admin.do("GET", "/logs/quarantine", "", nil).body; string(got) != `{"items":[],"next":null,"prev":null}` {
		t.Errorf("in quarantine is %s, want nothing: the retry is the same entry", got)
	}
	wantNoMarkIn(t, data)
}

// erase starts an erasure and returns its id.
func (c caller) erase(subject string, delayHours int) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"subject":%q,"reason":"a test","delay_hours":%d}`, subject, delayHours)
	got := c.do("POST", "/tenants/"+string(c.tenant)+"/erasures", body, nil)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("erase %s: got status %d, want %d: %s", subject, got.status, http.StatusAccepted, got.body)
	}
	var started struct{ ID string }
	got.decode(c.t, &started)
	return started.ID
}
