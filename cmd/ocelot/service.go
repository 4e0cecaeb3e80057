package main

import (
	"cmp"
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// serviceFlags are the flags of every command that speaks to a service.
type serviceFlags struct {
	URL    string `name:"url" env:"OCELOT_URL" placeholder:"URL" group:"Service:" help:"Address of the service; by default http://127.0.0.1:8080."`
	Token  string `env:"OCELOT_TOKEN" placeholder:"TOKEN" group:"Service:" help:"JWT or API key. Prefer OCELOT_TOKEN: other users can see a command line."`
	Tenant string `env:"OCELOT_TENANT" placeholder:"TENANT" group:"Service:" help:"Tenant of the log."`
}

// defaultURL is where ocelot dev listens.
const defaultURL = "http://127.0.0.1:8080"

var errNoTenant = errors.New("a tenant is needed: --tenant or OCELOT_TENANT")

// connect returns a client for the flags.
func (f *serviceFlags) connect() (*client.Client, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	return newClient(config)
}

func (f *serviceFlags) config() (client.Config, error) {
	if f.Token == "" {
		return client.Config{}, &usageError{errors.New("a token is needed: --token or OCELOT_TOKEN")}
	}
	if f.Tenant == "" {
		return client.Config{}, &usageError{errNoTenant}
	}
	return client.Config{URL: cmp.Or(f.URL, defaultURL), Token: f.Token, Tenant: f.Tenant, UserAgent: "ocelot/" + buildVersion()}, nil
}

func newClient(config client.Config) (*client.Client, error) {
	c, err := client.New(config)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}
