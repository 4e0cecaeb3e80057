package httpapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

const defaultSettings = `{"retention_days":365,"retention_rules":[],"searchable_days":0,"archive":false,"log_levels":["INFO","WARNING","ERROR","CRITICAL"],"remove_secrets":true,"detect":[],"sensitive_fields":[],"tier":"standard","isolation":"shared"}`

func TestTenantIsCreatedReadAndChanged(t *testing.T) {
	w := newWorld(t)
	created := w.call("operator", "POST", "/tenants", `{"id":"initech","name":"Initech <&>","settings":{"retention_days":3e1,"log_levels":["ERROR","WARNING","ERROR"],"tier":"priority"}}`, nil).want(t, 201, "")
	settings := strings.NewReplacer("365", "30", `["INFO","WARNING","ERROR","CRITICAL"]`, `["WARNING","ERROR"]`, "standard", "priority").Replace(defaultSettings)
	record := `{"id":"initech","name":"Initech <&>","status":"active","created_at":"2026-03-02T09:30:00.000Z","updated_at":"2026-03-02T09:30:00.000Z","settings":` + settings + `}`
	created.is(t, record)
	if created.header.Get("ETag") != `"1"` {
		t.Errorf("got ETag %q, want %q", created.header.Get("ETag"), `"1"`)
	}
	if created.header.Get("Location") != "/api/v1/tenants/initech" {
		t.Errorf("got Location %q, want %q", created.header.Get("Location"), "/api/v1/tenants/initech")
	}
	w.call("operator", "GET", "/tenants/initech", "", nil).want(t, 200, "").is(t, record)
	w.call("operator", "POST", "/tenants", `{"id":"initech","name":"again"}`, nil).want(t, 409, "conflict")

	w.advance(time.Minute)
	changed := w.call("operator", "PATCH", "/tenants/initech", `{"name":"Initech","settings":{"remove_secrets":false}}`, map[string]string{"If-Match": `"1"`}).want(t, 200, "")
	changed.is(t, strings.NewReplacer("Initech <&>", "Initech", `"updated_at":"2026-03-02T09:30`, `"updated_at":"2026-03-02T09:31`, `"remove_secrets":true`, `"remove_secrets":false`, `"shared"}}`, `"shared"},"in_force_at":"2026-03-02T09:31:45.000Z"}`).Replace(record))
	if got := changed.header.Get("ETag"); got != `"2"` {
		t.Errorf("the ETag is %s, want %s", got, `"2"`)
	}
}

func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		match  string
		status int
		code   string
	}{
		{"", 428, "precondition_required"},
		{"1", 400, "malformed_request"},
		{`"`, 400, "malformed_request"},
		{`"2"`, 412, "precondition_failed"},
		{`W/"1"`, 412, "precondition_failed"}, // a weak tag never matches
		{`"1"`, 200, ""},
		{`"1"`, 412, "precondition_failed"}, // it is "2" by now
		{`"x", "2"`, 200, ""},
		{`*`, 200, ""},
	} {
		w.call("admin", "PUT", "/tenants/acme", `{"name":"Acme"}`, map[string]string{"If-Match": test.match}).want(t, test.status, test.code)
	}
}

func TestIfNoneMatch(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "PATCH", "/tenants/acme", `{"name":"Acme"}`, map[string]string{"If-Match": "*"}).want(t, 200, "")
	for _, test := range []struct {
		path, match string
		status      int
	}{
		{"/tenants/acme", `"1"`, 200},
		{"/tenants/acme", "2", 200}, // no entity tag
		{"/tenants/acme", `"2"`, 304},
		{"/tenants/acme", `W/"2"`, 304}, // the comparison is weak
		{"/tenants/acme", `"x",  "2"`, 304},
		{"/tenants/acme", "*", 304},
		{"/tenants/no-such", "*", 404},
		{"/openapi.json", `"2"`, 200},
		{"/openapi.json", w.call("", "GET", "/openapi.json", "", nil).header.Get("ETag"), 304},
		{"/docs", w.call("", "GET", "/docs", "", nil).header.Get("ETag"), 304},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			got := w.call("operator", method, test.path, "", map[string]string{"If-None-Match": test.match})
			if got.status != test.status {
				t.Errorf("%s %s with If-None-Match %s: got status %d, want %d", method, test.path, test.match, got.status, test.status)
			}
			if test.status == 404 {
				continue
			}
			if got.header.Get("ETag") == "" {
				t.Errorf("%s %s with If-None-Match %s: got no ETag, want one", method, test.path, test.match)
			}
			if got.status == 304 && got.body != "" {
				t.Errorf("%s %s with If-None-Match %s: got the body %.40q, want none", method, test.path, test.match, got.body)
			}
		}
	}
	w.call("operator", "DELETE", "/tenants/acme", "", map[string]string{"If-None-Match": "*"}).want(t, 202, "")
}

