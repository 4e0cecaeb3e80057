package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

func TestToken(t *testing.T) {
	unsetEnvironment(t)
	data := dataFolder(t)
	for _, c := range []struct {
		name string
		args []string
		want access.Principal
	}{
		{"admin", []string{"--tenant", "acme", "--role", "admin"},
			access.Principal{Subject: "developer", Grants: map[audit.TenantID][]access.Permission{"acme": access.RoleAdmin.Permissions()}}},
		{"operator", []string{"--tenant", "*", "--role", "operator", "--sub", "ops"},
			access.Principal{Subject: "ops", Grants: map[audit.TenantID][]access.Permission{"*": access.RoleOperator.Permissions()}}},
		{"permissions and resources of two tenants", []string{"--tenant", "a,b", "--permissions", "logs:read,logs:write", "--resources", "order,user:42"},
			access.Principal{Subject: "developer", Resources: []access.Resource{{Type: "order"}, {Type: "user", ID: "42"}},
				Grants: map[audit.TenantID][]access.Permission{"a": {"logs:read", "logs:write"}, "b": {"logs:read", "logs:write"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := command(t.Context(), strings.NewReader(""), 0, append([]string{"token", "--data", data, "--ttl", "2h"}, c.args...)...)
			if got.code != 0 {
				t.Fatalf("got exit code %d, want 0: %s", got.code, got.err)
			}
			secret, err := localcloud.DevSecret(data)
			if err != nil {
				t.Fatal(err)
			}
			for after, good := range map[time.Duration]bool{time.Hour: true, 3 * time.Hour: false} {
				verifier, err := bearer.New(t.Context(), bearer.Config{Secret: secret, Now: func() time.Time { return testTime.Add(after) }})
				if err != nil {
					t.Fatal(err)
				}
				p, err := verifier.Verify(t.Context(), strings.TrimSpace(got.out))
				if (err == nil) != good {
					t.Errorf("after %v: got error %v, want good %v", after, err, good)
				}
				if !good {
					continue
				}
				for id := range c.want.Grants { // the order is the principal's business
					if diff := cmp.Diff(permissionSet(c.want.Grants[id]), permissionSet(p.Grants[id])); diff != "" {
						t.Errorf("permissions of %s (-want +got):\n%s", id, diff)
					}
				}
				if want := testTime.Add(2*time.Hour + bearer.Leeway).Truncate(time.Second); !p.ExpiresAt.Equal(want) {
					t.Errorf("it ends at %s, want %s", p.ExpiresAt, want)
				}
				c.want.Grants, p.Grants, p.ExpiresAt = nil, nil, time.Time{}
				if diff := cmp.Diff(c.want, p); diff != "" {
					t.Errorf("principal (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// dataFolder returns a folder with a development key.
func dataFolder(t *testing.T) string {
	t.Helper()
	data := t.TempDir() + "/data"
	if _, err := localcloud.DevSecret(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// A token of a new key would be good for no service.
func TestTokenRefusesAFolderWithoutAKey(t *testing.T) {
	unsetEnvironment(t)
	data := t.TempDir()
	got := command(t.Context(), strings.NewReader(""), 0, "token", "--data", data, "--tenant", "acme", "--role", "admin")
	if got.code != exitFailure {
		t.Errorf("got exit code %d, want %d", got.code, exitFailure)
	}
	if !strings.Contains(got.err, "is no data folder") {
		t.Errorf("got %q, want it to say that the folder is none", got.err)
	}
	if files, err := os.ReadDir(data); err != nil || len(files) > 0 {
		t.Errorf("got files %v, %v in the folder, want none", files, err)
	}
}

func permissionSet(permissions []access.Permission) map[access.Permission]bool {
	set := map[access.Permission]bool{}
	for _, p := range permissions {
		set[p] = true
	}
	return set
}

func TestTokenRefusesWhatItDoesNotKnow(t *testing.T) {
	unsetEnvironment(t)
	for _, args := range [][]string{{"--permissions", "logs:fly"}, {"--resources", ":"}, {"--tenant", "Not A Slug"}} {
		got := command(t.Context(), strings.NewReader(""), 0, append([]string{"token", "--data", dataFolder(t), "--tenant", "acme", "--role", "admin"}, args...)...)
		if got.code != 2 {
			t.Errorf("%s: got exit code %d, want 2: %s", args, got.code, got.err)
		}
		if got.out != "" {
			t.Errorf("%s: got output %q, want none", args, got.out)
		}
	}
}
