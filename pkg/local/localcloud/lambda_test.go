package localcloud_test

import (
	"context"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// The gateway's own answers must be those of the functions in process.
func TestLambdaAnswersAsInProcess(t *testing.T) {
	everyWay(t, func(t *testing.T, start starter) {
		s := start(t, t.TempDir())
		s.tenantAdmin("acme")
		ofTwo := s.token(access.Claims{Subject: "a", Tenants: []string{"acme", "globex"}, Role: access.RoleAdmin})
		for _, test := range []struct {
			name, method, path, authorization string
			tenant                            audit.TenantID
			body                              string
			status                            int
			code                              string
		}{
			{"no credential", "GET", "/logs", "", "acme", "", 401, "unauthenticated"},
			{"bad credential", "GET", "/logs", "Bearer nothing", "acme", "", 401, "unauthenticated"},
			{"another tenant", "GET", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "other", "", 403, "forbidden"},
			{"lacking permission", "POST", "/logs", s.roleToken("acme", access.RoleAuditor, "a"), "acme", entryText(1), 403, "forbidden"},
			{"no tenant", "GET", "/logs", ofTwo, "", "", 400, "malformed_request"},
			{"no tenant on another path", "GET", "/logs/stats", ofTwo, "", "", 400, "malformed_request"},
			{"invalid tenant", "GET", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "A b", "", 400, "malformed_request"},
			{"invalid query", "GET", "/logs?q=%zz", s.roleToken("acme", access.RoleAdmin, "a"), "acme", "", 400, "malformed_request"},
			{"large body", "POST", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "acme", strings.Repeat(" ", 5<<20), 413, "too_large"},
			{"unknown path", "GET", "/nothing", "", "", "", 404, "not_found"},
			{"unknown method", "PATCH", "/logs", "", "", "", 405, "method_not_allowed"},
			{"encoded path", "GET", "/tenants/%61cme", s.roleToken("acme", access.RoleAdmin, "a"), "", "", 200, ""},
			{"head", "HEAD", "/health", "", "", "", 200, ""},
		} {
			got := s.as(test.authorization, test.tenant).do(test.method, test.path, test.body, map[string]string{"X-Request-Id": "r-1"})
			if test.code != "" {
				type problem struct {
					Type      string
					Status    int
					RequestID string `json:"request_id"`
				}
				var answer problem
				got.decode(t, &answer)
				if want := (problem{"urn:ocelot:problem:" + test.code, test.status, "r-1"}); answer != want {
					t.Errorf("%s: got problem %+v, want %+v", test.name, answer, want)
				}
			}
			if got.status != test.status {
				t.Errorf("%s: got status %d, want %d: %s", test.name, got.status, test.status, got.body)
			}
			if got.header.Get("X-Request-Id") != "r-1" {
				t.Errorf("%s: got request ID %q, want %q", test.name, got.header.Get("X-Request-Id"), "r-1")
			}
		}
	})
}

func TestLambdaNamesMissingBootstraps(t *testing.T) {
	err := localcloud.Run(t.Context(), localcloud.Options{
		Addr: "127.0.0.1:0", Data: t.TempDir(), Empty: true, Log: discard(), Lambda: &localcloud.Lambda{Bootstraps: t.TempDir()},
		Tokens: func(context.Context, []byte) (access.TokenVerifier, error) { return refuseTokens{}, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "create-log, create-logs-bulk") {
		t.Errorf("got error %v, want one with %q", err, "create-log, create-logs-bulk")
	}
}
