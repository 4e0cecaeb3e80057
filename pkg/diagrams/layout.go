package diagrams

import (
	"cmp"
	"slices"
)

// node is a box of a graph, or a bend of an edge that passes a layer.
type node struct {
	name          string
	width, height float64
	x, y          float64 // of the top left corner; set by layOut
	layer, place  int
	in, out       []*edge
	bend          bool
	lines         []string
	class         string
}

// edge leads from one node to another. An edge that closes a circle leads back.
type edge struct {
	from, to *node
	back     bool
	// bends are the places between layers, from above to below.
	bends []*node
}

// graph is laid out in layers from above to below, by Sugiyama's method: break circles, give
// layers, order each layer so that few edges cross, place the nodes.
type graph struct {
	nodes  []*node
	edges  []*edge
	layers [][]*node
}

const (
	gapX      = 26
	gapY      = 46
	margin    = 16
	bendWidth = 10
	sweeps    = 24
)

func (g *graph) add(n *node) *node {
	g.nodes = append(g.nodes, n)
	return n
}

func (g *graph) connect(from, to *node) {
	e := &edge{from: from, to: to}
	g.edges = append(g.edges, e)
	from.out, to.in = append(from.out, e), append(to.in, e)
}

// layOut places every node and returns the size of the whole.
func (g *graph) layOut() (width, height float64) {
	g.breakCircles()
	g.giveLayers()
	g.bend()
	g.order()
	return g.place()
}

// breakCircles marks the edges that lead back to a node that the search has not left.
func (g *graph) breakCircles() {
	const open, done = 1, 2
	state := map[*node]int{}
	var visit func(n *node)
	visit = func(n *node) {
		state[n] = open
		for _, e := range n.out {
			switch state[e.to] {
			case open:
				e.back = true
			case 0:
				visit(e.to)
			}
		}
		state[n] = done
	}
	for _, n := range g.nodes {
		if len(n.in) == 0 {
			visit(n)
		}
	}
	for _, n := range g.nodes {
		if state[n] == 0 {
			visit(n)
		}
	}
}

// giveLayers gives each node the layer after those that lead to it. A node that nothing leads to
// moves down to what it leads to.
func (g *graph) giveLayers() {
	for range g.nodes { // a longest path has no more edges
		for _, e := range g.edges {
			if !e.back {
				e.to.layer = max(e.to.layer, e.from.layer+1)
			}
		}
	}
	for _, n := range g.nodes {
		if len(n.in) > 0 || len(n.out) == 0 {
			continue
		}
		first := slices.MinFunc(n.out, func(a, b *edge) int { return cmp.Compare(a.to.layer, b.to.layer) })
		n.layer = first.to.layer - 1
	}
}

// bend gives each edge a place in every layer that it passes, and sorts the nodes by layers.
func (g *graph) bend() {
	for _, n := range g.nodes {
		g.put(n)
	}
	for _, e := range g.edges {
		if e.back {
			continue
		}
		for layer := e.from.layer + 1; layer < e.to.layer; layer++ {
			b := &node{width: bendWidth, layer: layer, bend: true}
			e.bends = append(e.bends, b)
			g.put(b)
		}
	}
}

func (g *graph) put(n *node) {
	for len(g.layers) <= n.layer {
		g.layers = append(g.layers, nil)
	}
	n.place = len(g.layers[n.layer])
	g.layers[n.layer] = append(g.layers[n.layer], n)
}

// neighbors returns the nodes that are connected with each node, in the layer above or below.
func (g *graph) neighbors() (above, below map[*node][]*node) {
	above, below = map[*node][]*node{}, map[*node][]*node{}
	for _, e := range g.edges {
		if e.back {
			continue
		}
		path := append(append([]*node{e.from}, e.bends...), e.to)
		for i := 1; i < len(path); i++ {
			below[path[i-1]] = append(below[path[i-1]], path[i])
			above[path[i]] = append(above[path[i]], path[i-1])
		}
	}
	return above, below
}

// order sorts each layer by the mean place of the neighbors, downwards and upwards in turn.
func (g *graph) order() {
	above, below := g.neighbors()
	sort := func(layer []*node, neighbors map[*node][]*node) {
		mean := map[*node]float64{}
		for _, n := range layer {
			mean[n] = average(neighbors[n], float64(n.place), func(m *node) float64 { return float64(m.place) })
		}
		slices.SortStableFunc(layer, func(a, b *node) int { return cmp.Compare(mean[a], mean[b]) })
		for i, n := range layer {
			n.place = i
		}
	}
	for range sweeps {
		for _, layer := range g.layers {
			sort(layer, above)
		}
		for _, layer := range slices.Backward(g.layers) {
			sort(layer, below)
		}
	}
}

func average(nodes []*node, otherwise float64, of func(*node) float64) (mean float64) {
	if len(nodes) == 0 {
		return otherwise
	}
	for _, n := range nodes {
		mean += of(n) / float64(len(nodes))
	}
	return mean
}

func center(n *node) float64 { return n.x + n.width/2 }

// place sets the coordinates. Each node moves towards the middle of its neighbors, as far as the
// others of its layer let it.
func (g *graph) place() (width, height float64) {
	above, below := g.neighbors()
	for _, layer := range g.layers {
		x := 0.0
		for _, n := range layer {
			n.x = x
			x += n.width + gapX
		}
	}
	for range sweeps {
		for _, layer := range g.layers {
			moveTo(layer, above)
		}
		for _, layer := range slices.Backward(g.layers) {
			moveTo(layer, below)
		}
	}
	left := g.nodes[0].x
	for _, n := range g.nodes {
		left = min(left, n.x)
	}
	y := float64(margin)
	for _, layer := range g.layers {
		tallest := 0.0
		for _, n := range layer {
			n.x += margin - left
			n.y = y
			width = max(width, n.x+n.width+margin)
			tallest = max(tallest, n.height)
		}
		for _, n := range layer {
			if n.bend {
				n.height = tallest // the edge passes the whole layer
			}
			n.y += (tallest - n.height) / 2
		}
		y += tallest + gapY
	}
	return width, y - gapY + margin
}

// moveTo moves the nodes of a layer to the middle of their neighbors. Where they would overlap,
// they stand side by side around the middle of where they want to be.
func moveTo(layer []*node, neighbors map[*node][]*node) {
	type block struct {
		nodes []*node
		x     float64 // of the first one
		width float64
		want  float64 // the sum of what each node wants the block's x to be
	}
	var blocks []*block
	for _, n := range layer {
		want := average(neighbors[n], center(n), center) - n.width/2
		blocks = append(blocks, &block{nodes: []*node{n}, x: want, width: n.width, want: want})
		for len(blocks) > 1 {
			a, b := blocks[len(blocks)-2], blocks[len(blocks)-1]
			if a.x+a.width+gapX <= b.x {
				break
			}
			offset := a.width + gapX
			a.want += b.want - offset*float64(len(b.nodes))
			a.nodes, a.width = append(a.nodes, b.nodes...), offset+b.width
			a.x = a.want / float64(len(a.nodes))
			blocks = blocks[:len(blocks)-1]
		}
	}
	for _, b := range blocks {
		x := b.x
		for _, n := range b.nodes {
			n.x = x
			x += n.width + gapX
		}
	}
}
