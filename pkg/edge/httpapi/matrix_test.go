package httpapi_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

//go:generate go test -run ^TestAccessMatrixCurrent$ -count 1 . -matrix

var writeMatrix = flag.Bool("matrix", false, "write the table of docs/security.md instead of comparing it")

// right is what a role may do at a route.
type right string

const (
	none right = "–"
	all  right = "all"
	own  right = "own" // entries whose user_id is the caller's subject
)

// accessRow says who may use a route or a message of the live stream. It is written by hand and
// does not read the permission in the manifest: that is what it checks.
type accessRow struct {
	roles [4]right            // of admin, auditor, user and operator, as access.Roles
	with  access.Permission   // opens the route; "": the route is public
	own   access.Permission   // opens it for the caller's own entries; "": none does
	also  []access.Permission // each opens it too
	// target, body and status are a request that the route takes. A %s in the target is the
	// tenant. Requests that would change what others read name something that does not exist.
	target, body string
	status       int
	foreign      string // the body of a write for somebody else; "": the route writes no entries
	reads        bool   // the answer shows entries
	uses         bool   // an allowed request ends the tenant
}

const (
	ownEntry     = `{"user_id":"ann","action":"A","resource_type":"order"}`
	foreignEntry = `{"user_id":"bob","action":"A","resource_type":"order"}`
	noSuchID     = "019cad3c-8a40-7000-8000-000000000000"
)

var (
	everyone  = [4]right{all, all, all, all}
	readers   = [4]right{all, all, none, all}
	managers  = [4]right{all, none, none, all}
	operators = [4]right{none, none, none, all}
	ofEntries = [4]right{all, all, own, all}
	writers   = [4]right{all, none, own, all}
	startJobs = []access.Permission{access.ArchiveRestore, access.HoldsManage, access.LogsCleanup, access.LogsExport, access.SubjectsErase, access.TenantsDelete}
)

