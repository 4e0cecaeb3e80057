package localcloud_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// A page of a configured origin may call the API, in process and over the Lambda binaries.
func TestPagesMayCallFromConfiguredOrigins(t *testing.T) {
	const known = "https://console.example.com"
	test := func(t *testing.T, o localcloud.Options) {
		o.Data, o.Log, o.Origins = t.TempDir(), discard(), []string{known}
		s := startWith(t, o)
		s.tenantAdmin("acme")
		auditor := s.as(s.roleToken("acme", access.RoleAuditor, "a"), "acme")
		for origin, want := range map[string]string{known: known, "https://evil.test": "", "": ""} {
			header := map[string]string{}
			if origin != "" {
				header["Origin"] = origin
			}
			preflight := s.as("", "").do("OPTIONS", "/logs/search", "", header)
			if preflight.status != 204 {
				t.Errorf("%q: got status %d, want 204: %s", origin, preflight.status, preflight.body)
			}
			if got := preflight.header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%q: the preflight request's answer allows %q, want %q", origin, got, want)
			}
			for path, by := range map[string]caller{"/logs": auditor, "/logs/stats": s.as("", "acme")} { // the second is refused
				if got := by.do("GET", path, "", header).header.Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("%q: the answer of %s allows %q, want %q", origin, path, got, want)
				}
			}
		}
	}
	t.Run("in process", func(t *testing.T) { test(t, localcloud.Options{}) })
	t.Run("lambda", func(t *testing.T) { test(t, localcloud.Options{Lambda: lambda(t, config.Engines{})}) })
}
