// Package page renders the documentation page of the API from package apispec.
package page

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

//go:embed page.html.tmpl chapters.html.tmpl
var templates embed.FS

//go:embed page.css
var style string

//go:embed page.js
var script string

//go:embed stream.mjs
var streamClient string

// content is what the template shows.
type content struct {
	Style        template.CSS
	Script       template.JS
	Facts        []fact
	Roles        []access.Role
	Permissions  []permission
	StreamPath   string
	StreamClient string
	BasePath     string
	FirstExample *example
	Groups       []group
	TypePrefix   string
	Kinds        []httpapi.ProblemKind
	Components   []apispec.Component
}

// fact is one line of the introduction. Backquotes in Text mark code.
type fact struct{ Title, Text string }

// permission is a permission with the operations that need it.
type permission struct {
	Name       access.Permission
	Operations []apispec.Operation
}

// group is the operations under one heading.
type group struct {
	Name       string
	Operations []operation
}

// Stream reports whether the messages of the WebSocket belong under the heading.
func (g group) Stream() bool {
	return slices.ContainsFunc(g.Operations, func(op operation) bool { return op.Name == "create-stream-ticket" })
}

// operation is an operation with its examples.
type operation struct {
	apispec.Operation
	Examples []example
}

// example is an exchange. The request is in each of the languages.
type example struct {
	Title    string
	Requests []snippet
	Response *apispec.ExampleResponse // nil: not recorded
	accepted *apispec.ExampleRequest  // nil: the response is a problem
}