// racing changes the record between every reading and writing, a number of times.
type racing struct {
	tenants.Store
	left int
}

func (r *racing) Tenant(ctx context.Context, id audit.TenantID) (audit.Tenant, error) {
	t, err := r.Store.Tenant(ctx, id)
	if err == nil && r.left > 0 {
		r.left--
		changed := t
		changed.Settings.RetentionDays++
		changed.Version++
		err = r.Update(ctx, changed)
	}
	return t, err
}

func TestAnOverwritingPatchLosesNoChangeOfOthers(t *testing.T) {
	w := newWorld(t)
	w.tenants.Tenants = &racing{w.tenants.Tenants, 3}
	var got audit.Tenant
	w.call("admin", "PATCH", "/tenants/acme", `{"settings":{"remove_secrets":false}}`, map[string]string{"If-Match": "*"}).want(t, 200, "").decode(t, &got)
	if got.Settings.RemoveSecrets {
		t.Error("the settings: remove_secrets is true, want false")
	}
	if got.Settings.RetentionDays != 368 {
		t.Errorf("the settings: got %d retention days, want 368", got.Settings.RetentionDays)
	}
	w.tenants.Tenants = &racing{w.tenants.Tenants, 1000}
	w.call("admin", "PATCH", "/tenants/acme", `{"name":"x"}`, map[string]string{"If-Match": "*"}).want(t, 503, "unavailable")
}

func TestTenantDocumentsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		body   string
		status int
		faults string // pointer and code of each
	}{
		{`{"name":"x"}`, 422, "/id invalid_tenant_id"},
		{`{"id":"Big","name":""}`, 422, "/id invalid_tenant_id /name required"},
		{`{"id":"a","name":"` + strings.Repeat("x", 257) + `"}`, 422, "/name too_long"},
		{`{"id":1,"name":null,"colour":"red","settings":[]}`, 422, "/id wrong_type /name wrong_type /settings wrong_type /colour unknown_field"},
		{`{"id":"a","name":"a","settings":{"retention_days":1.5,"log_levels":["DEBUG"],"remove_secrets":"yes","detect":"jwt","a/b":1,"sensitive_fields":[1]}}`, 422,
			"/settings/retention_days wrong_type /settings/log_levels invalid_choice /settings/remove_secrets wrong_type /settings/detect wrong_type /settings/sensitive_fields wrong_type /settings/a~1b unknown_field"},
		{`{"id":"a","name":"a","settings":{"retention_days":-1,"log_levels":[],"detect":["pan","secret"],"tier":"gold","isolation":"none"}}`, 422,
			"/settings/retention_days out_of_range /settings/log_levels required /settings/detect invalid_choice /settings/tier invalid_choice /settings/isolation invalid_choice"},
		{`{"id":"a","name":"a","settings":{"retention_days":1e300}}`, 422, "/settings/retention_days out_of_range"},
		{`{"id":"a","name":"a","settings":{"sensitive_fields":[{"path":"x"},{"path":"message","mask":"red","subject":"*"}]}}`, 422,
			"/settings/sensitive_fields/0/path invalid_path /settings/sensitive_fields/1/mask invalid_choice /settings/sensitive_fields/1/subject invalid_subject"},
		{`{"id":"a","name":"a","settings":{"sensitive_fields":[` + subjects(17) + `]}}`, 422, "/settings/sensitive_fields too_many"},
		{`{"id":"a","id":"b","name":"a"}`, 422, "/id duplicate_key"},
		{`{"id":"a","name":"a","settings":{"tier":"standard","tier":"priority"}}`, 422, "/settings/tier duplicate_key"},
		{`[]`, 422, " wrong_type"},
		{`{"id":"a","name":"a"`, 400, ""},
		{`{"id":"a","name":"a"} {}`, 400, ""},
		{`{"id":"a","name":"` + "\xff" + `"}`, 400, ""},
		{``, 400, ""},
	} {
		p := w.call("operator", "POST", "/tenants", test.body, map[string]string{"Content-Type": "application/json"}).want(t, test.status, "").problem(t)
		var faults []string
		for _, f := range p.Errors {
			faults = append(faults, f.Pointer+" "+f.Code)
		}
		if got := strings.Join(faults, " "); got != test.faults {
			t.Errorf("%s: %s, want %s", test.body, got, test.faults)
		}
	}
	w.call("operator", "POST", "/tenants", strings.Repeat(" ", 257<<10), nil).want(t, 413, "too_large")
	w.call("operator", "POST", "/tenants", `{}`, map[string]string{"Content-Type": "application/x-ndjson"}).want(t, 415, "unsupported_media_type")
}