// accessMatrix has a row for each route of the manifest, HTTP and WebSocket. docs/security.md
// shows it.
var accessMatrix = map[string]accessRow{
	"cancel-erasure":       {roles: [4]right{all, none, none, none}, with: access.SubjectsErase, target: "/tenants/%s/erasures/none", status: 404},
	"cancel-job":           {roles: readers, with: access.JobsRead, also: startJobs, target: "/jobs/none", status: 404},
	"cancel-restore":       {roles: managers, with: access.ArchiveRestore, target: "/tenants/%s/restores/none", status: 404},
	"cleanup-logs":         {roles: managers, with: access.LogsCleanup, target: "/logs/cleanup?before=2000-01-01", status: 202},
	"create-erasure":       {roles: [4]right{all, none, none, none}, with: access.SubjectsErase, target: "/tenants/%s/erasures", body: `{"subject":"user-42","reason":"r"}`, status: 202},
	"create-export":        {roles: readers, with: access.LogsExport, target: "/logs/exports", body: `{}`, status: 202},
	"create-key":           {roles: managers, with: access.KeysManage, target: "/tenants/%s/api-keys", body: `{"name":"k","permissions":["keys:manage"]}`, status: 201},
	"create-legal-hold":    {roles: managers, with: access.HoldsManage, target: "/tenants/%s/legal-holds", body: `{"matter":"m","reason":"r"}`, status: 202},
	"get-legal-hold":       {roles: readers, with: access.HoldsRead, target: "/tenants/%s/legal-holds/none", status: 404},
	"list-legal-holds":     {roles: readers, with: access.HoldsRead, target: "/tenants/%s/legal-holds", status: 200},
	"release-legal-hold":   {roles: managers, with: access.HoldsManage, target: "/tenants/%s/legal-holds/none?reason=r", status: 404},
	"create-log":           {roles: writers, with: access.LogsWrite, own: access.LogsWriteOwn, target: "/logs", body: ownEntry, foreign: foreignEntry, status: 202},
	"create-logs-bulk":     {roles: writers, with: access.LogsWrite, own: access.LogsWriteOwn, target: "/logs/bulk", body: "[" + ownEntry + "]", foreign: "[" + foreignEntry + "]", status: 202},
	"create-restore":       {roles: managers, with: access.ArchiveRestore, target: "/tenants/%s/restores", body: `{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}`, status: 202},
	"create-stream-ticket": {roles: readers, with: access.LogsStream, target: "/logs/stream/tickets", status: 201},
	"create-tenant":        {roles: operators, with: access.TenantsCreate, target: "/tenants", body: `{"id":"acme","name":"Again"}`, status: 409},
	"delete-key":           {roles: managers, with: access.KeysManage, target: "/tenants/%s/api-keys/none", status: 404},
	"delete-quarantine":    {roles: managers, with: access.QuarantineManage, target: "/logs/quarantine/none", status: 404},
	"delete-tenant":        {roles: operators, with: access.TenantsDelete, target: "/tenants/%s", status: 202, uses: true},
	"export-logs":          {roles: readers, with: access.LogsExport, target: "/logs/export", status: 200, reads: true},
	"feed-logs":            {roles: ofEntries, with: access.LogsRead, own: access.LogsReadOwn, target: "/logs/feed", status: 200, reads: true},
	"get-certificate":      {roles: everyone, target: "/certificates/none", status: 404},
	"get-certificate-keys": {roles: everyone, target: "/certificates/keys", status: 200},
	"get-docs":             {roles: everyone, target: "/docs", status: 200},
	"get-erasure":          {roles: readers, with: access.JobsRead, also: startJobs, target: "/tenants/%s/erasures/none", status: 404},
	"get-export":           {roles: readers, with: access.LogsExport, target: "/logs/exports/none", status: 404},
	"get-health":           {roles: everyone, target: "/health", status: 200},
	"get-job":              {roles: readers, with: access.JobsRead, also: startJobs, target: "/jobs/none", status: 404},
	"get-log":              {roles: ofEntries, with: access.LogsRead, own: access.LogsReadOwn, target: "/logs/" + noSuchID, status: 404},
	"get-openapi":          {roles: everyone, target: "/openapi.json", status: 200},
	"get-restore":          {roles: readers, with: access.JobsRead, also: startJobs, target: "/tenants/%s/restores/none", status: 404},
	"get-stats":            {roles: ofEntries, with: access.LogsStats, own: access.LogsReadOwn, target: "/logs/stats?group_by=resource_id", status: 200, reads: true},
	"get-tenant":           {roles: everyone, with: access.TenantsRead, target: "/tenants/%s", status: 200},
	"list-erasures":        {roles: readers, with: access.JobsRead, also: startJobs, target: "/tenants/%s/erasures", status: 200},
	"list-exports":         {roles: readers, with: access.LogsExport, target: "/logs/exports", status: 200},
	"list-jobs":            {roles: readers, with: access.JobsRead, also: startJobs, target: "/jobs", status: 200},
	"list-keys":            {roles: managers, with: access.KeysRead, target: "/tenants/%s/api-keys", status: 200},
	"list-logs":            {roles: ofEntries, with: access.LogsSearch, own: access.LogsReadOwn, target: "/logs", status: 200, reads: true},
	"list-quarantine":      {roles: readers, with: access.QuarantineRead, target: "/logs/quarantine", status: 200, reads: true},
	"list-restores":        {roles: readers, with: access.JobsRead, also: startJobs, target: "/tenants/%s/restores", status: 200},
	"list-tenants":         {roles: everyone, with: access.TenantsRead, target: "/tenants", status: 200},
	"patch-tenant":         {roles: managers, with: access.TenantsUpdate, target: "/tenants/%s", body: `{"settings":{}}`, status: 200},
	"retry-quarantine":     {roles: managers, with: access.QuarantineManage, target: "/logs/quarantine/none/retry", status: 404},
	"search-logs":          {roles: ofEntries, with: access.LogsSearch, own: access.LogsReadOwn, target: "/logs/search", body: `{}`, status: 200, reads: true},
	"update-tenant":        {roles: managers, with: access.TenantsUpdate, target: "/tenants/%s", body: `{"name":"N","settings":{}}`, status: 200},

	// A message needs a connection, and a connection the permission to stream. What the protocol
	// does not have is refused without a look at the caller.
	"connect-stream":     {roles: readers, with: access.LogsStream},
	"disconnect-stream":  {roles: readers, with: access.LogsStream},
	"ping-stream":        {roles: readers, with: access.LogsStream, body: `{"action":"ping"}`},
	"refuse-message":     {roles: everyone, body: `{"action":"other"}`},
	"subscribe-stream":   {roles: readers, with: access.LogsStream, body: `{"action":"subscribe","after":"%s"}`, reads: true},
	"unsubscribe-stream": {roles: readers, with: access.LogsStream, body: `{"action":"unsubscribe"}`},
}

