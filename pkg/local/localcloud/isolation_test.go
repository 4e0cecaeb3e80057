package localcloud_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// mayCall has the roles that may call a function in their own tenant. It is written by hand on
// purpose, so that it does not depend on the code under test.
var mayCall = map[string]string{
	"cancel-erasure":       "admin",
	"cancel-job":           "admin operator auditor", // each sees only what it may see, and cancels only what it may start
	"cancel-restore":       "admin operator",
	"cleanup-logs":         "admin operator",
	"create-erasure":       "admin",
	"create-export":        "admin operator auditor",
	"create-key":           "admin operator",
	"create-legal-hold":    "admin operator",
	"get-legal-hold":       "admin operator auditor",
	"list-legal-holds":     "admin operator auditor",
	"release-legal-hold":   "admin operator",
	"create-log":           "admin operator user",
	"create-logs-bulk":     "admin operator user",
	"create-restore":       "admin operator",
	"create-stream-ticket": "auditor admin operator",
	"create-tenant":        "operator",
	"delete-key":           "admin operator",
	"delete-quarantine":    "admin operator",
	"delete-tenant":        "operator",
	"export-logs":          "admin operator auditor",
	"feed-logs":            "admin operator auditor user",
	"get-certificate":      "admin operator auditor user nobody",
	"get-certificate-keys": "admin operator auditor user nobody",
	"get-docs":             "admin operator auditor user nobody",
	"get-erasure":          "admin operator auditor",
	"get-export":           "admin operator auditor",
	"get-health":           "admin operator auditor user nobody",
	"get-job":              "admin operator auditor",
	"get-log":              "admin operator auditor user",
	"get-openapi":          "admin operator auditor user nobody",
	"get-restore":          "admin operator auditor",
	"get-stats":            "admin operator auditor user",
	"get-tenant":           "admin operator auditor user",
	"list-erasures":        "admin operator auditor",
	"list-exports":         "admin operator auditor",
	"list-jobs":            "admin operator auditor",
	"list-keys":            "admin operator",
	"list-quarantine":      "admin operator auditor",
	"list-restores":        "admin operator auditor",
	"list-tenants":         "admin operator auditor user",
	"patch-tenant":         "admin operator",
	"retry-quarantine":     "admin operator",
	"list-logs":            "admin operator auditor user",
	"search-logs":          "admin operator auditor user",
	"update-tenant":        "admin operator",
}

// stage has two tenants with the same ids, keys and contents.
type stage struct {
	*service
	roles map[string]func(audit.TenantID) string
}

// sharedID is the id of an entry of user "u" in both tenants.
const sharedID = "019b7ca9-8c88-7000-8000-000000000001"

const sharedEntry = `{"user_id":"u","action":"VIEW","resource_type":"order","resource_id":"7","timestamp":"2026-01-02T03:04:05Z","message":"shared words of %s","id":"019b7ca9-8c88-7000-8000-00000000000%d"}`

// newStage starts the service with tenants that have the same entries.
func newStage(t *testing.T, start starter, tenants ...audit.TenantID) *stage {
	s := &stage{service: start(t, t.TempDir())}
	s.roles = map[string]func(audit.TenantID) string{
		"nobody":   func(audit.TenantID) string { return "" },
		"operator": func(audit.TenantID) string { return s.operator() },
	}
	for _, role := range []access.Role{access.RoleAdmin, access.RoleAuditor, access.RoleUser} {
		s.roles[string(role)] = func(tenant audit.TenantID) string { return s.roleToken(tenant, role, "u") }
	}
	admins := make([]caller, len(tenants))
	for i, id := range tenants {
		admins[i] = s.tenantAdmin(id)
		admins[i].bulk([]string{fmt.Sprintf(sharedEntry, id, 1), strings.Replace(fmt.Sprintf(sharedEntry, id, 2), `"u"`, `"someone-else"`, 1)})
	}
	for _, admin := range admins {
		admin.eventually(2)
	}
	return s
}

