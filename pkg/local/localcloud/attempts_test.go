package localcloud_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestEndToEndRefusedAttemptsAreInTheLog(t *testing.T) { everyWay(t, refusedAttemptsAreInTheLog) }

func refusedAttemptsAreInTheLog(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	acme, globex := s.tenantAdmin("acme"), s.tenantAdmin("globex")
	eve := s.as(s.roleToken("acme", access.RoleAuditor, "eve"), "acme")
	two := s.token(access.Claims{Subject: "two", Tenants: []string{"acme", "globex"}, Role: access.RoleAuditor})
	key := s.as(s.key("acme", access.LogsSearch), "")
	refused := func(c caller, method, path, body string) {
		t.Helper()
		if got := c.do(method, path, body, map[string]string{"User-Agent": "curl/8"}); got.status != http.StatusForbidden {
			t.Errorf("%s %s: got status %d, want 403: %s", method, path, got.status, got.body)
		}
	}
	for range 3 {
		refused(eve, "DELETE", "/logs/cleanup?before=2000-01-01&user_id=hidden", "")
		refused(eve, "POST", "/logs", strings.Replace(entryText(1), "entry number", "hidden", 1))
	}
	refused(eve, "GET", "/logs/"+sharedID+"?reveal=true&reason=hidden", "")
	refused(eve, "GET", "/tenants/acme/api-keys", "")
	refused(s.as(two, "globex"), "POST", "/logs", entryText(1))
	refused(s.as(two, ""), "GET", "/tenants/globex/api-keys", "")
	refused(s.as(two, ""), "GET", "/tenants/acme/api-keys", "")
	refused(key, "GET", "/logs/stats", "")
	// From outside.
	refused(s.as(s.roleToken("globex", access.RoleAdmin, "mallory"), "acme"), "GET", "/logs", "")
	refused(s.as(s.roleToken("globex", access.RoleAdmin, "mallory"), ""), "GET", "/tenants/acme", "")
	if got := s.as("Bearer e30.e30.e30", "acme").get("/logs", nil); got.status != http.StatusUnauthorized {
		t.Errorf("a wrong token: got status %d, want 401", got.status)
	}
	_, response, err := websocket.Dial(t.Context(), strings.Replace(s.url, "http", "ws", 1)+manifest.BasePath+manifest.StreamPath, &websocket.DialOptions{HTTPHeader: http.Header{ //nolint:bodyclose // Dial closes it
		"Authorization": {s.roleToken("acme", access.RoleUser, "ann")}, "X-Tenant-Id": {"acme"},
	}})
	if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a user connects to the stream: got error %v, want status 403", err)
	}

	wantAttempts(t, acme, []string{
		"ann GET /logs/stream logs:stream", "eve DELETE /logs/cleanup logs:cleanup", "eve GET /logs/{id} logs:reveal", "eve GET /tenants/{id}/api-keys keys:read",
		"eve POST /logs logs:write", "key GET /logs/stats logs:stats", "two GET /tenants/{id}/api-keys keys:read",
	})
	wantAttempts(t, globex, []string{"two GET /tenants/{id}/api-keys keys:read", "two POST /logs logs:write"})
}

// attempt is an entry about a refused attempt.
type attempt struct {
	UserID      string    `json:"user_id"`
	SubmittedBy string    `json:"submitted_by"`
	ResourceID  string    `json:"resource_id"`
	IPAddress   string    `json:"ip_address"`
	UserAgent   string    `json:"user_agent"`
	RequestID   string    `json:"request_id"`
	Message     string    `json:"message"`
	Timestamp   time.Time `json:"timestamp"`
	Metadata    struct{ Permission string }
}

// wantAttempts waits until the tenant's log has these attempts, each with its caller, route and missing
// permission. There is at most one a minute of each, even if the test runs over the end of a minute.
func wantAttempts(t *testing.T, admin caller, want []string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got = nil
		minutes := map[string]bool{}
		list := admin.list(url.Values{"action": {"access.refused"}, "limit": {"100"}})
		for _, item := range list.Items {
			a := attemptOf(t, item)
			user, _, _ := strings.Cut(a.UserID, ":") // of a key its id
			name := user + " " + a.ResourceID + " " + a.Metadata.Permission
			minute := name + a.Timestamp.Truncate(time.Minute).String()
			if minutes[minute] {
				t.Errorf("%s has two entries in one minute, want one", name)
			}
			minutes[minute] = true
			got = append(got, name)
		}
		slices.Sort(got)
		if got = slices.Compact(got); len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused attempts in the log of %s (-want +got):\n%s", admin.tenant, diff)
	}
}

func attemptOf(t *testing.T, item map[string]json.RawMessage) (a attempt) {
	t.Helper()
	text, err := json.Marshal(item)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hidden") {
		t.Errorf("the entry %s has something of the query or the body", text)
	}
	if a.SubmittedBy != audit.SubmittedByService || a.IPAddress == "" || a.RequestID == "" || a.Message == "" {
		t.Errorf("got the entry %s, want it of the service, with address, request and message", text)
	}
	return a
}
