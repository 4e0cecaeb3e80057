package diagrams

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Flow draws how messages flow: the functions that send to queues, and those that a queue invokes.
// Functions that send to the same queues share a box, and so do queues that nothing tells apart.
func Flow(functions []manifest.Function, queues []manifest.Queue) []byte {
	g := newFlow(functions, queues)
	width, height := g.layOut()
	var d drawing
	g.drawEdges(&d)
	for _, n := range g.nodes {
		n.draw(&d)
	}
	return d.finish(width, height, "How messages flow",
		"Functions in blue boxes, queues in yellow ones. An arrow leads from a function to a queue that it sends to, and from a queue to the function that it invokes. A dashed arrow leads back.")
}

// newFlow returns the graph of functions and queues.
func newFlow(functions []manifest.Function, queues []manifest.Queue) *graph {
	g := &graph{}
	boxes := map[string]*node{}
	for _, group := range groupQueues(functions, queues) {
		box := g.add(queueNode(group))
		for _, q := range group {
			boxes[string(q.Name)] = box
		}
	}
	for _, group := range groupFunctions(functions) {
		box := functionNode(group)
		targets := unique(sendsTo(&group[0]), boxes)
		sources := unique(invokedBy(&group[0]), boxes)
		if len(targets)+len(sources) == 0 {
			continue
		}
		g.add(box)
		for _, q := range targets {
			g.connect(box, q)
		}
		for _, q := range sources {
			g.connect(q, box)
		}
	}
	return g
}

// unique returns the boxes of the queues, each once.
func unique(names []manifest.QueueName, boxes map[string]*node) (found []*node) {
	for _, name := range names {
		if box := boxes[string(name)]; box != nil && !slices.Contains(found, box) {
			found = append(found, box)
		}
	}
	return found
}

// sendsTo returns the queues that the function may send to, without dead-letter queues.
func sendsTo(f *manifest.Function) (names []manifest.QueueName) {
	for _, grant := range f.Grants {
		if name, is := grant.Resource.Queue(); is && grant.Write && !slices.Contains(names, name) && !isDeadLetters(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func isDeadLetters(name manifest.QueueName) bool { return strings.HasSuffix(string(name), "-dlq") }

func invokedBy(f *manifest.Function) (names []manifest.QueueName) {
	for _, t := range f.Trigger.Queues {
		names = append(names, t.Queue)
	}
	slices.Sort(names)
	return names
}

// groupQueues returns the queues that the same functions send to and read, together.
func groupQueues(functions []manifest.Function, queues []manifest.Queue) [][]manifest.Queue {
	return grouped(queues, func(q *manifest.Queue) string {
		var key strings.Builder
		for i := range functions {
			f := &functions[i]
			fmt.Fprint(&key, slices.Contains(sendsTo(f), q.Name), slices.Contains(invokedBy(f), q.Name))
		}
		return key.String()
	})
}

// groupFunctions returns the functions that the same kind of trigger invokes and that send to the
// same queues, together. A worker stands alone. Functions that also look at a queue's length
// accept entries, and stand apart from those that only record what they did.
func groupFunctions(functions []manifest.Function) [][]manifest.Function {
	return grouped(functions, func(f *manifest.Function) string {
		if len(f.Trigger.Queues) > 0 {
			return f.Name
		}
		looks := slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool {
			_, is := g.Resource.Queue()
			return is && g.Read
		})
		return fmt.Sprint(triggerKind(f), sendsTo(f), looks)
	})
}

// grouped returns the values by their keys, in the order of the first of each group.
func grouped[T any](values []T, key func(*T) string) [][]T {
	var groups [][]T
	index := map[string]int{}
	for i := range values {
		k := key(&values[i])
		at, known := index[k]
		if !known {
			at = len(groups)
			index[k] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], values[i])
	}
	return groups
}

// triggerKind says what invokes a function.
func triggerKind(f *manifest.Function) string {
	switch {
	case f.Trigger.Route != nil:
		return "REST"
	case f.Trigger.Socket != nil:
		return "WebSocket"
	case f.Trigger.Schedule != nil:
		return "Schedule"
	case f.Trigger.Authorizer:
		return "Authorizer"
	case f.Trigger.Rotation != nil:
		return "Rotation"
	}
	return "Queue"
}

const padding = 10

func newNode(class string, lines []string) *node {
	n := &node{class: class, lines: lines, height: 2*padding + lineHeight*float64(len(lines)) - 4}
	for _, line := range lines {
		n.width = max(n.width, textWidth(line)+2*padding)
	}
	return n
}

func queueNode(group []manifest.Queue) *node {
	lines := []string{"queue"}
	for _, q := range group {
		lines = append(lines, string(q.Name))
	}
	n := newNode("q", lines)
	n.name = string(group[0].Name)
	return n
}

func functionNode(group []manifest.Function) *node {
	kind := triggerKind(&group[0])
	if kind == "Queue" {
		kind = touches(&group[0])
	}
	lines := []string{kind}
	for _, f := range group {
		lines = append(lines, f.Name)
	}
	n := newNode("f", lines)
	n.name = group[0].Name
	return n
}

// touches says which stores a worker writes, or only reads.
func touches(f *manifest.Function) string {
	var writes, reads []string
	for _, d := range []manifest.Dependency{manifest.DependencyRecords, manifest.DependencySearch, manifest.DependencySockets} {
		if !f.DependsOn(d) {
			continue
		}
		writing := slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource.Dependency() == d && g.Write })
		if writing {
			writes = append(writes, string(d))
		} else {
			reads = append(reads, string(d))
		}
	}
	if len(writes) == 0 {
		return "reads " + strings.Join(reads, ", ")
	}
	return "writes " + strings.Join(writes, ", ")
}

