package main

import (
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/cost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// The prices of docs/cost.md are those of the environment prod.
func TestPricedNetwork(t *testing.T) {
	all := Environments()
	prod := all[slices.IndexFunc(all, func(e Environment) bool { return e.Name == "prod" })]
	if got := len(prod.Zones); got != cost.Zones {
		t.Errorf("prod has %d zones, want the %d that pkg/cost prices", got, cost.Zones)
	}
	if prod.NATs != cost.Zones {
		t.Errorf("prod has %d NAT gateways, want the %d that pkg/cost prices", prod.NATs, cost.Zones)
	}
	endpoints := 0
	for _, d := range manifest.Dependencies() {
		if _, needs := endpointOf(d); needs {
			endpoints++
		}
	}
	if endpoints != cost.InterfaceEndpoints {
		t.Errorf("the network has %d endpoints of AWS services, want the %d that pkg/cost prices", endpoints, cost.InterfaceEndpoints)
	}
}
