package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// serviceFlags are the flags of every command that speaks to a service.
type serviceFlags struct {
	URL    string `name:"url" env:"OCELOT_URL" placeholder:"URL" group:"Service:" help:"Address of the service; by default http://127.0.0.1:8080."`
	Token  string `env:"OCELOT_TOKEN" placeholder:"TOKEN" group:"Service:" help:"JWT or API key. Prefer OCELOT_TOKEN: other users can see a command line."`
	Tenant string `env:"OCELOT_TENANT" placeholder:"TENANT" group:"Service:" help:"Tenant of the log. An API key needs none."`
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
	if f.Tenant == "" && !client.IsAPIKey(f.Token) {
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

// reach returns an error if no service listens. A client tries again for half a minute, so that a
// restart of the service does not end a command that is under way. A service that is not there
// when a command begins is reported at once.
func (f *serviceFlags) reach() error {
	address := cmp.Or(f.URL, defaultURL)
	if refuses(address) {
		return fmt.Errorf("no service listens at %s. Start one with ocelot dev, or name another address with --url or OCELOT_URL", address)
	}
	return nil
}

// connectTimeout bounds the check whether a service listens.
const connectTimeout = time.Second

// windowsRefused is what Windows says about a port that nobody listens on (WSAECONNREFUSED).
const windowsRefused = syscall.Errno(10061)

// refuses reports whether the host of an address refuses connections. It leaves every other
// failure to the client, and asks nobody if there is a proxy in between.
func refuses(address string) bool {
	request, err := http.NewRequest(http.MethodGet, address, http.NoBody)
	if err != nil {
		return false
	}
	if proxy, err := http.ProxyFromEnvironment(request); err != nil || proxy != nil {
		return false
	}
	port := cmp.Or(request.URL.Port(), map[string]string{"http": "80", "https": "443"}[request.URL.Scheme])
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(request.URL.Hostname(), port), connectTimeout)
	if err == nil {
		_ = connection.Close() // nothing was sent
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, windowsRefused)
}
