package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func principal(t *testing.T, c access.Claims) access.Principal {
	t.Helper()
	p, err := c.Principal()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoles writes the whole table out, so that no permission changes hands unseen.
func TestOnlyThePlatformsPermissionsMakeAnOperator(t *testing.T) {
	for _, role := range access.Roles() {
		for _, tenant := range []string{"*", "acme"} {
			p, err := access.Claims{Subject: "s", Tenants: []string{tenant}, Role: role}.Principal()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := p.IsOperator(), role == access.RoleOperator && tenant == "*"; got != want {
				t.Errorf("%s of %q: got operator %t, want %t", role, tenant, got, want)
			}
		}
	}
	key := access.Key{ID: "k", Tenant: "acme", Permissions: access.Permissions()}.Principal()
	if key.IsOperator() {
		t.Error("an API key is an operator, want none to be")
	}
}

func TestRoles(t *testing.T) {
	const none, all, own = "", "all", "own"
	table := map[access.Permission][4]string{ // admin, auditor, user, operator
		access.LogsWrite:          {all, none, own, all},
		access.LogsWriteOwn:       {own, none, own, own},
		access.LogsRead:           {all, all, own, all},
		access.LogsReadOwn:        {own, none, own, own},
		access.LogsReveal:         {all, none, none, none},
		access.LogsMatchEncrypted: {all, none, none, none},
		access.SubjectsErase:      {all, none, none, none},
		access.HoldsRead:          {all, all, none, all},
		access.HoldsManage:        {all, none, none, all},
		access.ArchiveRestore:     {all, none, none, all},
		access.LogsSearch:         {all, all, own, all},
		access.LogsStats:          {all, all, own, all},
		access.LogsExport:         {all, all, none, all},
		access.LogsStream:         {all, all, none, all},
		access.LogsCleanup:        {all, none, none, all},
		access.QuarantineRead:     {all, all, none, all},
		access.QuarantineManage:   {all, none, none, all},
		access.TenantsRead:        {all, all, all, all},
		access.TenantsUpdate:      {all, none, none, all},
		access.TenantsCreate:      {none, none, none, all},
		access.TenantsDelete:      {none, none, none, all},
		access.KeysRead:           {all, none, none, all},
		access.KeysManage:         {all, none, none, all},
		access.JobsRead:           {all, all, none, all},
	}
	if got, want := len(table), len(access.Permissions()); got != want {
		t.Fatalf("the table has %d permissions, want %d as the package", got, want)
	}
	for perm, wants := range table {
		for i, role := range access.Roles() {
			tenants := []string{"acme"}
			if role == access.RoleOperator {
				tenants = []string{"*"}
			}
			p := principal(t, access.Claims{Subject: "u1", Tenants: tenants, Role: role})
			scope, err := p.Authorize("acme", perm)
			got := none
			switch {
			case err == nil && scope.Owner == "u1":
				got = own
			case err == nil:
				got = all
			case !errors.Is(err, audit.ErrForbidden):
				t.Errorf("%s %s: %v, want ErrForbidden", role, perm, err)
			}
			if got != wants[i] {
				t.Errorf("%s %s: %q, want %q", role, perm, got, wants[i])
			}
			if role != access.RoleOperator {
				if _, err := p.Authorize("other", perm); !errors.Is(err, audit.ErrForbidden) {
					t.Errorf("%s %s in another tenant: got error %v, want %v", role, perm, err, audit.ErrForbidden)
				}
			}
		}
	}
}

func TestClaims(t *testing.T) {
	tests := []struct {
		name   string
		claims access.Claims
		tenant audit.TenantID
		perm   access.Permission
		want   bool
	}{
		{"no tenants", access.Claims{Role: "admin"}, "acme", access.LogsRead, false},
		{"unknown role", access.Claims{Tenants: []string{"acme"}, Role: "root"}, "acme", access.LogsRead, false},
		{"role in another case", access.Claims{Tenants: []string{"acme"}, Role: "Admin"}, "acme", access.LogsRead, false},
		{"permission adds", access.Claims{Tenants: []string{"acme"}, Role: "user", Permissions: []string{"logs:export", "logs:everything"}}, "acme", access.LogsExport, true},
		{"permission alone", access.Claims{Tenants: []string{"acme"}, Permissions: []string{"logs:stats"}}, "acme", access.LogsStats, true},
		{"permission of another tenant", access.Claims{Tenants: []string{"acme"}, Permissions: []string{"logs:stats"}}, "globex", access.LogsStats, false},
		{"malformed tenant", access.Claims{Tenants: []string{"Acme"}, Role: "admin"}, "Acme", access.LogsRead, false},
		{"empty tenant", access.Claims{Tenants: []string{""}, Role: "admin"}, "", access.LogsRead, false},
		{"empty tenant for an operator", access.Claims{Tenants: []string{"*"}, Role: "operator"}, "", access.LogsRead, false},
		{"role by tenant", access.Claims{Tenants: []string{"acme", "globex"}, Roles: map[string]access.Role{"acme": "admin"}}, "acme", access.KeysManage, true},
		{"role by tenant, the other", access.Claims{Tenants: []string{"acme", "globex"}, Roles: map[string]access.Role{"acme": "admin"}}, "globex", access.LogsRead, false},
		{"role of a tenant not listed", access.Claims{Tenants: []string{"acme"}, Roles: map[string]access.Role{"globex": "admin"}}, "globex", access.LogsRead, false},
		{"role of * without the tenant *", access.Claims{Tenants: []string{"acme"}, Roles: map[string]access.Role{"*": "admin"}}, "acme", access.LogsRead, false},
		{"role of one under *", access.Claims{Tenants: []string{"*"}, Roles: map[string]access.Role{"acme": "admin"}}, "acme", access.LogsRead, true},
		{"role of one under *, the other", access.Claims{Tenants: []string{"*"}, Roles: map[string]access.Role{"acme": "admin"}}, "globex", access.LogsRead, false},
		{"operator without *", access.Claims{Tenants: []string{"acme"}, Role: "operator"}, "acme", access.LogsRead, false},
		{"operator by tenant under *", access.Claims{Tenants: []string{"*"}, Roles: map[string]access.Role{"acme": "operator"}}, "acme", access.LogsRead, false},
		{"operator anywhere", access.Claims{Tenants: []string{"*"}, Role: "operator"}, "whichever", access.LogsRead, true},
		{"operator creates", access.Claims{Tenants: []string{"*"}, Role: "operator"}, access.AnyTenant, access.TenantsCreate, true},
		{"admin everywhere", access.Claims{Tenants: []string{"*"}, Role: "admin"}, "acme", access.LogsReveal, true},
		{"admin everywhere creates", access.Claims{Tenants: []string{"*"}, Role: "admin"}, access.AnyTenant, access.TenantsCreate, false},
		{"admin everywhere deletes", access.Claims{Tenants: []string{"*"}, Role: "admin"}, "acme", access.TenantsDelete, false},
		{"platform permission in a tenant", access.Claims{Tenants: []string{"acme"}, Permissions: []string{"tenants:delete"}}, "acme", access.TenantsDelete, false},
		{"platform permission everywhere", access.Claims{Tenants: []string{"*"}, Permissions: []string{"tenants:delete"}}, "acme", access.TenantsDelete, true},
		{"own without a subject", access.Claims{Tenants: []string{"acme"}, Role: "user"}, "acme", access.LogsSearch, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := principal(t, tt.claims).Authorize(tt.tenant, tt.perm)
			if got := err == nil; got != tt.want {
				t.Errorf("Authorize = %v, want allowed %v", err, tt.want)
			}
		})
	}
	if _, err := (access.Claims{Subject: "u", Resources: []string{"order", "user:"}}).Principal(); err == nil {
		t.Error("a malformed resource: got no error, want one")
	}
}

