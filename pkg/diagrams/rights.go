package diagrams

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// deadLetters is the column of all dead-letter queues.
const deadLetters = "dead letters"

// The sizes of the table.
const (
	cell      = 30.0
	rowHeight = 20.0
	slant     = 55 * math.Pi / 180 // of the titles of columns
)

// Rights draws which function may read (r) and write (w) what: its grants and no more.
func Rights(functions []manifest.Function) []byte {
	columns := rightsColumns(functions)
	rows := rightsRows(functions)
	nameWidth, triggerWidth := 0.0, 0.0
	for i := range rows {
		nameWidth = max(nameWidth, textWidth(rows[i].Name))
		triggerWidth = max(triggerWidth, textWidth(triggerText(&rows[i])))
	}
	left := margin + nameWidth + 2*padding + triggerWidth + 2*padding
	title := 0.0
	for _, column := range columns {
		title = max(title, textWidth(column))
	}
	header := title*math.Sin(slant) + 2*margin
	width := left + cell*float64(len(columns)) + title*math.Cos(slant)
	var d drawing
	for i, column := range columns {
		x := left + cell*float64(i) + cell/2 + 4
		d.addf(`<text transform="translate(%.1f %.1f) rotate(%.0f)">%s</text>`, x, header-8, -slant*180/math.Pi, escape(column))
	}
	y, kind := header, ""
	for i := range rows {
		f := &rows[i]
		if triggerKind(f) != kind {
			kind = triggerKind(f)
			y += lineHeight + 6
			d.text(margin, y-6, "h", kindTitles[kind])
		}
		d.addf(`<path d="M%d %.1fH%.1f" class="g"/>`, margin, y, left+cell*float64(len(columns)))
		d.text(margin, y+14, "", f.Name)
		d.text(margin+nameWidth+2*padding, y+14, "m", triggerText(f))
		for j, column := range columns {
			drawRight(&d, left+cell*float64(j), y, rightTo(f, column))
		}
		y += rowHeight
	}
	return d.finish(width, y+margin, "What each function may touch",
		"A table of functions and what they may read (r) and write (w): records of the database, the search index, queues, connections and secrets.")
}

func drawRight(d *drawing, x, y float64, right string) {
	class := map[string]string{"r": "r", "w": "w", "rw": "b"}[right]
	if class == "" {
		return
	}
	d.rect(x+2, y+2, cell-4, rowHeight-4, 3, class)
	d.text(x+(cell-textWidth(right))/2, y+14, "", right)
}

// kindTitles are the headings, in their order of kinds.
var (
	kinds      = []string{"REST", "Authorizer", "Queue", "Schedule", "Rotation", "WebSocket"}
	kindTitles = map[string]string{
		"REST": "REST API", "Authorizer": "Authorizer of both APIs", "Queue": "Workers", "Schedule": "Schedules", "Rotation": "Rotation", "WebSocket": "WebSocket API",
	}
)

// rightsRows returns the functions by what invokes them.
func rightsRows(functions []manifest.Function) []manifest.Function {
	rows := slices.Clone(functions)
	slices.SortStableFunc(rows, func(a, b manifest.Function) int {
		return slices.Index(kinds, triggerKind(&a)) - slices.Index(kinds, triggerKind(&b))
	})
	return rows
}

// rightsColumns returns what the functions touch, by where it lives.
func rightsColumns(functions []manifest.Function) (columns []string) {
	for _, d := range manifest.Dependencies() {
		var own []string
		for i := range functions {
			for _, g := range functions[i].Grants {
				if name := columnOf(g.Resource); g.Resource.Dependency() == d && !slices.Contains(own, name) {
					own = append(own, name)
				}
			}
		}
		slices.Sort(own)
		columns = append(columns, own...)
	}
	return columns
}

func columnOf(r manifest.Resource) string {
	name, is := r.Queue()
	switch {
	case is && isDeadLetters(name):
		return deadLetters
	case is:
		return "queue " + string(name)
	}
	return string(r)
}

// rightTo returns r, w, rw or "".
func rightTo(f *manifest.Function, column string) string {
	read, write := false, false
	for _, g := range f.Grants {
		if columnOf(g.Resource) == column {
			read, write = read || g.Read, write || g.Write
		}
	}
	switch {
	case read && write:
		return "rw"
	case read:
		return "r"
	case write:
		return "w"
	}
	return ""
}

// triggerText says what invokes a function.
func triggerText(f *manifest.Function) string {
	switch t := f.Trigger; {
	case t.Route != nil:
		return t.Route.Method + " " + t.Route.Path
	case t.Socket != nil:
		return t.Socket.Key
	case t.Schedule != nil:
		return "every " + interval(t.Schedule.Every)
	case t.Rotation != nil:
		return "every " + strconv.Itoa(t.Rotation.Days()) + " days"
	case len(t.Queues) > 0:
		var names []string
		for _, q := range t.Queues {
			names = append(names, string(q.Queue))
		}
		return strings.Join(names, ", ")
	}
	return ""
}

func interval(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}
