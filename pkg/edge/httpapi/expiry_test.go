package httpapi_test

import (
	"strings"
	"testing"
	"time"
)

// configure changes acme's settings.
func (w *world) configure(settings string) {
	w.t.Helper()
	w.call("admin", "PATCH", "/tenants/acme", `{"settings":`+settings+`}`, map[string]string{"If-Match": "*"}).want(w.t, 200, "")
}

type listed struct {
	Items []struct {
		ID          string
		Action      string
		SubmittedBy string `json:"submitted_by"`
		ExpiresAt   string `json:"expires_at"`
	}
	SearchableFrom string `json:"searchable_from"`
}

func (w *world) list(query string) (l listed) {
	w.t.Helper()
	w.call("admin", "GET", "/logs?"+query, "", nil).want(w.t, 200, "").decode(w.t, &l)
	return l
}

// total returns how many updates statistics count.
func (w *world) total() int {
	w.t.Helper()
	var stats struct{ Total int }
	w.call("admin", "GET", "/logs/stats?action=UPDATE", "", nil).want(w.t, 200, "").decode(w.t, &stats)
	return stats.Total
}

func TestRetentionSettingsAreReadAndShown(t *testing.T) {
	w := newWorld(t)
	const rules = `"retention_rules":[{"action":"user.login","days":90},{"severity":"CRITICAL","days":0}],"searchable_days":400`
	changed := w.call("admin", "PATCH", "/tenants/acme", `{"settings":{"retention_days":365,`+rules+`}}`, map[string]string{"If-Match": "*"}).want(t, 200, "")
	if !strings.Contains(changed.body, rules) {
		t.Errorf("got %s, want it with %s", changed.body, rules)
	}
	w.configure(`{"remove_secrets":true}`)
	if got := w.call("admin", "GET", "/tenants/acme", "", nil).want(t, 200, ""); !strings.Contains(got.body, rules) {
		t.Errorf("settings that were left out: got %s, want it with %s", got.body, rules)
	}
	w.configure(`{"retention_rules":[],"searchable_days":0}`)
	none := `"retention_rules":[],"searchable_days":0`
	if got := w.call("admin", "GET", "/tenants/acme", "", nil).want(t, 200, ""); !strings.Contains(got.body, none) {
		t.Errorf("got %s, want it with %s", got.body, none)
	}
	for settings, want := range map[string]string{
		`{"retention_rules":{}}`:                                                "/settings/retention_rules wrong_type",
		`{"retention_rules":[1]}`:                                               "/settings/retention_rules wrong_type",
		`{"retention_rules":[{"action":"A"}]}`:                                  "/settings/retention_rules/0/days required",
		`{"retention_rules":[{"action":"A","days":"1"}]}`:                       "/settings/retention_rules/0/days wrong_type",
		`{"retention_rules":[{"action":"A","days":1,"user":1}]}`:                "/settings/retention_rules/0/user unknown_field",
		`{"retention_rules":[{"severity":"LOUD","days":1}]}`:                    "/settings/retention_rules/0/severity invalid_choice",
		`{"retention_rules":[{"days":1}]}`:                                      "/settings/retention_rules/0 invalid_rule",
		`{"retention_rules":[{"action":"A","days":1},{"action":"A","days":2}]}`: "/settings/retention_rules/1/action repeated",
		`{"retention_days":30,"searchable_days":31}`:                            "/settings/searchable_days out_of_range",
	} {
		p := w.call("admin", "PATCH", "/tenants/acme", `{"settings":`+settings+`}`, map[string]string{"If-Match": "*"}).want(t, 422, "invalid").problem(t)
		if got := p.Errors[0].Pointer + " " + p.Errors[0].Code; got != want {
			t.Errorf("%s: %s, want %s", settings, got, want)
		}
	}
}

func TestAChangedRetentionAppliesToStoredEntriesAtOnce(t *testing.T) {
	w := newWorld(t)
	id := w.wrote(`,"timestamp":"2026-03-01T09:00:00Z"`)
	for _, step := range []struct {
		settings, expires string
		visible           bool
	}{
		{`{"retention_days":2}`, "2026-03-03T09:00:00.000Z", true},
		{`{"retention_days":1}`, "", false},
		{`{"retention_days":1,"retention_rules":[{"action":"UPDATE","days":30}]}`, "2026-03-31T09:00:00.000Z", true},
		{`{"retention_rules":[{"severity":"INFO","days":1},{"action":"UPDATE","days":30}]}`, "", false},
		{`{"retention_days":0,"retention_rules":[]}`, "", true},
	} {
		w.configure(step.settings)
		items := w.list("action=UPDATE").Items
		if got := len(items) == 1; got != step.visible {
			t.Fatalf("%s: in the list: %v, want %v", step.settings, got, step.visible)
		}
		if got := w.total() == 1; got != step.visible {
			t.Errorf("%s: counted: %v, want %v", step.settings, got, step.visible)
		}
		if !step.visible {
			w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 404, "not_found")
			continue
		}
		if got := items[0].ExpiresAt; got != step.expires {
			t.Errorf("%s: the list says %q, want %q", step.settings, got, step.expires)
		}
		var single struct {
			ExpiresAt string `json:"expires_at"`
		}
		w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 200, "").decode(t, &single)
		if single.ExpiresAt != step.expires {
			t.Errorf("%s: the entry says %q, want %q", step.settings, single.ExpiresAt, step.expires)
		}
	}
}

