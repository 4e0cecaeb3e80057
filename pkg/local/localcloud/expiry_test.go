package localcloud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// settingsTimeout is how long a change of settings may take to be in effect everywhere.
const settingsTimeout = time.Minute

// configure changes the tenant's settings.
func (c caller) configure(settings string) {
	c.t.Helper()
	got := c.do("PATCH", "/tenants/"+string(c.tenant), `{"settings":`+settings+`}`, map[string]string{"If-Match": "*"})
	if got.status != http.StatusOK {
		c.t.Fatalf("change the settings to %s: got %d %s, want %d", settings, got.status, got.body, http.StatusOK)
	}
}

// wantAnswer repeats a request until its answer has the status and the text.
func (c caller) wantAnswer(method, path, body string, status int, text string) {
	c.t.Helper()
	var got answer
	for deadline := time.Now().Add(settingsTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got = c.do(method, path, body, nil)
		if got.status == status && strings.Contains(string(got.body), text) {
			return
		}
	}
	c.t.Fatalf("%s %s: %d %s, want %d %s", method, path, got.status, got.body, status, text)
}

// wantNames waits until lists and counts have exactly these entries.
func (c caller) wantNames(names ...string) {
	c.t.Helper()
	var got []string
	var stats statsAnswer
	things := url.Values{"resource_type": {"thing"}}
	for deadline := time.Now().Add(settingsTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var page listAnswer
		if !c.readBegun("/logs", things, &page) || !c.readBegun("/logs/stats", things, &stats) {
			continue
		}
		got = namesOf(c.t, page.Items)
		if slices.Equal(got, names) && stats.Total == len(names) {
			return
		}
	}
	c.t.Fatalf("the list has %v, want %v; counted %d", got, names, stats.Total)
}

// readBegun reads what the index answers. It returns false while OpenSearch begins an index, and refuses searches of it. Any
// other answer but 200 fails the test.
func (c caller) readBegun(path string, query url.Values, into any) bool {
	c.t.Helper()
	got := c.get(path, query)
	if got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "" && len(c.engines.OpenSearchURL) > 0 {
		return false
	}
	if got.status != http.StatusOK {
		c.t.Fatalf("%s: got status %d, want %d: %s", path, got.status, http.StatusOK, got.body)
	}
	got.decode(c.t, into)
	return true
}

func TestEndToEndExpiry(t *testing.T) { everyWay(t, expiryFollowsTheSettings) }

func expiryFollowsTheSettings(t *testing.T, start starter) {
	admin := start(t, t.TempDir()).tenantAdmin("acme")
	live := admin.subscribe(`{"resource_type":"thing"}`, "")
	begin, ids := live.cursor, map[string]string{}
	now := time.Now().UTC().Truncate(time.Millisecond)
	aged := func(name, action, severity string, days int) string {
		return fmt.Sprintf(`{"user_id":"ann","action":%q,"severity":%q,"resource_type":"thing","message":%q,"timestamp":%q}`,
			action, severity, name, now.AddDate(0, 0, -days).Format(time.RFC3339Nano))
	}
	for _, name := range []string{"critical", "login", "new", "old"} {
		text := map[string]string{
			"critical": aged(name, "user.login", "CRITICAL", 50), "login": aged(name, "user.login", "INFO", 20),
			"new": aged(name, "VIEW", "INFO", 1), "old": aged(name, "VIEW", "INFO", 50),
		}[name]
		var accepted struct{ ID string }
		got := admin.do("POST", "/logs", text, nil)
		if got.status != http.StatusAccepted {
			t.Fatalf("%s: got %d %s, want %d", name, got.status, got.body, http.StatusAccepted)
		}
		got.decode(t, &accepted)
		ids[name] = accepted.ID
	}
	admin.wantNames("critical", "login", "new", "old")
	live.until(4)

	admin.configure(`{"retention_days":30,"log_levels":["INFO","CRITICAL"],"retention_rules":[{"severity":"CRITICAL","days":0},{"action":"user.login","days":10}]}`)
	admin.wantNames("critical", "new")
	admin.wantReplay(begin, "critical", "new")
	for name, want := range map[string]int{"critical": 200, "login": 404, "new": 200, "old": 404} {
		admin.wantAnswer("GET", "/logs/"+ids[name], "", want, "")
	}
	// When create-log has the new settings, this entry is filtered.
	admin.wantAnswer("POST", "/logs", `{"user_id":"ann","action":"A","resource_type":"probe","severity":"ERROR"}`, 200, "filtered")
	if got, want := admin.expiresAt(ids["new"]), now.AddDate(0, 0, -1).Add(30*24*time.Hour); !got.Equal(want) {
		t.Errorf("the new entry expires at %v, want %v", got, want)
	}
	for text, want := range map[string]string{
		aged("x", "VIEW", "INFO", 31): "expired", aged("x", "user.login", "INFO", 11): "expired", aged("critical", "user.login", "CRITICAL", 5000): "accepted",
	} {
		got := admin.do("POST", "/logs", text, nil)
		if status := map[string]int{"expired": 200, "accepted": 202}[want]; got.status != status {
			t.Errorf("%s: got status %d, want %d: %s", text, got.status, status, got.body)
		}
		if !strings.Contains(string(got.body), want) {
			t.Errorf("%s: got %s, want it to contain %q", text, got.body, want)
		}
	}
	admin.wantNames("critical", "critical", "new")

	admin.configure(`{"retention_days":0,"retention_rules":[],"searchable_days":30}`)
	admin.wantNames("login", "new")
	admin.wantAnswer("GET", "/logs/"+ids["old"], "", 404, "archived")
	admin.configure(`{"searchable_days":0}`)
	admin.wantNames("critical", "critical", "login", "new", "old")
	admin.wantOwn(3)
	admin.wantAnswer("GET", "/logs/"+ids["old"], "", 200, "")
	if got := admin.expiresAt(ids["old"]); !got.IsZero() {
		t.Errorf("the old entry expires at %v, want never", got)
	}
}

// wantOwn waits until the log has so many changes of settings as the service's own entries.
func (c caller) wantOwn(n int) {
	c.t.Helper()
	got := -1
	for deadline := time.Now().Add(settingsTimeout); got != n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%d changes are recorded as the service's own, want %d", got, n)
		}
		got = len(c.list(url.Values{"submitted_by": {"service"}, "action": {"tenant.update"}}).Items)
	}
}

func (c caller) expiresAt(id string) (at time.Time) {
	c.t.Helper()
	entry := c.entry(id)
	if text, ok := entry["expires_at"]; ok {
		if err := json.Unmarshal(text, &at); err != nil {
			c.t.Fatal(err)
		}
	}
	return at
}

// wantReplay waits until a replay of the stream begins with exactly these entries.
func (c caller) wantReplay(after string, names ...string) {
	c.t.Helper()
	var got []string
	for deadline := time.Now().Add(settingsTimeout); time.Now().Before(deadline); time.Sleep(time.Second) {
		replay := c.subscribe(`{"resource_type":"thing"}`, after)
		replay.until(len(names))
		if got = namesOf(c.t, replay.items); slices.Equal(got, names) {
			return
		}
	}
	c.t.Fatalf("the replay has %v, want %v", got, names)
}

// namesOf returns the messages of the entries, sorted.
func namesOf(t *testing.T, items []map[string]json.RawMessage) (names []string) {
	t.Helper()
	for _, item := range items {
		var name string
		if err := json.Unmarshal(item["message"], &name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