func TestReadEverythingIsNotNarrowedToOwn(t *testing.T) {
	p := principal(t, access.Claims{Subject: "u", Tenants: []string{"acme"}, Role: "user", Permissions: []string{"logs:search"}, Resources: []string{"order"}})
	want := access.Scope{Resources: []access.Resource{{Type: "order"}}}
	if got, err := p.Authorize("acme", access.LogsSearch); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("search: %+v, want %+v", got, want)
	}
	want.Owner = "u"
	if got, err := p.Authorize("acme", access.LogsRead); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("read: %+v, want %+v", got, want)
	}
}

func TestTenantIDs(t *testing.T) {
	p := access.Principal{Grants: map[audit.TenantID][]access.Permission{"b": {access.LogsRead}, "a": {access.LogsRead}, "c": {}}}
	if ids, all := p.TenantIDs(); all {
		t.Error("all is true, want false")
	} else if !slices.Equal(ids, []audit.TenantID{"a", "b"}) {
		t.Errorf("got ids %q, want %q", ids, []audit.TenantID{"a", "b"})
	}
	p.Grants[access.AnyTenant] = []access.Permission{access.LogsRead}
	if ids, all := p.TenantIDs(); !all {
		t.Error("all is false, want true")
	} else if len(ids) != 2 {
		t.Errorf("got %d ids, want 2", len(ids))
	}
}

