package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// page writes the documentation page. It is written by hand rather than with
// html/template, which every function's binary would then initialise.
type page struct{ b bytes.Buffer }

// Docs returns the documentation page: one HTML text made from the same table
// as the OpenAPI document, with nothing to load from elsewhere.
func Docs() []byte {
	p := &page{}
	routes, exchanges := routesByFunction(), recorded()
	p.markup(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`)
	p.markup(`<meta name="color-scheme" content="light dark"><title>Ocelot API</title><link rel="icon" href="data:,"><style>`, pageStyle, `</style></head><body>`)
	p.markup(`<a class="skip" href="#main">Skip to content</a>`)
	p.navigation(routes)
	p.markup(`<main id="main">`)
	p.introduction(exchanges)
	group := ""
	for _, op := range operations() {
		if op.group != group {
			group = op.group
			p.markup(`<h2 id="`, slug(group), `">`, prose(group), `</h2>`)
		}
		f := routes[op.function]
		p.operation(&op, &f, exchanges[op.function])
	}
	p.problems()
	p.schemas()
	p.markup(`</main><script>`, pageScript, `</script></body></html>`, "\n")
	return p.b.Bytes()
}

// markup writes HTML as it is: constants, and what prose and its like return.
func (p *page) markup(parts ...string) {
	for _, part := range parts {
		p.b.WriteString(part)
	}
}

// prose escapes text for HTML. What stands between backquotes becomes code.
func prose(text string) string {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			out.WriteString("<code>" + html.EscapeString(part) + "</code>")
			continue
		}
		out.WriteString(html.EscapeString(part))
	}
	return out.String()
}

func slug(text string) string { return strings.ReplaceAll(strings.ToLower(text), " ", "-") }

func (p *page) navigation(routes map[string]manifest.Function) {
	p.markup(`<nav aria-label="Contents"><a class="brand" href="#top"><svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">`,
		`<path d="M5 4l6 5h10l6-5v13a11 11 0 0 1-22 0z" fill="currentColor"/><circle cx="12" cy="17" r="2.2" class="eye"/><circle cx="20" cy="17" r="2.2" class="eye"/></svg>Ocelot</a>`)
	p.markup(`<ul><li><a href="#top">Start here</a></li></ul>`)
	group := ""
	for _, op := range operations() {
		if op.group != group {
			if group != "" {
				p.markup(`</ul>`)
			}
			group = op.group
			p.markup(`<h2>`, prose(group), `</h2><ul>`)
		}
		route := routes[op.function].Trigger.Route
		p.markup(`<li><a href="#`, op.function, `">`, methodBadge(route.Method), `<span>`, pathMarkup(route.Path), `</span></a></li>`)
	}
	p.markup(`</ul><h2>Reference</h2><ul><li><a href="#problems">Problems</a></li><li><a href="#schemas">Schemas</a></li>`,
		`<li><a href="openapi.json">openapi.json</a></li></ul></nav>`)
}

func methodBadge(method string) string {
	return `<b class="method ` + strings.ToLower(method) + `">` + method + `</b>`
}

// pathMarkup lets a long path break at its slashes and shows its parameters apart.
func pathMarkup(path string) string {
	path = html.EscapeString(path)
	return breakable(strings.NewReplacer("{", `<i>{`, "}", `}</i>`).Replace(path))
}

// breakable adds break opportunities after slashes outside of tags.
func breakable(path string) string {
	var out strings.Builder
	for i := range len(path) {
		out.WriteByte(path[i])
		if path[i] == '/' && (i == 0 || path[i-1] != '<') {
			out.WriteString("<wbr>")
		}
	}
	return out.String()
}

func (p *page) introduction(exchanges map[string][]exchange) {
	p.markup(`<header id="top"><h1>Ocelot API</h1><p class="lead">An audit-log service: who did what, to which resource, when, from where and what changed.</p></header>`)
	p.markup(`<section class="facts"><dl>`)
	for _, fact := range [][2]string{
		{"Base", "`" + manifest.BasePath + "`"},
		{"Who asks", "`Authorization: Bearer <JWT>` or `Authorization: ApiKey <secret>`."},
		{"Which tenant", "`X-Tenant-ID: acme`, except where the path names the tenant. A tenant that the credential does not open answers 403, whether it exists or not."},
		{"Errors", "Problem documents (RFC 9457) with `request_id` and one item for each faulty value. Unknown query parameters are refused."},
		{"Lists", "`?limit=` up to 1,000; pass `next` or `prev` back as `?cursor=`."},
		{"Repeating a write", "Send `timestamp` and an idempotency key: however often the entry then arrives, it is stored once."},
		{"Compression", "Answers over 1 KiB are gzipped where accepted; bodies may be sent with `Content-Encoding: gzip` or `zstd`."},
		{"Tracing", "`X-Request-Id` comes back in the answer, in its problem document and in the service's log."},
	} {
		p.markup(`<div><dt>`, prose(fact[0]), `</dt><dd>`, prose(fact[1]), `</dd></div>`)
	}
	p.markup(`</dl></section>`)
	p.roles()
	if first := exchanges["create-log"]; len(first) > 0 {
		p.markup(`<section><h3>Your first entry</h3>`)
		p.exchange(&first[0])
		p.markup(`</section>`)
	}
	p.markup(`<section class="credentials" aria-label="Credentials for trying requests"><h3>Try requests from this page</h3>`,
		`<p>What you enter stays in this page's memory and is sent to this service alone. It is gone when the page is closed.</p>`,
		`<div class="inputs"><label>Token or API key<input id="token" type="password" autocomplete="off" spellcheck="false" placeholder="eyJ… or ocelot_…"></label>`,
		`<label>Tenant<input id="tenant" autocomplete="off" spellcheck="false" placeholder="acme"></label></div></section>`)
}