// Render returns the page: one HTML text that loads nothing from elsewhere.
func Render() ([]byte, error) {
	t, err := template.New("page.html.tmpl").Funcs(template.FuncMap{
		"prose": prose, "slug": slug, "lower": strings.ToLower, "pathParts": pathParts, "languages": languages, "answer": answer,
		"statusText": http.StatusText, "alternatives": alternatives, "limits": limits,
		"choices": choices, "rows": rows, "parameterText": parameterText,
	}).ParseFS(templates, "*.tmpl")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	c, err := newContent()
	if err != nil {
		return nil, err
	}
	if err := t.Execute(&out, c); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func newContent() (*content, error) {
	c := &content{
		Style: template.CSS(style), Script: template.JS(script), Facts: facts(), Roles: access.Roles(), Permissions: permissions(),
		StreamPath: manifest.BasePath + manifest.StreamPath, StreamClient: strings.TrimSpace(streamClient), BasePath: manifest.BasePath,
		TypePrefix: httpapi.ProblemTypePrefix, Kinds: httpapi.ProblemKinds(), Components: apispec.Components(),
	}
	recorded := apispec.Examples()
	for _, op := range apispec.Operations() {
		examples, err := newExamples(&op.Route, recorded[op.Name])
		if err != nil {
			return nil, err
		}
		if op.Name == "create-log" {
			c.FirstExample = &examples[0]
		}
		if len(c.Groups) == 0 || c.Groups[len(c.Groups)-1].Name != op.Group {
			c.Groups = append(c.Groups, group{Name: op.Group})
		}
		last := &c.Groups[len(c.Groups)-1]
		last.Operations = append(last.Operations, operation{op, examples})
	}
	return c, nil
}

// permissions returns the permissions that an operation needs, with these operations.
func permissions() []permission {
	var all []permission
	for _, name := range access.Permissions() {
		p := permission{Name: name}
		for _, op := range apispec.Operations() {
			if op.Route.Permission == name {
				p.Operations = append(p.Operations, op)
			}
		}
		if len(p.Operations) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// newExamples returns the recorded examples of a route, those that succeed first. Without
// one, it is the bare request.
func newExamples(route *manifest.Route, recorded []apispec.Example) ([]example, error) {
	if len(recorded) == 0 {
		requests, err := snippets(newRequest(route, apispec.ExampleRequest{Method: route.Method, Target: route.Path}))
		return []example{{Title: "The request", Requests: requests}}, err
	}
	all := make([]example, len(recorded))
	for i := range recorded {
		r := &recorded[i]
		requests, err := snippets(newRequest(route, r.Request))
		if err != nil {
			return nil, err
		}
		all[i] = example{Title: r.Title, Requests: requests, Response: &r.Response}
		if r.Response.Status < http.StatusBadRequest {
			all[i].accepted = &r.Request
		}
	}
	slices.SortStableFunc(all, func(a, b example) int { return cmp.Compare(a.Response.Status/400, b.Response.Status/400) })
	return all, nil
}

func facts() []fact {
	return []fact{
		{"Base", "`" + manifest.BasePath + "`"},
		{"Credential", "`Authorization: Bearer <JWT>` or `Authorization: ApiKey <secret>`."},
		{"Tenant", "`X-Tenant-ID`, unless the path names the tenant. A credential of one tenant, such as an API key, needs none."},
		{"Errors", "Problem documents (RFC 9457) with `request_id` and one item for each faulty value. Unknown query parameters are refused."},
		{"Lists", "`?limit=` up to 1,000. Pass `next` or `prev` back as `?cursor=`."},
		{"Repeating a write", "Send `timestamp` and an idempotency key. The entry is then stored once, however often you send it."},
		{"Compression", fmt.Sprintf("Answers over %d KiB are gzip-compressed if the client accepts it. Bodies may be sent with `Content-Encoding: gzip` or `zstd`.", httpapi.MinGzip>>10)},
		{"Tracing", "`X-Request-Id` comes back in the answer, in its problem document and in the service's log."},
	}
}

// OrderedParameters returns the parameters as the page lists them: path, query, header.
func (op operation) OrderedParameters() []apispec.Parameter {
	places := []string{apispec.InPath, apispec.InQuery, apispec.InHeader}
	ordered := slices.Clone(op.Parameters)
	slices.SortStableFunc(ordered, func(a, b apispec.Parameter) int {
		return slices.Index(places, a.In) - slices.Index(places, b.In)
	})
	return ordered
}

// FormParameters returns the parameters of the form that sends a request. The
// tenant's header has a field of its own, for all forms.
func (op operation) FormParameters() []apispec.Parameter {
	return slices.DeleteFunc(op.OrderedParameters(), func(p apispec.Parameter) bool { return p.Name == manifest.TenantHeader })
}

// BasePath returns the path that the route's is relative to.
func (operation) BasePath() string { return manifest.BasePath }

// TenantInHeader reports whether the request names its tenant in a header.
func (op operation) TenantInHeader() bool { return op.Route.TenantFrom == manifest.TenantFromHeader }

// FormBody returns the body that the form starts with: that of the first example
// that succeeds, or an empty one.
func (op operation) FormBody() formBody {
	for _, e := range op.Examples {
		if e.accepted != nil && e.accepted.Body != "" {
			return formBody{e.accepted.Header.Get("Content-Type"), indented(e.accepted.Body)}
		}
	}
	return formBody{httpapi.MediaJSON, ""}
}

type formBody struct{ MediaType, Text string }

// prose returns text as HTML. Text between backquotes becomes code.
func prose(text string) template.HTML {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			out.WriteString("<code>" + template.HTMLEscapeString(part) + "</code>")
			continue
		}
		out.WriteString(template.HTMLEscapeString(part))
	}
	return template.HTML(out.String())
}

func slug(text string) string { return strings.ReplaceAll(strings.ToLower(text), " ", "-") }

// pathParts returns the segments of a path. The page lets a path break after each slash.
func pathParts(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// parameterText describes a parameter.
func parameterText(p apispec.Parameter) string {
	if p.Repeatable {
		return p.Description + " Can be repeated: any of the values matches."
	}
	return p.Description
}

// choices returns the values that a form offers for a parameter, or nil for any text.
func choices(p apispec.Parameter) []string {
	if len(p.Schema.AnyOf) > 0 {
		return p.Schema.AnyOf[0].Enum
	}
	return p.Schema.Enum
}

// row is a property of a component, those of nested objects included.
type row struct {
	Path     string
	Required bool
	Schema   *apispec.Schema
}

func rows(s *apispec.Schema) []row { return appendRows(nil, "", s) }

func appendRows(all []row, prefix string, s *apispec.Schema) []row {
	for _, p := range s.Properties {
		path := prefix + p.Name
		all = append(all, row{path, p.Required, p.Schema})
		if p.Schema.Type == "object" {
			all = appendRows(all, path+".", p.Schema)
		}
		if p.Schema.Items != nil && p.Schema.Items.Type == "object" {
			all = appendRows(all, path+"[].", p.Schema.Items)
		}
	}
	return all
}

// alternatives leaves out the schemas of null, of the empty string and of any value.
func alternatives(s *apispec.Schema) []*apispec.Schema {
	return slices.DeleteFunc(slices.Clone(s.AnyOf), func(s *apispec.Schema) bool {
		return s.Type == "" && s.Ref == "" || s.Type == "null" || slices.Equal(s.Enum, []string{""})
	})
}

func limits(s *apispec.Schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf(", %d to %d", *s.Minimum, *s.Maximum)
	case s.MaxLength > 0:
		return fmt.Sprintf(", up to %d", s.MaxLength)
	case s.MaxItems > 0:
		return fmt.Sprintf(", up to %d", s.MaxItems)
	}
	return ""
}

// answer returns a response as it arrives: header fields, a blank line and the body.
func answer(r *apispec.ExampleResponse) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		out.WriteString(httpapi.HeaderName(name) + ": " + r.Header.Get(name) + "\n")
	}
	if r.Body != "" {
		out.WriteString("\n" + indented(r.Body))
	}
	return out.String()
}

// indented indents a JSON text. It returns any other text unchanged.
func indented(body string) string {
	var out bytes.Buffer
	if strings.Contains(strings.TrimSpace(body), "}\n{") || json.Indent(&out, []byte(body), "", "  ") != nil {
		return body
	}
	return out.String()
}