func TestDelegate(t *testing.T) {
	admin := access.Claims{Subject: "a", Tenants: []string{"acme"}, Role: "admin"}
	narrowed := admin
	narrowed.Resources = []string{"order", "user:42"}
	user := access.Claims{Subject: "u", Tenants: []string{"acme"}, Role: "user", Permissions: []string{"keys:manage"}}
	operator := access.Claims{Subject: "o", Tenants: []string{"*"}, Role: "operator"}
	tests := []struct {
		name      string
		by        access.Claims
		tenant    audit.TenantID
		perms     []access.Permission
		resources []access.Resource
		want      bool
	}{
		{"admin gives what it holds", admin, "acme", []access.Permission{access.LogsWrite, access.LogsRead}, nil, true},
		{"admin in another tenant", admin, "globex", []access.Permission{access.LogsWrite}, nil, false},
		{"platform permission", operator, "acme", []access.Permission{access.TenantsCreate}, nil, false},
		{"operator gives reading", operator, "acme", []access.Permission{access.LogsRead}, nil, true},
		{"operator gives unmasking", operator, "acme", []access.Permission{access.LogsReveal}, nil, false},
		{"own reading becomes all reading", user, "acme", []access.Permission{access.LogsRead}, nil, false},
		{"own writing becomes all writing", user, "acme", []access.Permission{access.LogsWrite}, nil, false},
		{"own reading and writing passed on", user, "acme", []access.Permission{access.LogsReadOwn, access.LogsWriteOwn}, nil, true},
		{"narrowed to everything", narrowed, "acme", []access.Permission{access.LogsRead}, nil, false},
		{"narrowed to its own", narrowed, "acme", []access.Permission{access.LogsRead}, []access.Resource{{Type: "order", ID: "7"}, {Type: "user", ID: "42"}}, true},
		{"narrowed to the whole type", narrowed, "acme", []access.Permission{access.LogsRead}, []access.Resource{{Type: "user"}}, false},
		{"narrowed to another", narrowed, "acme", []access.Permission{access.LogsRead}, []access.Resource{{Type: "order"}, {Type: "user", ID: "43"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := principal(t, tt.by).Delegate(tt.tenant, tt.perms, tt.resources)
			if (err == nil) != tt.want {
				t.Errorf("got error %v, want allowed %v", err, tt.want)
			}
			if err != nil && !errors.Is(err, audit.ErrForbidden) {
				t.Errorf("got error %v, want %v", err, audit.ErrForbidden)
			}
		})
	}
}

func TestPrincipalJSON(t *testing.T) {
	p := principal(t, access.Claims{Subject: "ü\"1", Tenants: []string{"acme", "*"}, Role: "auditor", Resources: []string{"order", "user:42:a", "AWS%3A%3AS3:x"}})
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back access.Principal
	if err := json.Unmarshal(text, &back); err != nil {
		t.Error(err)
	} else if !reflect.DeepEqual(back, p) {
		t.Errorf("%s became %+v, want %+v", text, back, p)
	}
	if err := json.Unmarshal([]byte(`{"sub":"u","resources":[""]}`), &back); err == nil {
		t.Error("an empty resource: got no error, want one")
	}
}

func TestPrincipalInContext(t *testing.T) {
	if p, ok := access.PrincipalFrom(context.Background()); ok {
		t.Errorf("got principal %+v from an empty context, want none", p)
	}
	if p, ok := access.PrincipalFrom(access.WithPrincipal(context.Background(), access.Principal{Subject: "u"})); !ok {
		t.Error("ok is false, want true")
	} else if p.Subject != "u" {
		t.Errorf("got subject %q, want %q", p.Subject, "u")
	}
}

func TestSubmittedBy(t *testing.T) {
	key := access.Key{ID: "7", Tenant: "acme"}.Principal()
	for _, test := range []struct {
		principal access.Principal
		want      string
	}{
		{key, "key:7"}, {key.Within("acme", access.LogsWrite), "key:7"},
		{access.Principal{Subject: "ann"}, "sub:ann"}, {access.Principal{Subject: "service"}, "sub:service"},
		{access.Principal{Subject: "key:7"}, "sub:key:7"}, // a token with the subject of a key
	} {
		if got := test.principal.SubmittedBy(); got != test.want {
			t.Errorf("%+v submits as %q, want %q", test.principal, got, test.want)
		}
	}
}
