package page

import (
	"embed"
	"encoding/json"
	"fmt"
	"go/format"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// The variables that an example reads. ocelot dev prints them.
const (
	envURL    = "OCELOT_URL"
	envToken  = "OCELOT_TOKEN"
	envTenant = "OCELOT_TENANT"
)

// request is a request as the languages' templates show it.
type request struct {
	Method string
	URL    value
	Header []headerField
	Body   string
}

type headerField struct {
	Name  string
	Value value
}

// Line returns the field as it is sent.
func (h headerField) Line() value { return append(value{{text: h.Name + ": "}}, h.Value...) }

// value is a text that may contain variables of the environment.
type value []part

// part is a text, or the value of a variable.
type part struct{ text, variable string }

// newRequest replaces what an example was recorded with, its tenant and its token, by variables.
func newRequest(route *manifest.Route, r apispec.ExampleRequest) request {
	out := request{Method: r.Method, URL: newURL(route, r.Target), Body: indented(r.Body)}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		field := headerField{httpapi.HeaderName(name), value{{text: r.Header.Get(name)}}}
		switch field.Name {
		case "Authorization":
			field.Value = value{{text: "Bearer "}, {variable: envToken}}
		case manifest.TenantHeader:
			field.Value = value{{variable: envTenant}}
		}
		out.Header = append(out.Header, field)
	}
	return out
}

// newURL replaces the path parameter that names the tenant.
func newURL(route *manifest.Route, target string) value {
	all := value{{variable: envURL}}
	before, after, found := strings.Cut(route.Path, "{id}")
	if !found || route.TenantFrom != manifest.TenantFromPath {
		return append(all, part{text: manifest.BasePath + target})
	}
	all = append(all, part{text: manifest.BasePath + before}, part{variable: envTenant})
	if after != "" {
		all = append(all, part{text: target[len(before)+strings.Index(target[len(before):], "/"):]})
	}
	return all
}

// language is a language that the page shows requests in.
type language struct {
	ID, Name   string
	file       string                       // of the template
	expression func(v value) string         // a value in the language's syntax
	text       func(text string) string     // a text of several lines in the language's syntax
	format     func([]byte) ([]byte, error) // nil: none
}

func languages() []language {
	return []language{
		{"curl", "curl", "request.sh.tmpl", shellExpression, shellQuote, nil},
		{"go", "Go", "request.go.tmpl", sum(strconv.Quote, "os.Getenv(%q)"), goText, format.Source},
		{"javascript", "JavaScript", "request.mjs.tmpl", sum(quoteJSON, "process.env.%s"), javaScriptText, nil},
		{"python", "Python", "request.py.tmpl", sum(quoteJSON, "os.environ[%q]"), pythonText, nil},
	}
}

//go:embed request.*.tmpl
var requestTemplates embed.FS

// snippet is a request in a language.
type snippet struct{ Language, Text string }

func snippets(r request) ([]snippet, error) {
	var all []snippet
	for _, l := range languages() {
		text, err := l.render(r)
		if err != nil {
			return nil, fmt.Errorf("%s %s in %s: %w", r.Method, shellExpression(r.URL), l.Name, err)
		}
		all = append(all, snippet{l.ID, text})
	}
	return all, nil
}

func (l language) render(r request) (string, error) {
	t, err := template.New(l.file).Funcs(template.FuncMap{"expression": l.expression, "text": l.text}).ParseFS(requestTemplates, l.file)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, r); err != nil {
		return "", err
	}
	text := out.String()
	if l.format != nil {
		formatted, err := l.format([]byte(text))
		if err != nil {
			return "", err
		}
		text = string(formatted)
	}
	return strings.TrimSpace(text), nil
}

// sum returns what writes a value as quoted texts and variables with plus signs between them.
func sum(quote func(string) string, variable string) func(value) string {
	return func(v value) string {
		terms := make([]string, len(v))
		for i, p := range v {
			terms[i] = quote(p.text)
			if p.variable != "" {
				terms[i] = fmt.Sprintf(variable, p.variable)
			}
		}
		return strings.Join(terms, " + ")
	}
}

// quoteJSON returns a text as a JSON string, which is one in JavaScript and Python too.
func quoteJSON(text string) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic("page: " + err.Error()) // a string has a JSON form
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// shellExpression quotes a value with variables in double quotes, any other in single ones.
func shellExpression(v value) string {
	if !slices.ContainsFunc(v, func(p part) bool { return p.variable != "" }) {
		var out strings.Builder
		for _, p := range v {
			out.WriteString(p.text)
		}
		return shellQuote(out.String())
	}
	var out strings.Builder
	for _, p := range v {
		out.WriteString(shellSpecial.Replace(p.text))
		if p.variable != "" {
			out.WriteString("$" + p.variable)
		}
	}
	return `"` + out.String() + `"`
}

// shellSpecial escapes what has a meaning within double quotes.
var shellSpecial = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func goText(text string) string {
	if strconv.CanBackquote(strings.NewReplacer("\n", "", "\t", "").Replace(text)) {
		return "`" + text + "`"
	}
	return strconv.Quote(text)
}

func javaScriptText(text string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`", "${", `\${`, "\r", `\r`).Replace(text) + "`"
}

func pythonText(text string) string {
	return "'''" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\r", `\r`).Replace(text) + "'''"
}