// matrixCaller is a credential: a role, or a single permission, for one tenant or for all.
type matrixCaller struct {
	name      string
	principal access.Principal
	granted   audit.TenantID
	may       func(row accessRow) right // in a tenant of the credential
}

// matrixCallers returns every role and every single permission, each for acme and for "*".
func matrixCallers(t *testing.T) []matrixCaller {
	t.Helper()
	var callers []matrixCaller
	for _, granted := range []audit.TenantID{"acme", access.AnyTenant} {
		for i, role := range access.Roles() {
			p, err := access.Claims{Subject: "ann", Tenants: []string{string(granted)}, Role: role}.Principal()
			if err != nil {
				t.Fatal(err)
			}
			callers = append(callers, matrixCaller{fmt.Sprintf("%s of %s", role, granted), p, granted, func(row accessRow) right {
				if row.with != "" && role == access.RoleOperator && granted != access.AnyTenant {
					return none
				}
				return row.roles[i]
			}})
		}
		for _, permission := range access.Permissions() {
			p := access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{granted: {permission}}}
			callers = append(callers, matrixCaller{fmt.Sprintf("%s of %s", permission, granted), p, granted, func(row accessRow) right {
				switch platform := permission == access.TenantsCreate || permission == access.TenantsDelete; {
				case row.with == "":
					return all
				case platform && granted != access.AnyTenant:
					return none
				case permission == row.with, slices.Contains(row.also, permission):
					return all
				case permission == row.own:
					return own
				}
				return none
			}})
		}
	}
	return callers
}

// matrixEntries are the entries of each tenant that answers may show, by their mark. The mark is
// their resource_id.
func matrixEntries(tenant string) []audit.Entry {
	entry := func(user, resource string) audit.Entry {
		return audit.Entry{UserID: user, Action: "A", ResourceType: resource, ResourceID: tenant + "/" + user + "/" + resource}
	}
	return []audit.Entry{entry("ann", "order"), entry("ann", "invoice"), entry("bob", "order"), entry("bob", "invoice")}
}

// secretOf is a value of the entry that is encrypted. It does not have the mark in it.
func secretOf(e *audit.Entry) string {
	return "secret of " + strings.ReplaceAll(e.ResourceID, "/", " ")
}

// newMatrixWorld returns a world whose tenants acme and globex have matrixEntries, stored and in
// quarantine. It also returns the cursor before them, by tenant.
func newMatrixWorld(t *testing.T) (*world, map[string]string) {
	t.Helper()
	w, before := newWorld(t), map[string]string{}
	for _, tenant := range []string{"acme", "globex"} {
		w.call("operator", "PATCH", "/tenants/"+tenant, `{"settings":{"sensitive_fields":[{"path":"metadata.note","searchable":true}]}}`,
			map[string]string{"If-Match": "*", "Content-Type": "application/merge-patch+json"}).want(t, 200, "")
		var body []string
		for _, e := range append([]audit.Entry{{UserID: "first", ResourceType: "first", ResourceID: "first"}}, matrixEntries(tenant)...) {
			body = append(body, fmt.Sprintf(`{"user_id":%q,"action":"A","resource_type":%q,"resource_id":%q,"metadata":{"note":%q}}`,
				e.UserID, e.ResourceType, e.ResourceID, secretOf(&e)))
		}
		header := map[string]string{"X-Tenant-ID": tenant}
		w.call("operator", "POST", "/logs/bulk", "["+strings.Join(body, ",")+"]", header).want(t, 202, "")
		w.processQueues()
		var page struct{ Next string }
		w.call("operator", "GET", "/logs/feed?limit=1", "", header).want(t, 200, "").decode(t, &page)
		before[tenant] = page.Next
		w.quarantineAll(audit.TenantID(tenant))
	}
	return w, before
}

