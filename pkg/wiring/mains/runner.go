package mains

import (
	"slices"
	"text/template"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// table collects the handlers of the local runner's table.
type table struct {
	imports  []string
	handlers map[trigger][]entry
}

// entry is one function of the table.
type entry struct{ Name, Handler string }

func newTable() *table {
	return &table{
		imports:  []string{"context", "net/http", module + "pkg/edge/httpapi", module + "pkg/edge/lambdaedge", module + "pkg/wiring"},
		handlers: map[trigger][]entry{},
	}
}

func (t *table) add(f manifest.Function, h handler) {
	kind := triggerOf(f)
	t.imports = append(t.imports, h.imports...)
	t.handlers[kind] = append(t.handlers[kind], entry{Name: f.Name, Handler: h.expression("s")})
}

var tableTemplate = template.Must(template.New("table").Parse(`// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

package localcloud

import (
{{range .Standard}}	"{{.}}"
{{end}}
{{range .Own}}	"{{.}}"
{{end}})

// HTTPFunctions returns the handlers of routes by function name, as the mains start them.
func HTTPFunctions(s HTTPServices) map[string]http.Handler {
	return map[string]http.Handler{
{{range .Handlers.route}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// ConnectFunctions returns the handlers of $connect by function name, as the mains start them.
func ConnectFunctions(s *wiring.Services) map[string]http.Handler {
	return map[string]http.Handler{
{{range .Handlers.connect}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// MessageFunctions returns the handlers of WebSocket messages by function name, as the mains start them.
func MessageFunctions(s *wiring.Services) map[string]httpapi.Message {
	return map[string]httpapi.Message{
{{range .Handlers.message}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// QueueFunctions returns the handlers of batches of messages by function name, as the mains start them.
func QueueFunctions(s *wiring.Services) map[string]lambdaedge.BatchHandler {
	return map[string]lambdaedge.BatchHandler{
{{range .Handlers.queue}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// ScheduleFunctions returns the scheduled runs by function name, as the mains start them.
func ScheduleFunctions(s *wiring.Services) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
{{range .Handlers.schedule}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// AuthorizerFunctions returns the authorizers by function name, as the mains start them.
func AuthorizerFunctions(s *wiring.Services) map[string]lambdaedge.Callers {
	return map[string]lambdaedge.Callers{
{{range .Handlers.authorizer}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}

// RotationFunctions returns the functions that rotate secrets by function name, as the mains start
// them. The runner has no secrets that rotate.
func RotationFunctions(s *wiring.Services) map[string]lambdaedge.RotateFunc {
	return map[string]lambdaedge.RotateFunc{
{{range .Handlers.rotation}}		"{{.Name}}": {{.Handler}},
{{end}}	}
}
`))

func (t *table) render() ([]byte, error) {
	var standard, own []string
	for _, name := range sorted(t.imports) {
		if isOwn(name) {
			own = append(own, name)
		} else {
			standard = append(standard, name)
		}
	}
	handlers := map[string][]entry{}
	for kind, entries := range t.handlers {
		handlers[string(kind)] = entries
	}
	return render(tableTemplate, map[string]any{"Standard": standard, "Own": own, "Handlers": handlers})
}

// sorted returns the texts in order, each once.
func sorted(texts []string) []string {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return slices.Compact(texts)
}