// subjects returns so many rules with a subject each.
func subjects(n int) string {
	rules := make([]string, n)
	for i := range rules {
		rules[i] = fmt.Sprintf(`{"path":"metadata.a%d","subject":"metadata.s%d"}`, i, i)
	}
	return strings.Join(rules, ",")
}

func TestPutReplacesNameAndSettings(t *testing.T) {
	w := newWorld(t)
	put := func(body string) reply {
		t.Helper()
		return w.call("admin", "PUT", "/tenants/acme", body, map[string]string{"If-Match": "*"})
	}
	var got audit.Tenant
	put(`{"name":"Acme","settings":{"retention_days":30,"detect":["jwt"]}}`).want(t, 200, "")
	put(`{"name":"Acme Ltd","settings":{"remove_secrets":false}}`).want(t, 200, "").decode(t, &got)
	want := audit.DefaultSettings()
	want.RemoveSecrets = false
	if got.Name != "Acme Ltd" {
		t.Errorf("got name %q, want %q", got.Name, "Acme Ltd")
	}
	if diff := cmp.Diff(want, got.Settings, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the settings (-want +got):\n%s", diff)
	}
	if p := put(`{"settings":{}}`).want(t, 422, "invalid").problem(t); p.Errors[0].Pointer != "/name" {
		t.Errorf("without a name: got a fault of %s, want of /name", p.Errors[0].Pointer)
	}

	dedicated, err := w.db.Tenants().Tenant(t.Context(), "globex")
	if err != nil {
		t.Fatal(err)
	}
	dedicated.Settings.Isolation, dedicated.Version = audit.IsolationDedicated, dedicated.Version+1
	if err := w.db.Tenants().Update(t.Context(), dedicated); err != nil {
		t.Fatal(err)
	}
	got = audit.Tenant{}
	w.call("operator", "PUT", "/tenants/globex", `{"name":"Globex"}`, map[string]string{"If-Match": "*"}).want(t, 200, "").decode(t, &got)
	if got.Settings.Isolation != audit.IsolationDedicated {
		t.Errorf("got isolation %q, want it unchanged: %q", got.Settings.Isolation, audit.IsolationDedicated)
	}
	got = audit.Tenant{}
	w.call("operator", "PATCH", "/tenants/globex", `{"settings":null}`, map[string]string{"If-Match": "*"}).want(t, 200, "").decode(t, &got)
	if got.Settings.Isolation != audit.IsolationDedicated {
		t.Errorf("after null for all settings: got isolation %q, want it unchanged: %q", got.Settings.Isolation, audit.IsolationDedicated)
	}
	w.call("operator", "PATCH", "/tenants/globex", `{"settings":{"isolation":null}}`, map[string]string{"If-Match": "*"}).want(t, 422, "invalid")
}

