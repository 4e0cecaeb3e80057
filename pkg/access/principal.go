package access

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Authorize decides whether the principal may do in the tenant what perm
// stands for, and how far its reads reach there: every read must be narrowed by
// the Scope. What was granted for AnyTenant holds in every tenant; asked for
// AnyTenant itself, only that counts. LogsReadOwn stands in for LogsRead,
// LogsSearch and LogsStats with a Scope of the principal's own entries. The
// error is audit.ErrForbidden.
func (p Principal) Authorize(tenant audit.TenantID, perm Permission) (Scope, error) {
	scope := Scope{Resources: p.Resources}
	switch {
	case tenant == "":
	case p.holds(tenant, perm) && perm != LogsReadOwn:
		return scope, nil
	case readableOwn(perm) && p.holds(tenant, LogsReadOwn) && p.Subject != "":
		scope.Owner = p.Subject // an empty owner would be no narrowing at all
		return scope, nil
	}
	return Scope{}, fmt.Errorf("%s in tenant %q: %w", perm, tenant, audit.ErrForbidden)
}

// Delegate decides whether the principal may pass these permissions in the
// tenant, narrowed to these resources, on to an API key: only what it holds
// itself, as widely as it holds it. Reading its own entries does not let it hand
// out reading. The error is audit.ErrForbidden.
func (p Principal) Delegate(tenant audit.TenantID, perms []Permission, resources []Resource) error {
	for _, perm := range perms {
		if perm.Platform() || !p.holds(tenant, perm) {
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

// Within returns the principal with nothing but what it holds of these
// permissions in the one tenant.
func (p Principal) Within(tenant audit.TenantID, perms ...Permission) Principal {
	held := slices.DeleteFunc(slices.Clone(perms), func(perm Permission) bool { return !p.holds(tenant, perm) })
	p.Grants = map[audit.TenantID][]Permission{tenant: held}
	return p
}

// TenantIDs returns the tenants that the grants name, in their order, and
// whether they reach every tenant besides. Which permissions it has there is
// for Authorize to say.
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

// holds reports whether perm was granted for the tenant, by name or for every one.
func (p Principal) holds(tenant audit.TenantID, perm Permission) bool {
	if slices.Contains(p.Grants[AnyTenant], perm) {
		return true
	}
	return !perm.Platform() && slices.Contains(p.Grants[tenant], perm)
}

// readableOwn reports whether LogsReadOwn can stand in for perm.
func readableOwn(perm Permission) bool {
	return perm == LogsReadOwn || perm == LogsRead || perm == LogsSearch || perm == LogsStats
}

// Claims is what an issuer says of a caller, not yet weighed.
type Claims struct {
	Subject string
	// Tenants are tenant ids, or "*" for every tenant.
	Tenants []string
	// Role holds in each of Tenants.
	Role Role
	// Roles holds in the tenant that is its key, which must be one of Tenants
	// unless they are "*"; the key "*" goes with the tenant "*".
	Roles map[string]Role
	// Permissions are added to the role's in each of Tenants.
	Permissions []string
	// Resources are text forms of Resource; none: no narrowing.
	Resources []string
}

// Principal returns the caller that the claims describe. Malformed tenant ids,
// unknown roles and unknown permissions give nothing, and so does RoleOperator
// without the tenant "*". A malformed resource is an error, because leaving it
// out could widen what the others narrow.
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

// granted returns what the claims give in the tenant, each permission once, in order.
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