// call sends a plausible request to a route in a tenant.
func (s *stage) call(route manifest.Route, authorization string, tenant audit.TenantID) answer {
	path := strings.NewReplacer("{key}", "0011223344556677").Replace(route.Path)
	header := map[string]string{}
	header["If-Match"] = "*"
	c := caller{s.service, authorization, tenant}
	switch {
	case route.TenantFrom == manifest.TenantFromPath:
		path = strings.Replace(path, "{id}", string(tenant), 1)
		c.tenant = ""
	case strings.Contains(path, "quarantine"):
		path = strings.Replace(path, "{id}", strings.Repeat("0", 32), 1)
	default:
		path = strings.Replace(path, "{id}", sharedID, 1)
	}
	if route.TenantFrom == manifest.TenantNone {
		c.tenant = ""
	}
	body := ""
	switch route.Method + " " + route.Path {
	case "POST /logs":
		body = `{"user_id":"u","action":"A","resource_type":"r","severity":"INFO"}`
	case "POST /logs/bulk":
		body = `[{"user_id":"u","action":"A","resource_type":"r"}]`
	case "POST /tenants":
		body = `{"id":"third","name":"Third"}`
	case "PUT /tenants/{id}":
		body = `{"name":"Renamed","settings":{"retention_days":0}}`
	case "PATCH /tenants/{id}":
		body = `{"name":"Renamed"}`
	case "POST /tenants/{id}/api-keys":
		body = `{"name":"k","permissions":["logs:write"]}`
	}
	return c.do(route.Method, path, body, header)
}

func TestRoutesByRole(t *testing.T) { everySlowWay(t, routesByRole) }

func routesByRole(t *testing.T, start starter) {
	var routed []manifest.Function
	var tenants []audit.TenantID // one for each function, because some change it
	for _, f := range manifest.Functions() {
		if f.Trigger.Route != nil {
			routed, tenants = append(routed, f), append(tenants, audit.TenantID("of-"+f.Name))
		}
	}
	s := newStage(t, start, tenants...)
	for i, f := range routed {
		allowed, listed := mayCall[f.Name]
		if !listed {
			t.Errorf("%s is not in the table, want every function there", f.Name)
			continue
		}
		// The operator goes last: it really deletes and changes things.
		for _, role := range []string{"nobody", "user", "auditor", "admin", "operator"} {
			got := s.call(*f.Trigger.Route, s.roles[role](tenants[i]), tenants[i])
			refused := got.status == http.StatusUnauthorized || got.status == http.StatusForbidden
			if want := !slices.Contains(strings.Fields(allowed), role); refused != want {
				t.Errorf("%s as %s: got status %d, want refused %t: %.200s", f.Name, role, got.status, want, got.body)
			}
			if role == "nobody" && f.Trigger.Route.Permission != "" && got.status != http.StatusUnauthorized {
				t.Errorf("%s without a credential: got status %d, want %d", f.Name, got.status, http.StatusUnauthorized)
			}
		}
	}
}

func TestRoutesInAForeignTenant(t *testing.T) { everyWay(t, routesInAForeignTenant) }

func routesInAForeignTenant(t *testing.T, start starter) {
	s := newStage(t, start, "acme", "acme-2")
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil || route.Permission == "" {
			continue
		}
		for _, role := range []string{"admin", "auditor", "user"} {
			foreign := s.call(*route, s.roles[role]("acme"), "acme-2")
			if bytes.Contains(foreign.body, []byte("acme-2")) {
				t.Errorf("%s as %s of another tenant: got %s, want nothing of the tenant", f.Name, role, foreign.body)
			}
			if route.TenantFrom == manifest.TenantNone {
				continue
			}
			unknown := s.call(*route, s.roles[role]("acme"), "no-such-tenant")
			if foreign.status != http.StatusForbidden {
				t.Errorf("%s: %s: got status %d, want %d: %s", f.Name, role, foreign.status, http.StatusForbidden, foreign.body)
			}
			if unknown.status != http.StatusForbidden {
				t.Errorf("%s: %s: got status %d, want %d: %s", f.Name, role, unknown.status, http.StatusForbidden, unknown.body)
			}
			if got, want := withoutRequestID(unknown.body), withoutRequestID(foreign.body); !bytes.Equal(got, want) {
				t.Errorf("%s as %s: got %s for an unknown tenant, want the same as for a foreign one, %s", f.Name, role, got, want)
			}
		}
	}
	for _, tenant := range []audit.TenantID{"acme", "acme-2"} {
		// One answer counts both kinds: refusals are recorded a moment after the request.
		entries, refused := kinds(s.as(s.roles["admin"](tenant), tenant).list(url.Values{"limit": {"1000"}}))
		if tenant == "acme-2" && refused > 0 {
			t.Errorf("%s: got %d entries about attempts from outside, want none", tenant, refused)
		}
		if entries != 2 { // the authorizer may refuse a caller for its own tenant
			t.Errorf("%s: got %d entries at the end, want 2", tenant, entries)
		}
	}
}

