package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// The roles within the search domain.
const (
	searchWriter = "ocelot-writer"
	searchReader = "ocelot-reader"
)

// indexPattern matches the names of all indexes that functions use.
const indexPattern = "ocelot-*"

// patch is a change in the form of RFC 6902, as OpenSearch's security plugin takes it.
type patch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value node   `json:"value"`
}

// writeAccessControl writes the search domain's roles, and for each environment the
// functions that have them. CloudFormation cannot set either. ACCOUNT stands for the account.
func writeAccessControl(out string, environments []Environment, functions []manifest.Function) error {
	if err := writeJSON(filepath.Join(out, "search-roles.json"), searchRoles()); err != nil {
		return err
	}
	for _, e := range environments {
		d := &deployment{Environment: e}
		if err := writeJSON(filepath.Join(out, "search-mapping-"+e.Name+".json"), searchMapping(d, functions)); err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(file string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

func searchRoles() []patch {
	role := func(name string, cluster, index []string) patch {
		return patch{"add", "/" + name, node{
			"cluster_permissions": cluster, "index_permissions": []node{{"index_patterns": []string{indexPattern}, "allowed_actions": index}},
		}}
	}
	return []patch{
		role(searchWriter, []string{"cluster_composite_ops", "cluster_monitor", "cluster_manage_index_templates"}, []string{"indices_all"}),
		role(searchReader, []string{"cluster_composite_ops_ro", "cluster_monitor"}, []string{"read", "indices:monitor/*", "indices:admin/mappings/get"}),
	}
}

// searchMapping gives each function that has a grant on the index its role.
func searchMapping(d *deployment, functions []manifest.Function) []patch {
	holders := map[string][]string{searchWriter: {}, searchReader: {}}
	for _, f := range functions {
		if role := searchRoleOf(f); role != "" {
			holders[role] = append(holders[role], "arn:aws:iam::ACCOUNT:role/"+d.name(f.Name))
		}
	}
	return []patch{
		{"add", "/" + searchWriter, node{"backend_roles": holders[searchWriter]}},
		{"add", "/" + searchReader, node{"backend_roles": holders[searchReader]}},
	}
}

// searchRoleOf returns the domain's role of a function, "" if it may not use the index.
func searchRoleOf(f manifest.Function) string {
	role := ""
	for _, g := range f.Grants {
		switch {
		case g.Resource != manifest.ResourceIndex:
		case g.Write:
			return searchWriter
		case g.Read:
			role = searchReader
		}
	}
	return role
}