func (p *page) roles() {
	p.markup(`<section><h3>Roles</h3><div class="scroll"><table><thead><tr><th scope="col">Role</th><th scope="col">Permissions</th></tr></thead><tbody>`)
	for _, role := range access.Roles() {
		p.markup(`<tr><th scope="row"><code>`, string(role), `</code></th><td class="words">`)
		for _, permission := range role.Permissions() {
			p.markup(`<code>`, string(permission), `</code> `)
		}
		p.markup(`</td></tr>`)
	}
	p.markup(`</tbody></table></div></section>`)
}

func (p *page) operation(op *operation, f *manifest.Function, exchanges []exchange) {
	route := f.Trigger.Route
	p.markup(`<article id="`, op.function, `" aria-labelledby="h-`, op.function, `"><header><h3 id="h-`, op.function, `">`, prose(f.Summary), `</h3>`)
	p.markup(`<p class="route">`, methodBadge(route.Method), ` <code>`, breakable(manifest.BasePath), pathMarkup(route.Path), `</code>`)
	if route.Permission != "" {
		p.markup(` <span class="permission" title="Permission that the credential needs">`, string(route.Permission), `</span>`)
	} else {
		p.markup(` <span class="permission public">public</span>`)
	}
	p.markup(`</p></header><p>`, prose(op.description), `</p>`)
	p.parameters(op, route)
	if op.body != nil {
		p.body(op.body)
	}
	p.answers(op)
	p.refusals(op.allRefusals(route))
	for i := range exchanges {
		p.markup(`<details class="example"><summary>Example: `, prose(exchanges[i].Title), ` <span class="status">`, strconv.Itoa(exchanges[i].Response.Status), `</span></summary>`)
		p.exchange(&exchanges[i])
		p.markup(`</details>`)
	}
	p.form(op, route, exchanges)
	p.markup(`</article>`)
}

// located is a parameter and where it stands.
type located struct {
	in string
	parameter
}

func (op *operation) allParameters(route *manifest.Route) []located {
	var all []located
	add := func(in string, parameters ...parameter) {
		for _, parameter := range parameters {
			all = append(all, located{in, parameter})
		}
	}
	add("path", op.path...)
	add("query", op.query...)
	if header := tenantHeaderParameter(route); header != nil {
		add("header", *header)
	}
	add("header", op.headers...)
	return all
}

func (p *page) parameters(op *operation, route *manifest.Route) {
	all := op.allParameters(route)
	if len(all) == 0 {
		return
	}
	p.table("Parameters", "Name", "In", "Value", "Meaning")
	for i := range all {
		name := all[i].name
		if all[i].free {
			name += ".<path>"
		}
		description := all[i].description
		if all[i].repeatable {
			description += " Can be given several times: any of the values."
		}
		p.markup(`<tr><th scope="row"><code>`, html.EscapeString(name), `</code>`, required(all[i].required), `</th><td>`, all[i].in, `</td><td>`, all[i].valueType(), `</td><td>`, prose(description), `</td></tr>`)
	}
	p.endTable()
}

func (l *located) valueType() string {
	if l.free {
		return typeMarkup(l.schema.values)
	}
	return typeMarkup(l.schema)
}

func required(yes bool) string {
	if yes {
		return ` <em class="required">required</em>`
	}
	return ""
}

func (p *page) table(caption string, columns ...string) {
	p.markup(`<div class="scroll"><table><caption>`, prose(caption), `</caption><thead><tr>`)
	for _, column := range columns {
		p.markup(`<th scope="col">`, prose(column), `</th>`)
	}
	p.markup(`</tr></thead><tbody>`)
}

func (p *page) endTable() { p.markup(`</tbody></table></div>`) }

