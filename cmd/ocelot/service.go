package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/client"
	"github.com/ocelot-audit/ocelot/pkg/version"
)

// addressFlags name a service.
type addressFlags struct {
	Profile string `env:"OCELOT_PROFILE" placeholder:"NAME" group:"Service:" help:"Profile of the configuration file that gives what flags and environment do not; see docs/operations.md."`
	URL     string `name:"url" env:"OCELOT_URL" placeholder:"URL" group:"Service:" help:"Address of the service; by default http://127.0.0.1:8080."`
}

// publicFlags are those of commands that need no credential.
type publicFlags struct{ addressFlags }

// credentialFlags name a service and a credential. Commands that name no tenant, or have it as an
// argument, have no other flags of the service.
type credentialFlags struct {
	addressFlags
	Token string `env:"OCELOT_TOKEN" placeholder:"TOKEN" group:"Service:" help:"JWT or API key. Prefer OCELOT_TOKEN: other users can see a command line."`

	profile profile // what of it the flags and the environment do not replace
}

// serviceFlags are those of every other command that speaks to a service.
type serviceFlags struct {
	credentialFlags
	Tenant string `env:"OCELOT_TENANT" placeholder:"TENANT" group:"Service:" help:"Tenant of the log. An API key and a token of one tenant need none."`
}

// defaultURL is where ocelot dev listens.
const defaultURL = "http://127.0.0.1:8080"

var errNoTenant = errors.New("a tenant is needed: --tenant or OCELOT_TENANT, or that of a profile")

// AfterApply finds the address: by the profile, then by default.
func (f *publicFlags) AfterApply(con *console, line *kong.Context) error {
	given, err := readProfile(con, f.Profile)
	if err != nil {
		return err
	}
	f.reportReplaced(con, line, "url", given.URL, f.URL)
	f.URL = cmp.Or(f.URL, given.URL, defaultURL)
	return nil
}

// AfterApply fills what neither flags nor environment give: from the profile, then by default.
func (f *credentialFlags) AfterApply(con *console, line *kong.Context) error {
	given, err := readProfile(con, f.Profile)
	if err != nil {
		return err
	}
	if f.Token != "" && given.Token != "" && f.Token != given.Token {
		given.Tenant = "" // it is the tenant of another credential
	}
	if f.URL != "" && given.URL != "" && !sameAddress(f.URL, given.URL) {
		if given.Token != "" && f.Token == "" {
			return usagef("the profile's token is for %s and is not sent to %s: name another one with --token or OCELOT_TOKEN", given.URL, f.URL)
		}
		given.StreamURL = "" // it is the address of another service
	}
	f.reportReplaced(con, line, "url", given.URL, f.URL)
	f.reportReplaced(con, line, "token", given.Token, f.Token)
	f.profile = given
	f.URL = cmp.Or(f.URL, given.URL, defaultURL)
	f.Token = cmp.Or(f.Token, given.Token)
	return nil
}

// reportReplaced says that the environment replaces a member of the profile that was named.
func (f *addressFlags) reportReplaced(con *console, line *kong.Context, flag, given, used string) {
	replaced := given != "" && used != "" && given != used
	if replaced && f.Profile != "" && !onLine(line, flag) {
		con.report("ocelot: OCELOT_%s is set and replaces the %s of profile %s.", strings.ToUpper(flag), flag, f.Profile)
	}
}

// sameAddress reports whether two addresses are the same but for slashes at the end.
func sameAddress(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

// onLine reports whether a flag stands on the command line.
func onLine(line *kong.Context, name string) bool {
	return slices.ContainsFunc(line.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == name })
}

// AfterApply also finds the tenant: by the profile, or as the only one of the token.
func (f *serviceFlags) AfterApply(con *console, line *kong.Context) error {
	if err := f.credentialFlags.AfterApply(con, line); err != nil {
		return err
	}
	f.reportReplaced(con, line, "tenant", f.profile.Tenant, f.Tenant)
	f.Tenant = cmp.Or(f.Tenant, f.profile.Tenant)
	if f.Tenant == "" {
		f.Tenant = bearer.OnlyTenant(f.Token)
	}
	return nil
}

// open returns a client for public requests.
func (f *publicFlags) open() (*client.Client, error) {
	c, err := newClient(client.Config{URL: f.URL, UserAgent: userAgent()})
	if err != nil {
		return nil, err
	}
	return c, f.reach()
}

// userAgent names this program to the service.
func userAgent() string { return "ocelot/" + version.Build() }

// open returns a client for requests about a tenant, or none.
func (f *credentialFlags) open(tenant string) (*client.Client, error) {
	config, err := f.config(tenant)
	if err != nil {
		return nil, err
	}
	c, err := newClient(config)
	if err != nil {
		return nil, err
	}
	return c, f.reach()
}

func (f *credentialFlags) config(tenant string) (client.Config, error) {
	if f.Token == "" {
		return client.Config{}, usagef("a token is needed: --token or OCELOT_TOKEN, or that of a profile")
	}
	return client.Config{URL: f.URL, Token: f.Token, Tenant: tenant, UserAgent: userAgent()}, nil
}

// connect returns a client for the flags.
func (f *serviceFlags) connect() (*client.Client, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	return newClient(config)
}

func (f *serviceFlags) config() (client.Config, error) {
	config, err := f.credentialFlags.config(f.Tenant)
	if err == nil && f.Tenant == "" && !client.IsAPIKey(f.Token) {
		return client.Config{}, &usageError{errNoTenant}
	}
	return config, err
}

func newClient(config client.Config) (*client.Client, error) {
	c, err := client.New(config)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}
