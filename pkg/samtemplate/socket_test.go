package samtemplate_test

import (
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// sub is a text with names of resources in it.
type sub struct {
	Text string `json:"Fn::Sub"`
}

func TestTemplateHasARouteOfTheWebSocketAPIForEachFunctionOfOne(t *testing.T) {
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
	parse(t, &template)
	wanted := 0
	for _, f := range manifest.Functions() {
		if f.Trigger.Socket == nil {
			continue
		}
		wanted++
		name, key := manifest.CamelCase(f.Name), f.Trigger.Socket.Key
		route := template.Resources[name+"Route"]
		integration, permission := template.Resources[name+"Integration"], template.Resources[name+"Permission"]
		if route.Properties.RouteKey != key {
			t.Errorf("%s: got route key %q, want %q", f.Name, route.Properties.RouteKey, key)
		}
		if route.Properties.Target.Text != "integrations/${"+name+"Integration}" {
			t.Errorf("%s: got target %q, want %q", f.Name, route.Properties.Target.Text, "integrations/${"+name+"Integration}")
		}
		if got, want := integration.Properties.IntegrationURI.Text, "/functions/${"+name+"Function.Arn}/invocations"; !strings.HasSuffix(got, want) {
			t.Errorf("%s: got integration %q, want it to end with %q", f.Name, got, want)
		}
		if p := permission.Properties; p.FunctionName.Ref != name+"Function" {
			t.Errorf("%s: got function %q, want %q", f.Name, p.FunctionName.Ref, name+"Function")
		} else if !strings.HasSuffix(p.SourceArn.Text, ":${StreamApi}/*/"+key) {
			t.Errorf("%s: got source %q, want it to end with %q", f.Name, p.SourceArn.Text, ":${StreamApi}/*/"+key)
		}
	}
	got := 0
	for _, r := range template.Resources {
		if r.Type == "AWS::ApiGatewayV2::Route" {
			got++
		}
	}
	if got != wanted {
		t.Errorf("got %d routes, want %d", got, wanted)
	}
	if wanted == 0 {
		t.Error("no route is wanted, want at least one")
	}
}