func TestPatchMergesNameAndSettings(t *testing.T) {
	w := newWorld(t)
	patch := func(as, body, match string) reply {
		t.Helper()
		return w.call(as, "PATCH", "/tenants/acme", body, map[string]string{"If-Match": match, "Content-Type": "application/merge-patch+json"})
	}
	var got audit.Tenant
	changed := patch("admin", `{"settings":{"retention_days":30,"retention_rules":[{"severity":"ERROR","days":900}],"log_levels":["ERROR"]}}`, `"1"`).want(t, 200, "")
	changed.decode(t, &got)
	if tag := changed.header.Get("Etag"); tag != `"2"` {
		t.Errorf("got ETag %s, want %q", tag, `"2"`)
	}
	if got.Name != "Acme" {
		t.Errorf("got name %q, want it unchanged: %q", got.Name, "Acme")
	}
	if got.Settings.RetentionDays != 30 {
		t.Errorf("got %d retention days, want 30", got.Settings.RetentionDays)
	}
	patch("admin", `{"name":"x"}`, `"1"`).want(t, 412, "precondition_failed")
	patch("admin", `{"settings":{"retention_days":"x"}}`, `"1"`).want(t, 422, "invalid") // comes before the precondition
	patch("admin", `{"settings":{"retention_days":-5}}`, `"1"`).want(t, 422, "invalid")
	patch("admin", `{"name":"x"}`, "").want(t, 428, "precondition_required")

	got = audit.Tenant{}
	patch("admin", `{"name":"Acme Ltd","settings":{"retention_days":null,"log_levels":null}}`, "*").want(t, 200, "").decode(t, &got)
	if got.Name != "Acme Ltd" {
		t.Errorf("got name %q, want %q", got.Name, "Acme Ltd")
	}
	want := audit.DefaultSettings()
	if got.Settings.RetentionDays != want.RetentionDays {
		t.Errorf("after null: got %d retention days, want the default %d", got.Settings.RetentionDays, want.RetentionDays)
	}
	if !slices.Equal(got.Settings.LogLevels, want.LogLevels) {
		t.Errorf("after null: got log levels %v, want the default %v", got.Settings.LogLevels, want.LogLevels)
	}
	if n := len(got.Settings.RetentionRules); n != 1 {
		t.Errorf("got %d retention rules, want the 1 that was not named", n)
	}

	got = audit.Tenant{}
	patch("admin", `{"settings":null}`, "*").want(t, 200, "").decode(t, &got)
	if n := len(got.Settings.RetentionRules); n != 0 {
		t.Errorf("after null for all settings: got %d retention rules, want none", n)
	}
	if got.Name != "Acme Ltd" {
		t.Errorf("after null for all settings: got name %q, want %q", got.Name, "Acme Ltd")
	}
}

func TestPatchesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		as, tenant, body string
		status           int
		faults           string // pointer and code of each
	}{
		{"admin", "acme", `{"name":null}`, 422, "/name wrong_type"},
		{"admin", "acme", `{"name":""}`, 422, "/name required"},
		{"admin", "acme", `{"id":"globex"}`, 422, "/id unknown_field"},
		{"admin", "acme", `{"created_at":null}`, 422, "/created_at unknown_field"},
		{"admin", "acme", `{"settings":[]}`, 422, "/settings wrong_type"},
		{"admin", "acme", `{"settings":{"colour":null}}`, 422, "/settings/colour unknown_field"},
		{"admin", "acme", `{"settings":{"isolation":"dedicated"}}`, 422, "/settings/isolation immutable"},
		{"operator", "acme", `{"settings":{"isolation":"dedicated"}}`, 422, "/settings/isolation immutable"},
		{"admin", "acme", `{"status":"suspended"}`, 403, "/status forbidden"},
		{"admin", "acme", `{"status":"active"}`, 403, "/status forbidden"},
		{"operator", "acme", `{"status":"deleting"}`, 422, "/status invalid_choice"},
		{"operator", "acme", `{"status":null}`, 422, "/status wrong_type"},
		{"operator", "leaving", `{"status":"active"}`, 409, ""},
		{"auditor", "acme", `{"name":"x"}`, 403, ""},
		{"admin", "globex", `{"name":"x"}`, 403, ""},
		{"admin", "acme", `[]`, 422, " wrong_type"},
		{"admin", "acme", `{`, 400, ""},
	} {
		p := w.call(test.as, "PATCH", "/tenants/"+test.tenant, test.body, map[string]string{"If-Match": "*"}).want(t, test.status, "").problem(t)
		var faults []string
		for _, f := range p.Errors {
			faults = append(faults, f.Pointer+" "+f.Code)
		}
		if got := strings.Join(faults, " "); got != test.faults {
			t.Errorf("%s of %s as %s: got faults %q, want %q", test.body, test.tenant, test.as, got, test.faults)
		}
	}
	var got audit.Tenant
	w.call("admin", "GET", "/tenants/acme", "", nil).want(t, 200, "").decode(t, &got)
	if got.Status != audit.TenantActive {
		t.Errorf("got status %q at the end, want %q", got.Status, audit.TenantActive)
	}
	w.call("operator", "PUT", "/tenants/acme", `{"status":"suspended"}`, map[string]string{"If-Match": "*"}).want(t, 422, "invalid")
	w.call("admin", "PATCH", "/tenants/acme", `{}`, map[string]string{"If-Match": "*", "Content-Type": "text/plain"}).want(t, 415, "unsupported_media_type")
}