func (p *page) body(b *requestBody) {
	p.markup(`<p class="body"><strong>Body:</strong> `, prose(b.description), ` `, typeMarkup(b.schema), ` as `)
	for i, media := range b.media {
		if i > 0 {
			p.markup(`, `)
		}
		p.markup(`<code>`, media, `</code>`)
		if b.lines && media != mediaJSON {
			p.markup(` (one a line)`)
		}
	}
	p.markup(`.</p>`)
}

func (p *page) answers(op *operation) {
	p.table("Answers", "Status", "Meaning", "Body")
	for i := range op.answers {
		a := &op.answers[i]
		body := "none"
		if a.media != "" {
			body = typeMarkup(a.schema)
			if a.schema.ref == "" {
				body = `<code>` + a.media + `</code>`
			}
		}
		p.markup(`<tr><th scope="row"><span class="status">`, strconv.Itoa(a.status), `</span></th><td>`, prose(a.description), `</td><td>`, body, `</td></tr>`)
	}
	p.endTable()
}

func (p *page) refusals(refusals []refusal) {
	p.markup(`<details><summary>Errors</summary>`)
	p.table("Problems that this operation answers with", "Status", "Type", "When")
	for _, r := range refusals {
		p.markup(`<tr><th scope="row"><span class="status">`, strconv.Itoa(r.kind.status), `</span></th><td><code>`, r.kind.code, `</code></td><td>`, prose(r.when), `</td></tr>`)
	}
	p.endTable()
	p.markup(`</details>`)
}

// exchange shows a request as a curl command and its answer.
func (p *page) exchange(e *exchange) {
	p.markup(`<figure><figcaption>Request</figcaption><pre tabindex="0"><code>`, html.EscapeString(curl(&e.Request)), `</code></pre>`)
	p.markup(`<figcaption>Answer <span class="status">`, strconv.Itoa(e.Response.Status), ` `, http.StatusText(e.Response.Status), `</span></figcaption><pre tabindex="0"><code>`)
	for _, name := range sortedHeader(e.Response.Header) {
		p.markup(html.EscapeString(headerName(name)+": "+e.Response.Header.Get(name)), "\n")
	}
	if e.Response.Body != "" {
		p.markup("\n", html.EscapeString(indented(e.Response.Body)))
	}
	p.markup(`</code></pre></figure>`)
}