// quarantineAll adds the tenant's matrixEntries to its quarantine.
func (w *world) quarantineAll(tenant audit.TenantID) {
	w.t.Helper()
	entries := matrixEntries(string(tenant))
	reasons := make([]audit.Rejection, len(entries))
	for i := range entries {
		entries[i].Tenant, entries[i].Timestamp, entries[i].ReceivedAt = tenant, start, start
		entries[i].ID = audit.NewEntryID(start, [10]byte{byte(i)})
		reasons[i] = audit.Rejection{Index: i, Code: "unstorable", Reason: "for the test"}
	}
	if err := w.quarantine.Add(w.t.Context(), tenant, audit.StepPersist, entries, reasons); err != nil {
		w.t.Fatal(err)
	}
}

// as sends the row's request as a verified principal.
func (w *world) as(p access.Principal, row accessRow, route *manifest.Route, tenant, body string) reply {
	w.t.Helper()
	target := manifest.BasePath + strings.Replace(row.target, "%s", tenant, 1)
	r := httptest.NewRequestWithContext(access.WithPrincipal(w.t.Context(), p), route.Method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if route.TenantFrom == manifest.TenantFromHeader {
		r.Header.Set("X-Tenant-ID", tenant)
	}
	if route.Path == "/tenants/{id}" && row.body != "" {
		r.Header.Set("If-Match", "*")
	}
	return w.send(r)
}

// message connects as a verified principal and sends a message over the connection. It returns
// the status of the connection and what the client received.
func (w *world) message(p access.Principal, row accessRow, function, tenant, cursor string) (status int, frames string) {
	w.t.Helper()
	ctx := access.WithPrincipal(stream.WithConnection(w.t.Context(), "c"), p)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, manifest.BasePath+manifest.StreamPath, http.NoBody)
	r.Header.Set("X-Tenant-ID", tenant)
	recorder := httptest.NewRecorder()
	httpapi.ConnectStream(w.gate, w.stream).ServeHTTP(recorder, r)
	handle := map[string]func(*httpapi.Gate, *stream.Service) httpapi.Message{
		"disconnect-stream": httpapi.DisconnectStream, "ping-stream": httpapi.PingStream, "refuse-message": httpapi.RefuseMessage,
		"subscribe-stream": httpapi.SubscribeStream, "unsubscribe-stream": httpapi.UnsubscribeStream,
	}[function]
	w.sent = nil
	if handle != nil {
		if err := handle(w.gate, w.stream)(w.t.Context(), "c", []byte(strings.Replace(row.body, "%s", cursor, 1))); err != nil {
			w.t.Fatal(err)
		}
		w.processStream()
	}
	frames = strings.Join(w.sent, "\n")
	if err := httpapi.DisconnectStream(w.gate, w.stream)(w.t.Context(), "c", nil); err != nil {
		w.t.Fatal(err)
	}
	return recorder.Code, frames
}

