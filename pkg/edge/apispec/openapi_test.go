package apispec_test

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// document returns the OpenAPI document as a client's library reads it.
func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(apispec.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestGroupByPatternIsWhatTheServiceTakes: clients check a list of fields by the pattern before they send it.
func TestGroupByPatternIsWhatTheServiceTakes(t *testing.T) {
	parameter := document(t).Paths.Value("/logs/stats").Get.Parameters.GetByInAndName("query", search.ParamGroupBy)
	if parameter == nil {
		t.Fatal("the statistics have no parameter group_by, want one")
	}
	pattern, err := regexp.Compile(parameter.Schema.Value.Pattern)
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]bool{
		"action": true, "action,severity": true, "metadata.a": true, "metadata.a.b,user_id": true, `metadata."a,b"`: true, "metadata.cost center": true,
		`metadata."a\"b"`: true, `metadata."a\\"`: true, `metadata."a\b"`: true, `metadata."\"\\".c,action`: true, `metadata.aws:stack`: true, `metadata.""`: true,
		`metadata."a".""`: true, `metadata.a"b"c`: true, `metadata.é."日本"`: true,
		"": false, "color": false, "metadata.": false, "metadata": false, `metadata."a`: false, `metadata."a\"`: false, `metadata."a"b"`: false, `metadata."".a`: false,
		"action,": false, `action,metadata.`: false,
	} {
		if got := pattern.MatchString(list); got != want {
			t.Errorf("%s: the pattern matches is %t, want %t", list, got, want)
		}
		fields, err := audit.SplitFields(list)
		takes := err == nil && !slices.ContainsFunc(fields, func(f audit.Field) bool {
			_, ofMetadata := f.MetadataPath()
			return !ofMetadata && !slices.Contains(audit.FilterFields(), f)
		})
		if takes != want {
			t.Errorf("%s: the service takes it is %t, want %t", list, takes, want)
		}
	}
}

func TestDocumentDescribesEveryRoute(t *testing.T) {
	doc := document(t)
	described := 0
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil {
			continue
		}
		described++
		item := doc.Paths.Value(route.Path)
		if item == nil {
			t.Errorf("%s is not described, want it with %s", route.Path, route.Method)
			continue
		}
		if item.GetOperation(route.Method) == nil {
			t.Errorf("%s %s is not described, want it to be", route.Method, route.Path)
			continue
		}
		op := item.GetOperation(route.Method)
		if op.OperationID != f.Name {
			t.Errorf("%s %s: got operation ID %q, want %q", route.Method, route.Path, op.OperationID, f.Name)
		}
		if (len(*op.Security) > 0) != (route.Permission != "") {
			t.Errorf("%s: got security %v, want a permission %q", f.Name, op.Security, route.Permission)
		}
		if !strings.Contains(op.Description, string(route.Permission)) {
			t.Errorf("%s: got description %q, want the permission %s in it", f.Name, op.Description, route.Permission)
		}
		header := op.Parameters.GetByInAndName("header", "X-Tenant-ID")
		if want := route.TenantFrom == manifest.TenantFromHeader; (header != nil) != want {
			t.Errorf("%s: got parameter X-Tenant-ID %v, want one: %t", f.Name, header, want)
		}
	}
	operations := 0
	for _, item := range doc.Paths.Map() {
		operations += len(item.Operations())
	}
	if operations != described {
		t.Errorf("the document has %d operations, want %d as the manifest's routes", operations, described)
	}
}

func TestDocumentDescribesTheQueryParametersOfEachRoute(t *testing.T) {
	doc := document(t)
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil {
			continue
		}
		want := slices.Clone(route.Query)
		if route.Filters {
			for _, field := range audit.FilterFields() {
				want = append(want, string(field))
			}
			want = append(want, "metadata", search.ParamFrom, search.ParamTo, search.ParamQuery)
		}
		var got []string
		for _, parameter := range doc.Paths.Value(route.Path).GetOperation(route.Method).Parameters {
			if parameter.Value.In == "query" {
				got = append(got, parameter.Value.Name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: query parameters (-want of the manifest +got in the document):\n%s", f.Name, diff)
		}
	}
}

func TestDocumentIsValid(t *testing.T) {
	if err := document(t).Validate(t.Context(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaDefaultsValidation()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIFileIsFresh(t *testing.T) {
	file, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, apispec.OpenAPI()) {
		t.Error("got a stale openapi.json, want what the generator writes; run go generate ./pkg/edge/apispec")
	}
	if first, second := apispec.OpenAPI(), apispec.OpenAPI(); !bytes.Equal(first, second) {
		t.Errorf("the document differs from one call to the next, want none (-first +second):\n%s", cmp.Diff(string(first), string(second)))
	}
}