func (n *node) draw(d *drawing) {
	radius := 4.0
	if n.class == "q" {
		radius = 14
	}
	d.rect(n.x, n.y, n.width, n.height, radius, n.class)
	for i, line := range n.lines {
		class := ""
		if i == 0 {
			class = "m"
		}
		d.text(n.x+padding, n.y+padding+lineHeight*float64(i)+fontSize-2, class, line)
	}
}

// drawEdges draws the edges below the boxes. Those of one box are apart from each other, in the
// order of where they lead.
func (g *graph) drawEdges(d *drawing) {
	for _, e := range g.edges {
		if e.back {
			drawBack(d, e)
			continue
		}
		x, y := port(e.from.out, e, e.from, true), e.from.y+e.from.height
		path := fmt.Sprintf("M%.1f %.1f", x, y)
		for _, b := range e.bends {
			path += curve(x, y, center(b), b.y)
			x, y = center(b), b.y+b.height
			path += fmt.Sprintf(" V%.1f", y)
		}
		path += curve(x, y, port(e.to.in, e, e.to, false), e.to.y-1)
		d.addf(`<path d="%s" class="e" marker-end="url(#arrow)"/>`, path)
	}
}

// curve leaves and arrives vertically.
func curve(x, y, toX, toY float64) string {
	bend := (toY - y) / 2
	return fmt.Sprintf(" C%.1f %.1f %.1f %.1f %.1f %.1f", x, y+bend, toX, toY-bend, toX, toY)
}

// port returns the place of an edge at its box.
func port(edges []*edge, e *edge, n *node, outgoing bool) float64 {
	forward := slices.DeleteFunc(slices.Clone(edges), func(e *edge) bool { return e.back })
	next := func(e *edge) float64 {
		if !outgoing {
			if len(e.bends) > 0 {
				return center(e.bends[len(e.bends)-1])
			}
			return center(e.from)
		}
		if len(e.bends) > 0 {
			return center(e.bends[0])
		}
		return center(e.to)
	}
	slices.SortStableFunc(forward, func(a, b *edge) int { return cmp.Compare(next(a), next(b)) })
	i := slices.Index(forward, e)
	return n.x + n.width*float64(i+1)/float64(len(forward)+1)
}

// drawBack draws an edge that leads back, past the right side of both boxes.
func drawBack(d *drawing, e *edge) {
	right := max(e.from.x+e.from.width, e.to.x+e.to.width)
	fromY, toY := e.from.y+e.from.height/2, e.to.y+e.to.height/2
	d.addf(`<path d="M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f" class="e d" marker-end="url(#arrow)"/>`,
		e.from.x+e.from.width, fromY, right+gapX, fromY, right+gapX, toY, e.to.x+e.to.width+1, toY)
}
