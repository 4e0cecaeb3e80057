package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown member of a profile", "profiles: {a: {tokn: t}}", "unknown member /profiles/a/tokn. The file has default and profiles. A profile has url, stream_url, token and tenant"},
		{"unknown member of the file", "profile: {a: {token: t}}", "unknown member /profile."},
		{"same member twice", "profiles: {a: {token: t, token: u}}", `key "token" already set in map`},
		{"list of profiles", "profiles: [a]", "/profiles has a value of the wrong kind"},
		{"number as a tenant", "profiles: {a: {tenant: 7}}", "/profiles/a/tenant has a value of the wrong kind"},
		{"no YAML", "profiles: {", "yaml: line 1"},
		{"default that is missing", "default: b\nprofiles: {a: {token: t}}", `has no profile "b". It has the profiles a`},
		{"default without profiles", "default: b", `has no profile "b". It has no profile`},
		{"odd address", "default: a\nprofiles: {a: {url: host, token: t, tenant: x}}", "http://host:port"},
		{"too long", strings.Repeat("#", maxConfigFile+1), "has more than 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			unsetEnvironment(t)
			path, err := configPath()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := command(t.Context(), strings.NewReader(""), 0, "stats")
			if got.code != exitUsage {
				t.Errorf("got exit code %d, want %d", got.code, exitUsage)
			}
			if !strings.Contains(got.err, tt.want) {
				t.Errorf("got %q, want it to contain %q", got.err, tt.want)
			}
		})
	}
}

func TestNamedProfileNeedsTheFile(t *testing.T) {
	unsetEnvironment(t)
	got := command(t.Context(), strings.NewReader(""), 0, "stats", "--profile", "a")
	if want := "config.yaml: no such file"; !strings.Contains(got.err, want) {
		t.Errorf("got %q, want it to contain %q", got.err, want)
	}
}
