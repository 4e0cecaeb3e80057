package httpapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// encryptedRow says who may ask a route for encrypted values, for entries by such values, or for what a
// legal hold keeps. It is written by hand, as accessRow.
type encryptedRow struct {
	function string
	member   string            // that asks
	with     access.Permission // beside the permission of the route
	roles    [4]right          // of admin, auditor, user and operator
	// target and body are the request. {id} is the id of an entry, and {secret} its value.
	target, body string
	reveals      bool // the answer has values in plain
	starts       bool // the answer is a job, without entries
	anyResource  bool // a credential that is restricted to resources may not ask
	digests      bool // the answer is about a revealed export, with the digests of its file for those who may ask
}

var admins = [4]right{all, none, none, none}

// encryptedMatrix has a row for each route that takes more than masks. Every other route of
// accessMatrix shows masks to everyone.
var encryptedMatrix = []encryptedRow{
	{function: "get-log", member: "reveal", with: access.LogsReveal, roles: admins, target: "/logs/{id}?reveal=true&reason=x", reveals: true},
	{function: "search-logs", member: "reveal", with: access.LogsReveal, roles: admins, target: "/logs/search", body: `{"reveal":true,"reason":"x"}`, reveals: true},
	{function: "export-logs", member: "hold", with: access.HoldsRead, roles: readers, target: "/logs/export?hold=held", starts: true, anyResource: true},
	{function: "create-export", member: "hold", with: access.HoldsRead, roles: readers, target: "/logs/exports", body: `{"hold":"held"}`, starts: true, anyResource: true},
	{function: "create-export", member: "reveal", with: access.LogsReveal, roles: admins, target: "/logs/exports", body: `{"reveal":true,"reason":"x"}`, starts: true},
	{function: "get-export", member: "reveal", with: access.LogsReveal, roles: admins, target: "/logs/exports/revealed", digests: true},
	{function: "search-logs", member: "match_encrypted", with: access.LogsMatchEncrypted, roles: admins, target: "/logs/search", body: `{"match_encrypted":{"metadata.note":"{secret}"}}`},
}

// encryptedCallers returns every role, every single permission, and the pairs of permissions that
// the row needs.
func encryptedCallers(t *testing.T, row encryptedRow) []matrixCaller {
	t.Helper()
	callers := matrixCallers(t)
	for i, c := range callers {
		role := i % (len(callers) / 2) // the roles come first, for either grant
		callers[i].may = func(route accessRow) right {
			if role < len(row.roles) && c.may(route) != none {
				return row.roles[role]
			}
			return none
		}
	}
	route := accessMatrix[row.function]
	for _, granted := range []audit.TenantID{"acme", access.AnyTenant} {
		for permission, may := range map[access.Permission]right{route.with: all, route.own: own} {
			if permission == "" {
				continue // nothing opens the route for own entries alone
			}
			p := access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{granted: {permission, row.with}}}
			callers = append(callers, matrixCaller{fmt.Sprintf("%s and %s of %s", permission, row.with, granted), p, granted, func(accessRow) right { return may }})
		}
	}
	return callers
}

// TestEncryptedMatrix sends each row's request as each caller, for the credential's own tenant and
// for another, without and with a resource scope. Whoever may not ask gets 403. Values in plain are
// those of the entries in the caller's reach, and no others.
func TestEncryptedMatrix(t *testing.T) {
	for _, row := range encryptedMatrix {
		t.Run(row.function+" "+row.member, func(t *testing.T) {
			w, _ := newMatrixWorld(t)
			w.holdAll("acme", "globex")
			for _, tenant := range []audit.TenantID{"acme", "globex"} {
				w.addRevealed(tenant, "revealed")
			}
			stored := map[string]map[string]audit.Entry{"acme": w.stored("acme"), "globex": w.stored("globex")}
			for _, c := range encryptedCallers(t, row) {
				for tenant, entries := range stored {
					for _, scope := range [][]access.Resource{nil, {{Type: "order"}}} {
						c.principal.Resources = scope
						may := c.may(accessMatrix[row.function])
						if c.granted == "acme" && tenant == "globex" || row.anyResource && scope != nil {
							may = none
						}
						if row.digests {
							w.checkDigests(t, fmt.Sprintf("%s in %s, scope %v", c.name, tenant, scope), c.principal, row, tenant, may)
							continue
						}
						for id, e := range entries {
							w.checkEncrypted(t, fmt.Sprintf("%s in %s, scope %v, %s", c.name, tenant, scope, e.ResourceID), c.principal, row, tenant, may, id, &e)
						}
					}
				}
			}
		})
	}
}

