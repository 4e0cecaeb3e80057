package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

type tokenCmd struct {
	Data        string       `default:".ocelot" placeholder:"FOLDER" help:"Data folder of ocelot dev."`
	Tenant      []string     `required:"" env:"OCELOT_TENANT" help:"Tenants that the token is valid for; '*' for all."`
	Role        string       `enum:"admin,auditor,user,operator,none" default:"none" help:"One of admin, auditor, user, operator (with the tenant '*'), or none with --permissions."`
	Sub         string       `default:"developer" placeholder:"NAME" help:"Subject of the token."`
	Permissions []string     `placeholder:"PERMISSION" help:"Permissions in addition to the role's, for example logs:reveal."`
	Resources   []string     `placeholder:"RESOURCE" help:"Restrict every read to these, for example order or user:42."`
	TTL         durationFlag `name:"ttl" default:"1h" help:"How long the token is valid, such as 30m, 12h or 90d."`
}

// Help is what --help adds.
func (*tokenCmd) Help() string {
	return `The token goes to standard output. It is valid for a service with the same data folder:

  export OCELOT_TENANT=acme OCELOT_TOKEN=$(ocelot token --tenant acme --role admin)`
}

// Validate checks what the flags mean together.
func (c *tokenCmd) Validate() error {
	switch role := access.Role(c.Role); {
	case c.TTL.Duration == 0:
		return errors.New("--ttl must be more than zero")
	case len(c.Tenant) == 0: // an empty variable counts as given
		return errNoTenant
	case c.Sub == "":
		return errors.New("--sub must not be empty")
	case c.Role == "none" && len(c.Permissions) == 0:
		return errors.New("a token needs --role or --permissions")
	case role == access.RoleOperator && (len(c.Tenant) != 1 || c.Tenant[0] != string(access.AnyTenant)):
		return errors.New("the role operator needs --tenant '*'")
	}
	for _, tenant := range c.Tenant {
		if _, err := audit.ParseTenantID(tenant); err != nil && tenant != string(access.AnyTenant) {
			return fmt.Errorf("--tenant %q: %w", tenant, err)
		}
	}
	return nil
}

// Run prints the token.
func (c *tokenCmd) Run(con *console) error {
	secret, err := localcloud.ExistingDevSecret(c.Data)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no data folder: ocelot dev --data %s makes one", c.Data, shellWord(c.Data))
	}
	if err != nil {
		return err
	}
	role := access.Role(c.Role)
	if c.Role == "none" {
		role = ""
	}
	now := con.now()
	token, err := bearer.Mint(secret, bearer.Token{
		Claims: access.Claims{
			Subject: c.Sub, Tenants: c.Tenant, Role: role, Permissions: c.Permissions, Resources: c.Resources,
		},
		IssuedAt: now, ExpiresAt: now.Add(c.TTL.Duration),
	})
	if err != nil {
		return &usageError{err}
	}
	_, err = fmt.Fprintln(con.out, token)
	return err
}
