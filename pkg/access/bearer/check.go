package bearer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// check returns the first fault that makes the token useless, or makes it grant less than
// its author expects.
func check(token Token) error {
	switch {
	case token.Subject == "" || len(token.Subject) > audit.MaxUserID:
		return fmt.Errorf("the subject must have from 1 to %d bytes", audit.MaxUserID)
	case !token.ExpiresAt.After(token.IssuedAt):
		return errors.New("the token must expire after it is issued")
	case token.IssuedAt.Unix() < 0 || token.ExpiresAt.Unix() > maxNumericDate:
		return errors.New("the times must be from 1970 to 9999")
	case len(token.Tenants) == 0:
		return errors.New("at least one tenant is required")
	case token.Role != "" && token.Roles != nil:
		return errors.New("one role and roles by tenant exclude each other")
	}
	anyTenant := slices.Contains(token.Tenants, string(access.AnyTenant))
	for _, id := range token.Tenants {
		if err := checkTenant(id); err != nil {
			return err
		}
	}
	if token.Role != "" {
		if err := checkRole(token.Role, anyTenant); err != nil {
			return err
		}
	}
	for id, role := range token.Roles {
		if err := checkTenant(id); err != nil {
			return err
		}
		if !anyTenant && !slices.Contains(token.Tenants, id) {
			return fmt.Errorf("the tenant %q of a role is missing from the tenants", id)
		}
		if err := checkRole(role, id == string(access.AnyTenant)); err != nil {
			return err
		}
	}
	return checkGrants(token)
}

// grantsNothing says why claims without faults grant nothing.
func grantsNothing(c access.Claims) string {
	isWellFormed := func(id string) bool { return checkTenant(id) == nil }
	anyTenant := slices.Contains(c.Tenants, string(access.AnyTenant))
	switch {
	case len(c.Tenants) == 0:
		return "The token lacks the claim tenants: the ids of tenants, or *. Have its issuer add it."
	case !slices.ContainsFunc(c.Tenants, isWellFormed):
		return "The claim tenants of the token must have ids of tenants, which match " + audit.TenantIDPattern + ", or *."
	case c.Role == "" && len(c.Roles) == 0 && len(c.Permissions) == 0:
		return "The token has neither the claim role nor permissions. Have its issuer add one of them."
	case c.Role == access.RoleOperator && !anyTenant:
		return "The claim role of the token is operator, which needs the tenant * in the claim tenants."
	case c.Role != "":
		return fmt.Sprintf("The claim role of the token must be one of %v.", access.Roles())
	case len(c.Roles) > 0:
		return fmt.Sprintf("The claim role of the token must give one of %v to a tenant that is in the claim tenants.", access.Roles())
	}
	return fmt.Sprintf("The claim permissions of the token must have some of %v.", access.Permissions())
}

func checkTenant(id string) error {
	if id == string(access.AnyTenant) {
		return nil
	}
	if _, err := audit.ParseTenantID(id); err != nil {
		return fmt.Errorf("tenant %q must match %s, or be *", id, audit.TenantIDPattern)
	}
	return nil
}

func checkRole(role access.Role, anyTenant bool) error {
	if !slices.Contains(access.Roles(), role) {
		return fmt.Errorf("role %q must be one of %v", role, access.Roles())
	}
	if role == access.RoleOperator && !anyTenant {
		return errors.New("the role operator is for the tenant * only")
	}
	return nil
}

func checkGrants(token Token) error {
	for _, word := range token.Permissions {
		if !access.Permission(word).Known() {
			return fmt.Errorf("permission %q must be one of %v", word, access.Permissions())
		}
	}
	for _, text := range token.Resources {
		if _, err := access.ParseResource(text); err != nil {
			return fmt.Errorf("resource %q %w", text, err)
		}
	}
	return nil
}
