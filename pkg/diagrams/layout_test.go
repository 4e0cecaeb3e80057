package diagrams

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestNodesDoNotOverlap(t *testing.T) {
	g := newFlow(manifest.Functions(), manifest.Queues())
	width, height := g.layOut()
	all := []*node{}
	for _, layer := range g.layers {
		all = append(all, layer...)
	}
	for i, a := range all {
		if a.x < 0 || a.y < 0 || a.x+a.width > width || a.y+a.height > height {
			t.Errorf("%s is at %.0f, %.0f, want it within %.0f × %.0f", a.name, a.x, a.y, width, height)
		}
		for _, b := range all[:i] {
			if a.x < b.x+b.width && b.x < a.x+a.width && a.y < b.y+b.height && b.y < a.y+a.height {
				t.Errorf("%q at %.0f, %.0f overlaps %q at %.0f, %.0f", a.name, a.x, a.y, b.name, b.x, b.y)
			}
		}
	}
}

func TestEdgesLeadDown(t *testing.T) {
	g := newFlow(manifest.Functions(), manifest.Queues())
	g.layOut()
	for _, e := range g.edges {
		if !e.back && e.from.layer >= e.to.layer {
			t.Errorf("%s in layer %d leads to %s in layer %d, want it above", e.from.name, e.from.layer, e.to.name, e.to.layer)
		}
	}
}