// checkMarks checks that an answer shows exactly the entries that the caller may read.
func checkMarks(t *testing.T, name, answer, tenant string, may right, scope []access.Resource) {
	t.Helper()
	for _, of := range []string{"acme", "globex"} {
		for _, e := range matrixEntries(of) {
			want := of == tenant && may != none && (may != own || e.UserID == "ann")
			if len(scope) > 0 {
				want = want && e.ResourceType == scope[0].Type
			}
			if got := strings.Contains(answer, e.ResourceID); got != want {
				t.Errorf("%s: shows %s: got %t, want %t", name, e.ResourceID, got, want)
			}
			if strings.Contains(answer, secretOf(&e)) {
				t.Errorf("%s: shows an encrypted value of %s, want a mask", name, e.ResourceID)
			}
		}
	}
}

// TestAccessMatrix sends each row's request as each role and with each single permission, for the
// credential's own tenant, for another, and with a credential of every tenant, without and with a
// resource scope.
func TestAccessMatrix(t *testing.T) {
	callers := matrixCallers(t)
	for _, f := range manifest.Functions() {
		row, listed := accessMatrix[f.Name]
		if f.Trigger.Route == nil && f.Trigger.Socket == nil {
			continue
		}
		if !listed {
			t.Errorf("%s has no row in accessMatrix: say who may use it", f.Name)
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			w, before := newMatrixWorld(t)
			for _, c := range callers {
				for _, tenant := range []string{"acme", "globex"} {
					for _, scope := range [][]access.Resource{nil, {{Type: "order"}}} {
						if scope != nil && !row.reads {
							continue
						}
						c.principal.Resources = scope
						may := c.may(row)
						name := fmt.Sprintf("%s in %s, scope %v", c.name, tenant, scope)
						if f.Trigger.Socket != nil {
							w.checkMessage(t, name, c, row, f.Name, tenant, before[tenant], scope)
							continue
						}
						if foreign := c.granted == "acme" && tenant == "globex"; foreign && f.Trigger.Route.TenantFrom != manifest.TenantNone {
							may = none
						}
						w.checkRequest(t, name, c, row, f.Trigger.Route, tenant, may)
						if row.uses && may != none {
							w, before = newMatrixWorld(t)
						}
					}
				}
			}
		})
	}
	for name := range accessMatrix {
		manifest.FunctionOf(name) // panics if there is none
	}
}

func (w *world) checkRequest(t *testing.T, name string, c matrixCaller, row accessRow, route *manifest.Route, tenant string, may right) {
	t.Helper()
	w.t = t
	got := w.as(c.principal, row, route, tenant, row.body)
	want := row.status
	if may == none {
		want = http.StatusForbidden
	}
	if got.status != want {
		t.Errorf("%s: got %d %.300s, want %d", name, got.status, got.body, want)
	}
	if may == none || row.reads {
		checkMarks(t, name, got.body, tenant, may, c.principal.Resources)
	}
	if row.foreign == "" || may == none {
		return
	}
	got = w.as(c.principal, row, route, tenant, row.foreign)
	if refused := strings.Contains(got.body, "not_own"); refused != (may == own) {
		t.Errorf("%s: an entry of somebody else: got %d %.300s, want it refused: %t", name, got.status, got.body, may == own)
	}
}

func (w *world) checkMessage(t *testing.T, name string, c matrixCaller, row accessRow, function, tenant, cursor string, scope []access.Resource) {
	t.Helper()
	w.t = t
	may := c.may(row)
	if c.granted == "acme" && tenant == "globex" && row.with != "" {
		may = none
	}
	status, frames := w.message(c.principal, row, function, tenant, cursor)
	want := http.StatusOK
	if may == none {
		want = http.StatusForbidden
	}
	if status != want && row.with != "" {
		t.Errorf("%s: connecting: got %d, want %d", name, status, want)
	}
	if answered := strings.Contains(frames, `"status":401`); row.body != "" && answered != (may == none) {
		t.Errorf("%s: got the frames %.300s, want a 401: %t", name, frames, may == none)
	}
	if row.reads || may == none {
		checkMarks(t, name, frames, tenant, may, scope)
	}
}