// checkEncrypted sends the row's request about one entry.
func (w *world) checkEncrypted(t *testing.T, name string, by access.Principal, row encryptedRow, tenant string, may right, id string, e *audit.Entry) {
	t.Helper()
	w.t, w.now = t, w.now.Add(time.Second) // a credential may match once a second
	fill := strings.NewReplacer("{id}", id, "{secret}", secretOf(e))
	request := accessRow{target: fill.Replace(row.target)}
	got := w.as(by, request, manifest.FunctionOf(row.function).Trigger.Route, tenant, fill.Replace(row.body))
	inReach := may != none && (may != own || e.UserID == "ann") && (by.Resources == nil || e.ResourceType == "order")
	want := http.StatusOK
	switch {
	case may == none:
		want = http.StatusForbidden
	case row.function == "get-log" && !inReach:
		want = http.StatusNotFound
	case row.starts:
		want, inReach = http.StatusAccepted, false
		defer w.endJobs(tenant)
	}
	if got.status != want {
		t.Errorf("%s: got %d %.300s, want %d", name, got.status, got.body, want)
	}
	if shown := strings.Contains(got.body, e.ResourceID); shown != inReach {
		t.Errorf("%s: shows the entry: got %t, want %t", name, shown, inReach)
	}
	if plain := strings.Contains(got.body, secretOf(e)); plain != (inReach && row.reveals) {
		t.Errorf("%s: shows the value: got %t, want %t", name, plain, inReach && row.reveals)
	}
}

// checkDigests asks for a revealed export of everything. Whoever may not reveal sees the export, and neither
// its URL nor what guesses of a value can be tested with. Lists never have these.
func (w *world) checkDigests(t *testing.T, name string, by access.Principal, row encryptedRow, tenant string, may right) {
	t.Helper()
	w.t = t
	for target, shows := range map[string]bool{row.target: may == all && by.Resources == nil, "/logs/exports": false} {
		got := w.as(by, accessRow{target: target}, manifest.FunctionOf(row.function).Trigger.Route, tenant, "")
		if shows && got.status != http.StatusOK {
			t.Errorf("%s: %s: got %d %.300s, want %d", name, target, got.status, got.body, http.StatusOK)
		}
		for _, part := range []string{revealedSum, `"sha256"`, `"bytes"`, `"url"`} {
			if shown := strings.Contains(got.body, part); shown != shows {
				t.Errorf("%s: %s: shows %s: got %t, want %t: %s", name, target, part, shown, shows, got.body)
			}
		}
	}
}

// holdAll sets a legal hold on everything in each of the tenants.
func (w *world) holdAll(tenants ...audit.TenantID) {
	w.t.Helper()
	for _, tenant := range tenants {
		if err := w.db.Holds().CreateHold(w.t.Context(), hold.Hold{ID: "held", Tenant: tenant, CreatedAt: start, Version: 1}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// endJobs ends the tenant's queued exports, of which there can be few.
func (w *world) endJobs(tenant string) {
	w.t.Helper()
	queued, _, err := w.db.Jobs().Jobs(w.t.Context(), audit.TenantID(tenant), jobs.Unfinished(jobs.KindExport), nil, 100)
	for _, job := range queued {
		if err == nil {
			job.State, job.FinishedAt = jobs.StateFailed, w.now
			err = w.db.Jobs().UpdateJob(w.t.Context(), job, job.Generation)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// encryptedTable returns encryptedMatrix as a table in Markdown.
func encryptedTable() string {
	lines := make([]string, 0, len(encryptedMatrix))
	for _, row := range encryptedMatrix {
		r := row.roles
		lines = append(lines, fmt.Sprintf("| %s | `%s` | `%s` | %s | %s | %s | %s |\n", routeName(row.function), row.member, row.with, r[0], r[1], r[2], r[3]))
	}
	slices.Sort(lines)
	return "| route | member | permission beside the route's | admin | auditor | user | operator |\n|---|---|---|---|---|---|---|\n" + strings.Join(lines, "")
}
