package samtemplate_test

import (
	"encoding/json"
	"slices"
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
		name, key := samtemplate.LogicalID(f.Name), f.Trigger.Socket.Key
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

func TestOnlyFunctionsWithTheGrantSendOverConnections(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	type statement struct {
		Action   []string
		Resource json.RawMessage
	}
	var template struct {
		Resources map[string]struct {
			Properties struct {
				Policies []struct{ Statement []statement }
			}
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for _, f := range manifest.Functions() {
		var may []sub
		for _, s := range template.Resources[samtemplate.LogicalID(f.Name)+"Function"].Properties.Policies[0].Statement {
			if slices.Contains(s.Action, "execute-api:ManageConnections") {
				if err := json.Unmarshal(s.Resource, &may); err != nil {
					t.Fatal(err)
				}
			}
		}
		granted := slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource == manifest.ResourceSockets && g.Write })
		if granted != (len(may) > 0) {
			t.Errorf("%s is granted connections: %t, the template lets it use %v", f.Name, granted, may)
		}
		for _, resource := range may {
			if !strings.Contains(resource.Text, ":${StreamApi}/live/") || !strings.HasSuffix(resource.Text, "/@connections/*") {
				t.Errorf("%s may use %s", f.Name, resource.Text)
			}
		}
	}
}