// TestAnEntryOutOfReachIsAbsent gets every entry by its id. One of another tenant, of somebody
// else or outside the scope is answered as one that does not exist.
func TestAnEntryOutOfReachIsAbsent(t *testing.T) {
	w, _ := newMatrixWorld(t)
	row, route := accessMatrix["get-log"], manifest.FunctionOf("get-log").Trigger.Route
	for _, c := range matrixCallers(t) {
		may := c.may(row)
		for _, scope := range [][]access.Resource{nil, {{Type: "order"}}} {
			for _, of := range []string{"acme", "globex"} {
				for id, e := range w.stored(of) {
					c.principal.Resources, row.target = scope, "/logs/"+id
					got := w.as(c.principal, row, route, "acme", "")
					want := of == "acme" && may != none && (may != own || e.UserID == "ann") && (scope == nil || e.ResourceType == "order")
					if seen := got.status == http.StatusOK; seen != want {
						t.Errorf("%s, scope %v: %s: got %d, want it seen: %t", c.name, scope, e.ResourceID, got.status, want)
					}
					if may == none || want {
						continue
					}
					row.target = "/logs/" + id[:len(id)-6] + "abcdef" // of the same millisecond
					if absent := w.as(c.principal, row, route, "acme", "").body; got.body != absent {
						t.Errorf("%s: %s: got %s, want the answer to an absent id, %s", c.name, e.ResourceID, got.body, absent)
					}
				}
			}
		}
	}
}

// stored returns the tenant's matrixEntries by their ids.
func (w *world) stored(tenant string) map[string]audit.Entry {
	w.t.Helper()
	var list struct {
		Items []struct {
			ID, Action   string
			UserID       string `json:"user_id"`
			ResourceType string `json:"resource_type"`
			ResourceID   string `json:"resource_id"`
		}
	}
	w.call("operator", "GET", "/logs", "", map[string]string{"X-Tenant-ID": tenant}).want(w.t, 200, "").decode(w.t, &list)
	found := map[string]audit.Entry{}
	for _, e := range list.Items {
		if strings.HasPrefix(e.ResourceID, tenant+"/") {
			found[e.ID] = audit.Entry{UserID: e.UserID, ResourceType: e.ResourceType, ResourceID: e.ResourceID}
		}
	}
	return found
}

// TestAccessMatrixCurrent compares the tables of docs/security.md with accessMatrix and
// encryptedMatrix.
func TestAccessMatrixCurrent(t *testing.T) {
	const path = "../../../docs/security.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	current := withTable(t, withTable(t, string(text), "access", accessTable()), "encrypted", encryptedTable())
	if *writeMatrix {
		if err := os.WriteFile(path, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(current, string(text)); diff != "" {
		t.Errorf("docs/security.md is stale: run `make generate` (-want +got):\n%s", diff)
	}
}

// withTable returns the text with a table between two comments that have its name.
func withTable(t *testing.T, text, name, table string) string {
	t.Helper()
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->\n"
	before, rest, found := strings.Cut(text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("got no table between %q and %q, want one", begin, end)
	}
	return before + begin + table + end + after
}

// accessTable returns accessMatrix as a table in Markdown.
func accessTable() string {
	var b strings.Builder
	b.WriteString("| route | permission | admin | auditor | user | operator |\n|---|---|---|---|---|---|\n")
	var lines []string
	for function, row := range accessMatrix {
		permissions := "none"
		if row.with != "" {
			permissions = "`" + string(row.with) + "`"
		}
		for _, more := range append([]access.Permission{row.own}, row.also...) {
			if more != "" {
				permissions += ", `" + string(more) + "`"
			}
		}
		r := row.roles
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", routeName(function), permissions, r[0], r[1], r[2], r[3]))
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

// routeName returns a route as the table shows it, its path first.
func routeName(function string) string {
	trigger := manifest.FunctionOf(function).Trigger
	if trigger.Socket != nil {
		return "`" + manifest.StreamPath + "` message `" + trigger.Socket.Key + "`"
	}
	return fmt.Sprintf("`%s` %s", trigger.Route.Path, trigger.Route.Method)
}