func sortedHeader(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// curl is the request as a command for a shell with OCELOT_URL and OCELOT_TOKEN.
func curl(r *exampleRequest) string {
	var out strings.Builder
	out.WriteString("curl ")
	if r.Method != http.MethodGet {
		out.WriteString("-X " + r.Method + " ")
	}
	fmt.Fprintf(&out, `"$OCELOT_URL%s%s"`, manifest.BasePath, strings.ReplaceAll(r.Target, "$", `\$`))
	for _, name := range sortedHeader(r.Header) {
		if name == "Authorization" {
			out.WriteString(" \\\n  -H \"Authorization: Bearer $OCELOT_TOKEN\"")
			continue
		}
		out.WriteString(" \\\n  -H " + shellQuote(headerName(name)+": "+r.Header.Get(name)))
	}
	if r.Body != "" {
		out.WriteString(" \\\n  --data-binary " + shellQuote(indented(r.Body)))
	}
	return out.String()
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// indented lays JSON out for people; any other text stays as it is.
func indented(body string) string {
	var out bytes.Buffer
	if strings.Contains(strings.TrimSpace(body), "}\n{") || json.Indent(&out, []byte(body), "", "  ") != nil {
		return body
	}
	return out.String()
}

// form lets the reader send the request from the page.
func (p *page) form(op *operation, route *manifest.Route, exchanges []exchange) {
	p.markup(`<details class="try"><summary>Try it</summary><form data-method="`, route.Method, `" data-path="`, html.EscapeString(route.Path),
		`" data-secured="`, strconv.FormatBool(route.Permission != ""), `" data-tenant="`, strconv.FormatBool(route.TenantFrom == manifest.TenantFromHeader), `">`)
	p.markup(`<div class="inputs">`)
	for _, l := range op.allParameters(route) {
		if l.name == "X-Tenant-ID" {
			continue
		}
		p.input(&l)
	}
	p.markup(`</div>`)
	if op.body != nil {
		media, body := mediaJSON, ""
		for i := range exchanges {
			if exchanges[i].Response.Status < http.StatusBadRequest && exchanges[i].Request.Body != "" {
				media, body = exchanges[i].Request.Header.Get("Content-Type"), indented(exchanges[i].Request.Body)
				break
			}
		}
		p.markup(`<label>Body<textarea name="body" rows="10" spellcheck="false" data-media="`, media, `">`, html.EscapeString(body), `</textarea></label>`)
	}
	p.markup(`<button type="submit">Send</button><output aria-live="polite"></output></form></details>`)
}

func (p *page) input(l *located) {
	p.markup(`<label>`)
	if l.free {
		p.markup(`metadata.&lt;path&gt;=value`)
	} else {
		p.markup(html.EscapeString(l.name))
	}
	p.markup(required(l.required))
	choices := l.schema.enum
	if len(l.schema.anyOf) > 0 {
		choices = l.schema.anyOf[0].enum
	}
	if len(choices) > 0 {
		p.markup(`<select data-in="`, l.in, `" name="`, l.name, `"><option value=""></option>`)
		for _, value := range choices {
			p.markup(`<option>`, html.EscapeString(value), `</option>`)
		}
		p.markup(`</select></label>`)
		return
	}
	in := l.in
	if l.free {
		in = "pair"
	}
	p.markup(`<input data-in="`, in, `" name="`, html.EscapeString(l.name), `" autocomplete="off" spellcheck="false"`)
	if l.required {
		p.markup(` required`)
	}
	p.markup(`></label>`)
}

func (p *page) problems() {
	p.markup(`<h2 id="problems">Problems</h2><article><p>The <code>type</code> of a problem document is <code>`, problemTypePrefix, `</code> and one of these words.</p>`)
	p.table("Kinds of problem", "Status", "Type", "Title")
	for _, k := range kinds() {
		p.markup(`<tr><th scope="row"><span class="status">`, strconv.Itoa(k.status), `</span></th><td><code>`, k.code, `</code></td><td>`, prose(k.title), `</td></tr>`)
	}
	p.endTable()
	p.markup(`</article>`)
}

func (p *page) schemas() {
	p.markup(`<h2 id="schemas">Schemas</h2>`)
	for _, c := range components() {
		p.markup(`<article id="schema-`, c.name, `"><h3>`, c.name, `</h3>`)
		if c.schema.description != "" {
			p.markup(`<p>`, prose(c.schema.description), `</p>`)
		}
		p.table(c.name, "Field", "Value", "Meaning")
		p.fields("", c.schema)
		p.endTable()
		p.markup(`</article>`)
	}
}

// fields writes a row for each field, those of objects inside it included.
func (p *page) fields(prefix string, s *schema) {
	for _, f := range s.fields {
		p.markup(`<tr><th scope="row"><code>`, html.EscapeString(prefix+f.name), `</code>`, required(f.required), `</th><td>`, typeMarkup(f.schema), `</td><td>`, prose(f.schema.description), `</td></tr>`)
		if f.schema.kind == "object" {
			p.fields(prefix+f.name+".", f.schema)
		}
		if f.schema.items != nil && f.schema.items.kind == "object" {
			p.fields(prefix+f.name+"[].", f.schema.items)
		}
	}
}

// typeMarkup describes what a value looks like.
func typeMarkup(s *schema) string {
	switch {
	case s.ref != "":
		return `<a href="#schema-` + s.ref + `">` + s.ref + `</a>`
	case s.kind == "array":
		return "array of " + typeMarkup(s.items) + limits(s)
	case len(s.anyOf) > 0:
		return alternatives(s.anyOf) + initialMarkup(s)
	case len(s.enum) > 0:
		values := make([]string, len(s.enum))
		for i, v := range s.enum {
			values[i] = `<code>` + html.EscapeString(v) + `</code>`
		}
		return strings.Join(values, " ") + initialMarkup(s)
	case s.format == "date-time":
		return "RFC 3339 time"
	case s.format == "ipv4":
		return "IPv4 address"
	case s.format == "ipv6":
		return "IPv6 address"
	case s.format == "uuid":
		return "UUID, version 7"
	case s.kind == "":
		return "anything"
	}
	return s.kind + limits(s) + initialMarkup(s)
}

// alternatives leaves out the ways of giving nothing and of giving anything.
func alternatives(schemas []*schema) string {
	var parts []string
	for _, s := range schemas {
		if s.kind == "" && s.ref == "" || s.kind == "null" || slices.Equal(s.enum, []string{""}) {
			continue
		}
		parts = append(parts, typeMarkup(s))
	}
	return strings.Join(parts, " or ")
}

func limits(s *schema) string {
	switch {
	case s.minimum != nil && s.maximum != nil:
		return fmt.Sprintf(", %d to %d", *s.minimum, *s.maximum)
	case s.maxLength > 0:
		return fmt.Sprintf(", up to %d", s.maxLength)
	case s.maxItems > 0:
		return fmt.Sprintf(", up to %d", s.maxItems)
	}
	return ""
}

func initialMarkup(s *schema) string {
	if s.initial == nil {
		return ""
	}
	return ` <span class="default">default ` + html.EscapeString(fmt.Sprint(s.initial)) + `</span>`
}
