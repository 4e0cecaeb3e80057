package access

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Authorize returns audit.ErrForbidden unless the principal has the permission in
// the tenant. The caller must restrict every read to the returned Scope. A grant
// for AnyTenant applies in every tenant; for AnyTenant itself, only that grant
// counts. LogsReadOwn implies LogsRead, LogsSearch and LogsStats with a Scope of
// the principal's own entries, and LogsWriteOwn implies LogsWrite likewise. A permission that starts jobs implies JobsRead; package jobs
// decides which jobs the principal sees.
func (p Principal) Authorize(tenant audit.TenantID, perm Permission) (Scope, error) {
	scope := Scope{Resources: p.Resources}
	switch {
	case tenant == "":
	case p.Has(tenant, perm) && perm != LogsReadOwn && perm != LogsWriteOwn:
		return scope, nil
	case p.hasOwn(tenant, perm) && p.Subject != "":
		scope.Owner = p.Subject // not empty: an empty owner would not restrict
		return scope, nil
	case perm == JobsRead && slices.ContainsFunc(startingJobs, func(start Permission) bool { return p.Has(tenant, start) }):
		return scope, nil
	}
	_, all := p.TenantIDs()
	_, some := p.Grants[tenant]
	return Scope{}, &DeniedError{Tenant: tenant, Permission: perm, Foreign: !all && !some}
}

// DeniedError says that a credential may not do something in a tenant. It is an
// audit.ErrForbidden. It does not tell whether the tenant exists.
type DeniedError struct {
	Tenant     audit.TenantID
	Permission Permission
	Foreign    bool // the credential allows nothing in the tenant
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s in tenant %q: forbidden", e.Permission, e.Tenant)
}

func (e *DeniedError) Unwrap() error { return audit.ErrForbidden }

// Detail is one sentence for the caller, which says what to do.
func (e *DeniedError) Detail() string {
	if e.Tenant == AnyTenant {
		return fmt.Sprintf("The credential does not have the permission %s in every tenant, which this needs.", e.Permission)
	}
	if e.Foreign {
		return "The credential is not for this tenant, or there is no such tenant. Check the tenant's id."
	}
	return fmt.Sprintf("The credential does not have the permission %s in this tenant.", e.Permission)
}

// startingJobs are the permissions that start jobs.
var startingJobs = []Permission{TenantsDelete, SubjectsErase, HoldsManage, LogsExport, LogsCleanup, ArchiveRestore}

// SubmittedBy names the credential, for audit.Entry.SubmittedBy: "key:<id>" for an API key,
// "sub:<subject>" for a token. No token can look like a key or like the service itself.
func (p Principal) SubmittedBy() string {
	if p.KeyID != "" {
		return "key:" + p.KeyID
	}
	return "sub:" + p.Subject
}

// Person returns the subject of who is behind the credential: the token's, or that of who created the
// API key. It returns "" if nobody knows who created the key.
func (p Principal) Person() string {
	if p.KeyID != "" {
		return p.Creator
	}
	return p.Subject
}

// Delegate returns audit.ErrForbidden unless the principal may give an API key
// these permissions in the tenant, restricted to these resources. It may give
// only what it has itself, no wider. LogsReadOwn does not let it give LogsRead, nor
// LogsWriteOwn LogsWrite.
func (p Principal) Delegate(tenant audit.TenantID, perms []Permission, resources []Resource) error {
	for _, perm := range perms {
		if perm.Platform() || !p.Has(tenant, perm) {
			return fmt.Errorf("delegate %s in tenant %q: %w", perm, tenant, audit.ErrForbidden)
		}
	}
	if len(p.Resources) == 0 {
		return nil
	}
	within := func(r Resource) bool {
		return slices.ContainsFunc(p.Resources, func(own Resource) bool { return own.covers(r.Type, r.ID) })
	}
	for _, r := range resources {
		if !within(r) {
			return fmt.Errorf("delegate a resource in tenant %q: %w", tenant, audit.ErrForbidden)
		}
	}
	if len(resources) == 0 {
		return fmt.Errorf("delegate every resource in tenant %q: %w", tenant, audit.ErrForbidden)
	}
	return nil
}

// Within returns the principal restricted to the tenant and to those of the
// permissions that it has there.
func (p Principal) Within(tenant audit.TenantID, perms ...Permission) Principal {
	granted := slices.DeleteFunc(slices.Clone(perms), func(perm Permission) bool { return !p.Has(tenant, perm) })
	p.Grants = map[audit.TenantID][]Permission{tenant: granted}
	return p
}

