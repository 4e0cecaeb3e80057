package samtemplate_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/samtemplate"
)

// sub is a text with names of resources in it.
type sub struct {
	Text string `json:"Fn::Sub"`
}

func TestTemplateHasARouteOfTheWebSocketAPIForEachFunctionOfOne(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				RouteKey                          string
				Target, IntegrationURI, SourceArn sub
				FunctionName                      struct{ Ref string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	wanted := 0
	for _, f := range manifest.Functions() {
		if f.Trigger.Socket == nil {
			continue
		}
		wanted++
		name, key := manifest.CamelCase(f.Name), f.Trigger.Socket.Key
		route := template.Resources[name+"Route"]
		integration, permission := template.Resources[name+"Integration"], template.Resources[name+"Permission"]
		if route.Properties.RouteKey != key || route.Properties.Target.Text != "integrations/${"+name+"Integration}" {
			t.Errorf("%s has the route %+v, want %s", f.Name, route.Properties, key)
		}
		if uri := integration.Properties.IntegrationURI.Text; !strings.HasSuffix(uri, "/functions/${"+name+"Function.Arn}/invocations") {
			t.Errorf("%s has the integration %s", f.Name, uri)
		}
		if p := permission.Properties; p.FunctionName.Ref != name+"Function" || !strings.HasSuffix(p.SourceArn.Text, ":${StreamApi}/*/"+key) {
			t.Errorf("%s may be called by %+v", f.Name, p)
		}
	}
	got := 0
	for _, r := range template.Resources {
		if r.Type == "AWS::ApiGatewayV2::Route" {
			got++
		}
	}
	if got != wanted || wanted == 0 {
		t.Errorf("%d routes of %d functions", got, wanted)
	}
}