func TestAnOperatorSuspendsATenantAndEndsTheSuspension(t *testing.T) {
	w := newWorld(t)
	const entry = `{"user_id":"u","action":"CREATE","resource_type":"order"}`
	status := func(to string) {
		t.Helper()
		var got audit.Tenant
		w.call("operator", "PATCH", "/tenants/acme", `{"status":"`+to+`"}`, map[string]string{"If-Match": "*"}).want(t, 200, "").decode(t, &got)
		if string(got.Status) != to {
			t.Errorf("got status %q, want %q", got.Status, to)
		}
	}
	w.call("admin", "POST", "/logs", entry, nil).want(t, 202, "")
	status("suspended")
	w.call("admin", "POST", "/logs", entry, nil).want(t, 403, "tenant_suspended")
	w.call("admin", "POST", "/logs/stream/tickets", "", nil).want(t, 403, "tenant_suspended")
	w.call("admin", "GET", "/logs", "", nil).want(t, 403, "tenant_suspended")
	w.call("admin", "GET", "/tenants/acme", "", nil).want(t, 403, "tenant_suspended")
	w.call("operator", "GET", "/logs", "", map[string]string{"X-Tenant-ID": "acme"}).want(t, 200, "")
	status("active")
	w.call("admin", "GET", "/logs", "", nil).want(t, 200, "")
	w.call("admin", "POST", "/logs", entry, nil).want(t, 202, "")
	w.call("admin", "POST", "/logs/stream/tickets", "", nil).want(t, 201, "")
}

// TestASuspendedTenantEndsTheRequestsOfItsOwnCallers calls every route that names a tenant.
func TestASuspendedTenantEndsTheRequestsOfItsOwnCallers(t *testing.T) {
	deniedToOperators := []string{
		"cancel-job", "cleanup-logs", "create-log", "create-logs-bulk", "create-stream-ticket", "delete-quarantine", "retry-quarantine",
	}
	ids := strings.NewReplacer("{erasure}", "x", "{hold}", "x", "{key}", "x", "{restore}", "x")
	w := newWorld(t)
	var denied []string
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil || route.TenantFrom == manifest.TenantNone {
			continue
		}
		path, header := strings.Replace(ids.Replace(route.Path), "{id}", "x", 1), map[string]string{"X-Tenant-ID": "sleepy"}
		if route.TenantFrom == manifest.TenantFromPath {
			path, header = strings.Replace(ids.Replace(route.Path), "{id}", "sleepy", 1), nil
		}
		if f.Name == "delete-tenant" {
			continue // no right of the tenant's own callers, and an operator would delete it
		}
		w.call("sleeper", route.Method, path, "", header).want(t, 403, "tenant_suspended")
		if got := w.call("operator", route.Method, path, "", header); strings.Contains(got.body, "tenant_suspended") {
			denied = append(denied, f.Name)
		}
	}
	if diff := cmp.Diff(deniedToOperators, denied); diff != "" {
		t.Errorf("functions that operators are denied in a suspended tenant (-want +got):\n%s", diff)
	}
}