// TenantIDs returns the sorted tenants that the grants name, and whether they
// include AnyTenant. Authorize decides about permissions.
func (p Principal) TenantIDs() (ids []audit.TenantID, all bool) {
	for id, perms := range p.Grants {
		switch {
		case len(perms) == 0:
		case id == AnyTenant:
			all = true
		default:
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, all
}

// OnlyTenant returns the tenant of a principal that has access to one tenant alone, as every API
// key has. Otherwise it returns false.
func (p Principal) OnlyTenant() (audit.TenantID, bool) {
	ids, all := p.TenantIDs()
	if all || len(ids) != 1 {
		return "", false
	}
	return ids[0], true
}

// BelongsTo reports whether the principal has a permission in the tenant.
func (p Principal) BelongsTo(tenant audit.TenantID) bool {
	ids, all := p.TenantIDs()
	return all || slices.Contains(ids, tenant)
}

// Has reports whether perm was granted for the tenant or for AnyTenant.
func (p Principal) Has(tenant audit.TenantID, perm Permission) bool {
	if slices.Contains(p.Grants[AnyTenant], perm) {
		return true
	}
	return !perm.Platform() && slices.Contains(p.Grants[tenant], perm)
}

// Unrestricted returns an audit.ErrForbidden if the credential is restricted to resources. It guards what is
// about entries of any resource.
func (p Principal) Unrestricted() error {
	if len(p.Resources) > 0 {
		return fmt.Errorf("a credential of some resources: %w", audit.ErrForbidden)
	}
	return nil
}

// IsOperator reports whether the principal runs the platform: it has a permission that only
// platform operators can have.
func (p Principal) IsOperator() bool {
	return slices.ContainsFunc(Permissions(), func(perm Permission) bool { return perm.Platform() && p.Has(AnyTenant, perm) })
}

// hasOwn reports whether LogsReadOwn or LogsWriteOwn was granted and implies perm.
func (p Principal) hasOwn(tenant audit.TenantID, perm Permission) bool {
	switch perm {
	case LogsReadOwn, LogsRead, LogsSearch, LogsStats:
		return p.Has(tenant, LogsReadOwn)
	case LogsWriteOwn, LogsWrite:
		return p.Has(tenant, LogsWriteOwn)
	}
	return false
}

// Claims are the statements of an issuer about a caller, not yet interpreted.
type Claims struct {
	Subject string
	// Tenants are tenant ids, or "*" for every tenant.
	Tenants []string
	// Role applies in each of Tenants.
	Role Role
	// Roles applies in the tenant that is its key. The key must be one of Tenants
	// unless they are "*". The key "*" belongs to the tenant "*".
	Roles map[string]Role
	// Permissions are added to the role's in each of Tenants.
	Permissions []string
	// Resources are text forms of Resource; none: no restriction.
	Resources []string
}

// Principal returns the caller that the claims describe. Malformed tenant ids,
// unknown roles and unknown permissions grant nothing. RoleOperator without the
// tenant "*" grants nothing. A malformed resource is an error, because ignoring
// it could widen access.
func (c Claims) Principal() (Principal, error) {
	p := Principal{Subject: c.Subject, Grants: map[audit.TenantID][]Permission{}}
	for i, text := range c.Resources {
		r, err := ParseResource(text)
		if err != nil {
			return Principal{}, fmt.Errorf("resource %d: %w", i, err)
		}
		p.Resources = append(p.Resources, r)
	}
	for _, id := range c.tenants() {
		if perms := c.granted(id); len(perms) > 0 {
			p.Grants[id] = perms
		}
	}
	return p, nil
}

// tenants returns the well-formed tenants; with "*" also those that Roles names.
func (c Claims) tenants() []audit.TenantID {
	named := c.Tenants
	if slices.Contains(named, string(AnyTenant)) {
		named = slices.AppendSeq(slices.Clone(named), maps.Keys(c.Roles))
	}
	var ids []audit.TenantID
	for _, text := range named {
		if text == string(AnyTenant) {
			ids = append(ids, AnyTenant)
		} else if id, err := audit.ParseTenantID(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// granted returns the permissions that the claims grant in the tenant, sorted and unique.
func (c Claims) granted(tenant audit.TenantID) []Permission {
	var perms []Permission
	for _, role := range []Role{c.Role, c.Roles[string(tenant)]} {
		if role != RoleOperator || tenant == AnyTenant {
			perms = append(perms, role.Permissions()...)
		}
	}
	for _, word := range c.Permissions {
		if perm := Permission(word); perm.Known() {
			perms = append(perms, perm)
		}
	}
	slices.Sort(perms)
	return slices.Compact(perms)
}

type principalKey struct{}

// WithPrincipal returns a context that carries the verified caller.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the caller that WithPrincipal put into the context.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
