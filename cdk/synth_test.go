package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// template is a stack's CloudFormation template.
type template struct {
	Resources map[string]*resource
	Outputs   map[string]any
}

type resource struct {
	Type           string
	Properties     node
	UpdatePolicy   node     `json:",omitempty"`
	DeletionPolicy string   `json:",omitempty"`
	DependsOn      []string `json:",omitempty"`
}

// stacks are the templates of an environment by the stack's name, such as Data.
type stacks map[string]*template

// The synthesised templates, by environment. The pipeline's is "Delivery" of "".
var synthesised map[string]stacks

// folder holds the assemblies and the bootstraps of the test binary.
var folder string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	defer jsii.Close()
	var err error
	if folder, err = os.MkdirTemp("", "ocelot-cdk-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if synthesised, err = synthesise("all", Environments(), table()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// table returns the service as it is, over bootstraps that do nothing.
func table() service {
	return service{functions: manifest.Functions(), queues: manifest.Queues(), document: apispec.OpenAPI()}
}

// synthesise writes the templates of a service and reads them.
func synthesise(name string, environments []Environment, s service) (map[string]stacks, error) {
	s.bootstraps = filepath.Join(folder, "bootstraps")
	for _, f := range s.functions {
		bootstrap := filepath.Join(s.bootstraps, f.Name, "bootstrap")
		if err := os.MkdirAll(filepath.Dir(bootstrap), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(bootstrap, []byte("stub"), 0o755); err != nil {
			return nil, err
		}
	}
	out := filepath.Join(folder, name)
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(out), AnalyticsReporting: jsii.Bool(false)})
	addApp(app, environments, s)
	app.Synth(nil)
	return read(out)
}

// read reads the templates below a cloud assembly.
func read(out string) (map[string]stacks, error) {
	files, err := filepath.Glob(filepath.Join(out, "assembly-*", "*.template.json"))
	if err != nil {
		return nil, err
	}
	delivery := filepath.Join(out, "Delivery.template.json")
	if _, err := os.Stat(delivery); err == nil {
		files = append(files, delivery)
	}
	all := map[string]stacks{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		t := &template{}
		if err := json.Unmarshal(content, t); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		environment, stack := namesOf(out, file)
		if all[environment] == nil {
			all[environment] = stacks{}
		}
		all[environment][stack] = t
	}
	return all, nil
}

// namesOf returns the environment and the stack of a file such as
// assembly-dev/devData58C5D5B6.template.json.
func namesOf(out, file string) (environment, stack string) {
	base := strings.TrimSuffix(filepath.Base(file), ".template.json")
	if filepath.Dir(file) == out {
		return "", base
	}
	environment = strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "assembly-")
	const hash = 8 // characters that the CDK adds
	return environment, base[len(environment) : len(base)-hash]
}

// clone returns a deep copy, for a mutation.
func (s stacks) clone(t *testing.T) stacks {
	t.Helper()
	content, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	copied := stacks{}
	if err := json.Unmarshal(content, &copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

// found is a resource with its place.
type found struct {
	stack, id string
	*resource
}

// of returns all resources of a type, ordered by stack and id.
func (s stacks) of(kind string) []found {
	var all []found
	for stack, t := range s {
		for id, r := range t.Resources {
			if r.Type == kind {
				all = append(all, found{stack, id, r})
			}
		}
	}
	slices.SortFunc(all, func(a, b found) int { return strings.Compare(a.stack+"/"+a.id, b.stack+"/"+b.id) })
	return all
}

// named returns the resource of a type whose property has this text.
func (s stacks) named(kind, property, want string) (found, bool) {
	all := s.of(kind)
	i := slices.IndexFunc(all, func(r found) bool { return r.text(property) == want })
	if i < 0 {
		return found{resource: &resource{Properties: node{}}}, false
	}
	return all[i], true
}

// find returns the resource of a stack with the id.
func (s stacks) find(stack, id string) (found, bool) {
	if s[stack] == nil || s[stack].Resources[id] == nil {
		return found{}, false
	}
	return found{stack, id, s[stack].Resources[id]}, true
}

// get returns the value below the properties at a path such as "A.B.0.C", or nil.
func (r *resource) get(path string) any { return at(r.Properties, path) }

// text returns the value at a path as a text; see textOf.
func (r *resource) text(path string) string { return textOf(r.get(path)) }

func at(value any, path string) any {
	if path == "" {
		return value
	}
	for key := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i := int(key[0] - '0')
			if i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// textOf renders a value with CloudFormation's functions as "${Name}" and "${Name.Attribute}".
func textOf(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any:
		return functionText(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = textOf(v[i])
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(value)
}

func functionText(v node) string {
	switch {
	case v["Ref"] != nil:
		return "${" + v["Ref"].(string) + "}"
	case v["Fn::GetAtt"] != nil:
		return "${" + strings.ReplaceAll(textOf(v["Fn::GetAtt"]), ",", ".") + "}"
	case v["Fn::ImportValue"] != nil:
		return "${import " + textOf(v["Fn::ImportValue"]) + "}"
	case v["Fn::Join"] != nil:
		join := v["Fn::Join"].([]any)
		var parts []string
		for _, part := range join[1].([]any) {
			parts = append(parts, textOf(part))
		}
		return strings.Join(parts, join[0].(string))
	}
	return fmt.Sprint(v)
}

// list returns a value as a list: itself, or alone.
func list(value any) []any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{value}
}

func textsOf(value any) []string {
	var all []string
	for _, v := range list(value) {
		all = append(all, textOf(v))
	}
	return all
}