func TestListTenantsShowsAccessibleOnesInBothDirections(t *testing.T) {
	w := newWorld(t)
	type page struct {
		Items      []struct{ ID string }
		Next, Prev *string
	}
	get := func(as, query string) (p page) {
		t.Helper()
		w.call(as, "GET", "/tenants"+query, "", nil).want(t, 200, "").decode(t, &p)
		return p
	}
	switch own := get("admin", ""); {
	case len(own.Items) != 1:
		t.Errorf("acme's administrator: got %d items, want 1", len(own.Items))
	case own.Items[0].ID != "acme":
		t.Errorf("acme's administrator: got ID %q, want %q", own.Items[0].ID, "acme")
	case own.Next != nil:
		t.Errorf("acme's administrator: got next %v, want none", own.Next)
	case own.Prev != nil:
		t.Errorf("acme's administrator: got prev %v, want none", own.Prev)
	}
	var forwards, backwards []string
	cursor, last := "", page{}
	for {
		last = get("operator", "?limit=1"+cursor)
		forwards = append(forwards, last.Items[0].ID)
		if last.Next == nil {
			break
		}
		cursor = "&cursor=" + *last.Next
	}
	for p := last; ; p = get("operator", "?limit=1&cursor="+*p.Prev) {
		backwards = append([]string{p.Items[0].ID}, backwards...)
		if p.Prev == nil {
			break
		}
	}
	if want := "[acme globex leaving sleepy]"; fmt.Sprint(forwards) != want {
		t.Errorf("got forwards %q, want %q", fmt.Sprint(forwards), want)
	} else if fmt.Sprint(backwards) != want {
		t.Errorf("got backwards %q, want %q", fmt.Sprint(backwards), want)
	}
	// A cursor is good only for the caller who got it.
	first := get("operator", "?limit=1")
	w.call("admin", "GET", "/tenants?cursor="+*first.Next, "", nil).want(t, 422, "invalid")
}

func TestLongTrailsForgetPagesNearTheBeginning(t *testing.T) {
	w := newWorld(t)
	const pages = 60
	for i := range pages {
		id := fmt.Sprintf("t-%02d-%s", i, strings.Repeat("x", 58))
		err := w.db.Tenants().Create(t.Context(), audit.Tenant{ID: audit.TenantID(id), Name: id, Status: audit.TenantActive, CreatedAt: start, UpdatedAt: start, Settings: audit.DefaultSettings(), Version: 1})
		if err != nil {
			t.Fatal(err)
		}
	}
	var p struct {
		Items      []struct{ ID string }
		Next, Prev *string
	}
	seen, query := 0, "?limit=1"
	for {
		p.Next, p.Prev = nil, nil
		w.call("operator", "GET", "/tenants"+query, "", nil).want(t, 200, "").decode(t, &p)
		seen++
		if p.Next == nil {
			break
		}
		if len(*p.Next) > cursor.MaxBytes {
			t.Fatalf("page %d: got a cursor of %d bytes, want at most %d", seen, len(*p.Next), cursor.MaxBytes)
		}
		query = "?limit=1&cursor=" + *p.Next
	}
	if seen != pages+4 {
		t.Errorf("%d pages, want %d", seen, pages+4)
	}
	steps := 0
	for p.Prev != nil {
		query = "?limit=1&cursor=" + *p.Prev
		p.Prev = nil
		w.call("operator", "GET", "/tenants"+query, "", nil).want(t, 200, "").decode(t, &p)
		steps++
	}
	if p.Items[0].ID != "acme" {
		t.Errorf("got ID %q, want %q", p.Items[0].ID, "acme")
	}
	if steps < 20 {
		t.Errorf("got %d steps, want at least 20", steps)
	}
}

func TestDeleteTenantAnswersTheSameJobAgain(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "DELETE", "/tenants/acme", "", nil).want(t, 403, "forbidden")
	first := w.call("operator", "DELETE", "/tenants/acme", "", nil).want(t, 202, "")
	var job jobs.Job
	first.decode(t, &job)
	first.is(t, `{"id":"`+job.ID+`","kind":"purge_tenant","tenant_id":"acme","state":"queued","progress":0,"count":0,"created_by":"op","created_at":"2026-03-02T09:30:00.000Z"}`)
	if got, want := first.header.Get("Location"), "/api/v1/jobs/"+job.ID; got != want {
		t.Errorf("Location is %q, want %q", got, want)
	}
	w.advance(time.Minute)
	w.call("operator", "DELETE", "/tenants/acme", "", nil).want(t, 202, "").is(t, first.body)
	w.call("admin", "GET", "/logs", "", nil).want(t, 403, "forbidden")
	var tenant audit.Tenant
	if w.call("admin", "GET", "/tenants/acme", "", nil).want(t, 200, "").decode(t, &tenant); tenant.Status != audit.TenantDeleting {
		t.Errorf("the record says %s, want %s", tenant.Status, audit.TenantDeleting)
	}
}