// kinds counts the entries of a page: those about refused requests, and all others.
func kinds(page listAnswer) (entries, refused int) {
	for _, item := range page.Items {
		if string(item["action"]) == `"access.refused"` {
			refused++
		} else {
			entries++
		}
	}
	return entries, refused
}

func withoutRequestID(body []byte) []byte {
	at := bytes.Index(body, []byte(`"request_id":"`))
	if at < 0 {
		return body
	}
	end := bytes.IndexByte(body[at+14:], '"')
	return append(bytes.Clone(body[:at]), body[at+14+end:]...)
}

func TestTenantsWithTheSameContentSeeTheirOwnOnly(t *testing.T) { everyWay(t, tenantsSeeTheirOwnOnly) }

func tenantsSeeTheirOwnOnly(t *testing.T, start starter) {
	s := newStage(t, start, "acme", "acme-2")
	for tenant, other := range map[audit.TenantID]string{"acme": "of acme-2", "acme-2": "of acme\""} {
		for _, role := range []string{"admin", "auditor", "user", "operator"} {
			c := s.as(s.roles[role](tenant), tenant)
			for _, path := range []string{
				"/logs", "/logs?q=shared", "/logs?user_id=u&action=VIEW", "/logs/stats?group_by=user_id", "/logs/feed", "/logs/" + sharedID, "/logs/quarantine",
			} {
				got := c.do("GET", path, "", nil)
				if bytes.Contains(got.body, []byte(other)) {
					t.Errorf("%s of %s as %s: got %s, want nothing of the other tenant", path, tenant, role, got.body)
				}
			}
			want := 2
			if role == "user" {
				want = 1 // its own entries only
			}
			n, _ := kinds(c.list(nil)) // some of the requests above are refused
			if n != want {
				t.Errorf("%s as %s lists %d entries, want %d", tenant, role, n, want)
			}
		}
	}
}

func TestResourceScopesNarrowEveryRead(t *testing.T) { everyWay(t, resourceScopesNarrowEveryRead) }

func resourceScopesNarrowEveryRead(t *testing.T, start starter) {
	s := start(t, t.TempDir())
	admin := s.tenantAdmin("acme")
	for i, resource := range []string{`"resource_type":"order","resource_id":"1"`, `"resource_type":"order","resource_id":"2"`, `"resource_type":"user","resource_id":"42"`, `"resource_type":"user","resource_id":"43"`} {
		admin.do("POST", "/logs", fmt.Sprintf(`{"user_id":"u","action":"VIEW",%s,"message":"m%d","timestamp":"2026-01-02T03:04:05Z","id":"019b7ca9-8c88-7000-8000-00000000000%d"}`, resource, i, i), nil)
	}
	admin.eventually(4)
	scoped := s.as(s.token(access.Claims{
		Subject: "a", Tenants: []string{"acme"}, Role: access.RoleAuditor,
		Resources: []string{"order", "user:42"},
	}), "acme")
	if got := scoped.total(); got != 3 {
		t.Errorf("stats count %d entries, want 3", got)
	}
	if got := len(scoped.list(nil).Items); got != 3 {
		t.Errorf("the list has %d entries, want 3", got)
	}
	for i, want := range []int{200, 200, 200, 404} {
		if got := scoped.get(fmt.Sprintf("/logs/019b7ca9-8c88-7000-8000-00000000000%d", i), nil); got.status != want {
			t.Errorf("entry %d: %d, want %d", i, got.status, want)
		}
	}
	if got := len(scoped.list(map[string][]string{"q": {"user_id:u OR resource_id:43"}}).Items); got != 3 {
		t.Errorf("a query reaches %d entries, want 3", got)
	}
}
