package main

import (
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestSearchRolesAreTheGrants(t *testing.T) {
	e := environmentOf("prod", table(), synthesised)
	holders := map[string][]string{}
	for _, p := range searchMapping(&e.deployment, e.functions) {
		holders[p.Path[1:]] = p.Value["backend_roles"].([]string)
	}
	for _, f := range e.functions {
		read, write := grantOf(f, manifest.ResourceIndex)
		arn := "arn:aws:iam::ACCOUNT:role/ocelot-prod-" + f.Name
		if got := slices.Contains(holders["ocelot-writer"], arn); got != write {
			t.Errorf("%s writes the index: got %t, want %t", f.Name, got, write)
		}
		if got, want := slices.Contains(holders["ocelot-reader"], arn), read && !write; got != want {
			t.Errorf("%s reads the index: got %t, want %t", f.Name, got, want)
		}
	}
}
