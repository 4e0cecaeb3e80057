package httpapi_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// hidden is something that exists and that a caller must not learn of.
type hidden struct {
	what, as string
	// path is where it is, and absent is a path of the same form where nothing is.
	path, absent string
}

// concealed has what the world hides, by the route's parameters.
type concealed struct{ entries, items, jobs, erasures, holds, exports, keys, tenants []hidden }

// conceal stores entries, quarantined entries, jobs, exports and keys of two tenants.
func (w *world) conceal() (c concealed) {
	for _, age := range []time.Duration{time.Minute, time.Hour} {
		at := start.Add(-age)
		absent := "/" + audit.NewEntryID(at, [10]byte{0xff}).String()
		for n, test := range []struct {
			what, as, user, resource string
			tenant                   audit.TenantID
		}{
			{"an entry of another tenant", "admin", "ann", "order", "globex"},
			{"an entry of another resource", "scoped", "ann", "invoice", "acme"},
			{"another user's entry", "user", "bob", "order", "acme"},
		} {
			e := audit.Entry{
				ID: audit.NewEntryID(at, [10]byte{byte(n)}), Tenant: test.tenant, UserID: test.user, Action: "UPDATE", ResourceType: test.resource,
				Timestamp: at, ReceivedAt: at,
			}
			if _, err := w.db.Entries().Append(w.t.Context(), test.tenant, []audit.Entry{e}); err != nil {
				w.t.Fatal(err)
			}
			what := test.what + ", " + age.String() + " old"
			c.entries = append(c.entries, hidden{what, test.as, "/" + e.ID.String(), absent})
			if test.as == "user" {
				continue // has no access to the quarantine
			}
			e.Digest.Sum = sha256.Sum256(e.ID[:])
			item := quarantine.Item{
				ID: fmt.Sprintf("%032x", len(c.items)), Step: audit.StepPersist, Code: "c", Reason: "r", QuarantinedAt: at, Entry: e,
			}
			if err := w.db.Quarantine().Put(w.t.Context(), test.tenant, []quarantine.Item{item}); err != nil {
				w.t.Fatal(err)
			}
			c.items = append(c.items, hidden{"quarantined: " + what, test.as, "/" + item.ID, "/" + strings.Repeat("f", 32)})
		}
	}
	w.addJob("globex", 1, jobs.StateQueued)
	c.jobs = []hidden{{"a job of another tenant", "admin", "/job-01", "/job-02"}, {"a job, without a permission", "user", "/job-01", "/job-02"}}
	w.addJob("acme", 3, jobs.StateQueued)
	c.erasures = []hidden{{"a job of another tenant", "admin", "/job-01", "/job-02"}, {"a job of another kind", "admin", "/job-03", "/job-02"}}
	if err := w.db.Holds().CreateHold(w.t.Context(), hold.Hold{ID: "of-globex", Tenant: "globex", CreatedAt: start, Version: 1}); err != nil {
		w.t.Fatal(err)
	}
	c.holds = []hidden{{"a hold of another tenant", "admin", "/of-globex", "/of-nobody"}}
	key := tenants.Key{ID: "00112233445566aa", Tenant: "globex", Name: "k", Hash: sha256.Sum256([]byte("k")), Permissions: []string{"logs:read"}, CreatedAt: start}
	if err := w.db.Keys().CreateKey(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
	w.addExport("globex", "export-01", access.Scope{})
	w.addExport("acme", "export-02", access.Scope{})
	w.addExport("acme", "export-03", access.Scope{Resources: []access.Resource{{Type: "order", ID: "elsewhere"}}})
	c.exports = []hidden{
		{"an export of another tenant", "admin", "/export-01", "/export-00"}, {"an export of everything", "scoped", "/export-02", "/export-00"},
		{"a job of another kind", "admin", "/job-01", "/job-02"},
	}
	c.keys = []hidden{{"a key of another tenant", "admin", "/" + key.ID, "/00112233445566ff"}}
	for _, other := range []string{"globex", "sleepy", "leaving", "Not_An_ID"} {
		for _, as := range []string{"admin", "auditor", "user", "scoped"} {
			c.tenants = append(c.tenants, hidden{"the tenant " + other, as, "/" + other, "/nowhere"})
		}
	}
	return c
}

// Each route that names something by its id answers the same, to the last byte, for what the
// caller must not see and for what does not exist.
func TestHiddenIsAnsweredAsAbsent(t *testing.T) {
	w := newWorld(t)
	c := w.conceal()
	matches := map[string]string{"If-Match": "*"}
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil || !strings.Contains(route.Path, "{") {
			continue
		}
		var (
			of             []hidden
			before, behind string // of the id in the path
			body           string
		)
		switch f.Name {
		case "get-log":
			of, before = c.entries, "/logs"
		case "retry-quarantine":
			of, before, behind = c.items, "/logs/quarantine", "/retry"
		case "delete-quarantine":
			of, before = c.items, "/logs/quarantine"
		case "get-job", "cancel-job":
			of, before = c.jobs, "/jobs"
		case "get-export":
			of, before = c.exports, "/logs/exports"
		case "delete-key":
			of, before = c.keys, "/tenants/acme/api-keys"
		case "get-certificate": // its id is the credential
			of, before = []hidden{{"a malformed id", "", "/none", "/00000000000000000000000000000000"}}, "/certificates"
		case "get-erasure", "cancel-erasure":
			of, before = c.erasures, "/tenants/acme/erasures"
		case "create-erasure":
			of, before, behind, body = c.tenants, "/tenants", "/erasures", `{"subject":"user-42","reason":"r"}`
		case "list-erasures":
			of, before, behind = c.tenants, "/tenants", "/erasures"
		case "get-restore", "cancel-restore":
			of, before = c.erasures, "/tenants/acme/restores"
		case "create-restore":
			of, before, behind, body = c.tenants, "/tenants", "/restores", `{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}`
		case "list-restores":
			of, before, behind = c.tenants, "/tenants", "/restores"
		case "get-legal-hold":
			of, before = c.holds, "/tenants/acme/legal-holds"
		case "release-legal-hold":
			of, before, behind = c.holds, "/tenants/acme/legal-holds", "?reason=r"
		case "create-legal-hold":
			of, before, behind, body = c.tenants, "/tenants", "/legal-holds", `{"matter":"m","reason":"r"}`
		case "list-legal-holds":
			of, before, behind = c.tenants, "/tenants", "/legal-holds"
		case "create-key":
			of, before, behind, body = c.tenants, "/tenants", "/api-keys", `{"name":"k","permissions":["logs:read"]}`
		case "list-keys":
			of, before, behind = c.tenants, "/tenants", "/api-keys"
		case "get-tenant", "delete-tenant":
			of, before = c.tenants, "/tenants"
		case "update-tenant", "patch-tenant":
			of, before, body = c.tenants, "/tenants", `{"name":"x"}`
		default:
			t.Errorf("%s: the test has nothing hidden for its path %s, want something", f.Name, route.Path)
		}
		for _, method := range methodsOf(route) {
			for _, h := range of {
				got := w.call(h.as, method, before+h.path+behind, body, matches)
				want := w.call(h.as, method, before+h.absent+behind, body, matches)
				if got.status != 404 && got.status != 403 {
					t.Errorf("%s %s: %s as %s: got status %d, want 404 or 403", method, route.Path, h.what, h.as, got.status)
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(reply{})); diff != "" {
					t.Errorf("%s %s: %s as %s: the answer differs from that for what is absent (-absent +hidden):\n%s", method, route.Path, h.what, h.as, diff)
				}
			}
		}
	}
}

// methodsOf returns the method of a route, with HEAD for GET.
func methodsOf(route *manifest.Route) []string {
	if route.Method == "GET" {
		return []string{"GET", "HEAD"}
	}
	return []string{route.Method}
}