func TestEntriesBeyondSearchableDaysAreArchived(t *testing.T) {
	w := newWorld(t)
	id := w.wrote(`,"timestamp":"2026-03-01T09:00:00Z"`)
	var foreign struct{ ID string }
	others := strings.Replace(entry(`,"timestamp":"2026-03-01T09:00:00Z"`), `"ann"`, `"bob"`, 1)
	w.call("admin", "POST", "/logs", others, nil).want(t, 202, "").decode(t, &foreign)
	w.processQueues()
	if got := w.list("").SearchableFrom; got != "" {
		t.Errorf("searchable_from is %s, want none", got)
	}
	w.configure(`{"searchable_days":1}`)
	list := w.list("action=UPDATE")
	if len(list.Items) != 0 {
		t.Errorf("the list has %d entries, want none", len(list.Items))
	}
	if want := "2026-03-01T09:30:00.000Z"; list.SearchableFrom != want {
		t.Errorf("searchable_from is %s, want %s", list.SearchableFrom, want)
	}
	w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 404, "archived")
	w.call("user", "GET", "/logs/"+id, "", nil).want(t, 404, "archived")
	w.call("user", "GET", "/logs/"+foreign.ID, "", nil).want(t, 404, "archived") // outside the scope: as one that is absent
	w.call("user", "GET", "/logs/"+strings.Replace(id, id[24:], "0123456789ab", 1), "", nil).want(t, 404, "archived")
	got := w.call("admin", "POST", "/logs/bulk", "["+entry("")+","+entry(`,"timestamp":"2026-03-01T09:29:59.999Z"`)+"]", nil).want(t, 207, "")
	if !strings.Contains(got.body, `"accepted":1,"duplicate":0,"filtered":0,"expired":1,`) {
		t.Errorf("got %s, want one of two expired", got.body)
	}
	w.configure(`{"retention_days":1}`)
	w.call("admin", "GET", "/logs/"+id, "", nil).want(t, 404, "not_found") // expired
}

func TestListsTellWhoSubmittedAnEntry(t *testing.T) {
	w := newWorld(t)
	w.wrote(`,"submitted_by":"service"`)
	w.configure(`{"retention_days":100,"retention_rules":[{"action":"tenant.update","days":1},{"action":"UPDATE","days":1}]}`)
	w.processQueues()
	w.advance(50 * time.Hour)
	for query, want := range map[string][]string{
		"":                                {"tenant.update service"}, // its rule does not apply to the service's own
		"submitted_by=service":            {"tenant.update service"},
		"submitted_by=sub:admin":          nil,
		"q=submitted_by:service":          {"tenant.update service"},
		"q=-submitted_by:service":         nil,
		"submitted_by=service&user_id=xy": nil,
	} {
		var got []string
		for _, item := range w.list(query).Items {
			got = append(got, item.Action+" "+item.SubmittedBy)
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
	w.configure(`{"retention_rules":[]}`)
	w.processQueues()
	if got := w.list("submitted_by=sub:admin").Items; len(got) != 1 {
		t.Errorf("%d entries of the token, want 1", len(got))
	}
	var stats struct {
		Groups []struct {
			SubmittedBy string `json:"submitted_by"`
			Count       int
		}
	}
	w.call("admin", "GET", "/logs/stats?group_by=submitted_by", "", nil).want(t, 200, "").decode(t, &stats)
	if len(stats.Groups) != 2 {
		t.Fatalf("got groups %+v, want two", stats.Groups)
	}
	if got := stats.Groups[0].SubmittedBy; got != "service" {
		t.Errorf("the first group is of %q, want %q", got, "service")
	}
	if got := stats.Groups[0].Count; got != 2 {
		t.Errorf("the first group has %d entries, want 2", got)
	}
}

func TestQuarantineHidesWhatHasExpired(t *testing.T) {
	w := newWorld(t)
	identity := `,"timestamp":"2026-03-01T09:00:00Z","idempotency_key":"k"`
	w.wrote(identity)
	w.wrote(identity + `,"message":"forged"`)
	var page struct {
		Items []struct {
			ID        string
			ExpiresAt string `json:"expires_at"`
		}
	}
	read := func() {
		page.Items = nil
		w.call("admin", "GET", "/logs/quarantine", "", nil).want(t, 200, "").decode(t, &page)
	}
	read()
	if len(page.Items) != 1 {
		t.Fatalf("%d items, want 1", len(page.Items))
	}
	path := "/logs/quarantine/" + page.Items[0].ID
	w.configure(`{"retention_days":1}`)
	if read(); len(page.Items) != 0 {
		t.Errorf("%d items after the end, want none", len(page.Items))
	}
	w.call("admin", "POST", path+"/retry", "", nil).want(t, 404, "not_found")
	w.call("admin", "DELETE", path, "", nil).want(t, 404, "not_found")
	w.configure(`{"retention_days":10}`)
	if read(); len(page.Items) != 1 {
		t.Fatalf("%d items after a longer retention, want 1", len(page.Items))
	}
	if got, want := page.Items[0].ExpiresAt, "2026-03-11T09:00:00.000Z"; got != want {
		t.Errorf("the item expires at %s, want %s", got, want)
	}
	w.call("admin", "DELETE", path, "", nil).want(t, 204, "")
}