func TestADeletionKeepsTheArchiveIfItIsAskedTo(t *testing.T) {
	w := newWorld(t)
	w.call("operator", "DELETE", "/tenants/acme?keep_archive=yes", "", nil).want(t, 422, "invalid")
	first := w.call("operator", "DELETE", "/tenants/acme?keep_archive=true", "", nil).want(t, 202, "")
	w.call("operator", "DELETE", "/tenants/acme?keep_archive=true", "", nil).want(t, 202, "").is(t, first.body)
	w.call("operator", "DELETE", "/tenants/acme", "", nil).want(t, 409, "conflict")
	if got := w.call("operator", "GET", "/tenants/acme", "", nil).want(t, 200, ""); !strings.Contains(got.body, `"keep_archive":true`) {
		t.Errorf("got %s, want it with keep_archive", got.body)
	}
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	w.call("admin", "GET", "/tenants/acme/api-keys", "", nil).want(t, 200, "").is(t, `{"items":[],"next":null,"prev":null}`)
	created := w.call("admin", "POST", "/tenants/acme/api-keys", `{"name":"ci","permissions":["logs:read","logs:write"],"resources":["order:1"],"expires_at":"2026-04-01T00:00:00+02:00"}`, nil).want(t, 201, "")
	var key struct{ ID, Secret string }
	created.decode(t, &key)
	fields := `{"id":"` + key.ID + `","tenant_id":"acme","name":"ci","permissions":["logs:write","logs:read"],"resources":["order:1"],"created_at":"2026-03-02T09:30:00.000Z","created_by":"admin","expires_at":"2026-03-31T22:00:00.000Z"`
	created.is(t, fields+`,"secret":"`+key.Secret+`"}`)
	if want := "ocelot_"; !strings.HasPrefix(key.Secret, want) {
		t.Errorf("got secret %s, want it to begin with %s", key.Secret, want)
	}
	if _, err := w.db.Keys().KeyByHash(t.Context(), access.HashSecret(key.Secret)); err != nil {
		t.Errorf("the secret does not find its key: %v", err)
	}
	w.call("admin", "GET", "/tenants/acme/api-keys", "", nil).want(t, 200, "").is(t, `{"items":[`+fields+`}],"next":null,"prev":null}`)
	w.call("operator", "GET", "/tenants/globex/api-keys", "", nil).want(t, 200, "").is(t, `{"items":[],"next":null,"prev":null}`)
	w.call("auditor", "GET", "/tenants/acme/api-keys", "", nil).want(t, 403, "forbidden")
	w.call("admin", "DELETE", "/tenants/acme/api-keys/"+key.ID, "", nil).want(t, 204, "").is(t, "")
	w.call("admin", "DELETE", "/tenants/acme/api-keys/"+key.ID, "", nil).want(t, 404, "not_found")
	w.call("admin", "POST", "/tenants/acme/api-keys", `{"name":"k","permissions":["logs:reveal","logs:match_encrypted","subjects:erase"]}`, nil).want(t, 201, "")
	if strings.Contains(w.logs.String(), key.Secret) {
		t.Error("the log holds the secret, want it without")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		as, body string
		status   int
		code     string
	}{
		{"admin", `{}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":[]}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["tenants:create"]}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:write"],"expires_at":"2026-03-02T09:30:00Z"}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:write"],"expires_at":"tomorrow"}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:write"],"expires_at":"0001-01-01T00:00:00Z"}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:write"],"resources":["user:"]}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:write"],"hash":"x"}`, 422, "invalid"},
		{"admin", `{"name":"k","permissions":["logs:read_sensitive"]}`, 422, "invalid"},
		{"operator", `{"name":"k","permissions":["logs:reveal"]}`, 403, "forbidden"},
		{"operator", `{"name":"k","permissions":["logs:match_encrypted"]}`, 403, "forbidden"},
		{"operator", `{"name":"k","permissions":["subjects:erase"]}`, 403, "forbidden"},
		{"scoped", `{"name":"k","permissions":["logs:read"]}`, 403, "forbidden"},
	} {
		w.call(test.as, "POST", "/tenants/acme/api-keys", test.body, nil).want(t, test.status, test.code)
	}
}
