package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// OpenAPI returns the OpenAPI 3.1 document of every function of the manifest
// that has a route. It is the same text every time; `go generate` keeps it as
// openapi.json, which GetOpenAPI serves.
func OpenAPI() []byte {
	paths := map[string]map[string]any{}
	routes := routesByFunction()
	exchanges := recorded()
	for _, op := range operations() {
		f := routes[op.function]
		route := f.Trigger.Route
		if paths[route.Path] == nil {
			paths[route.Path] = map[string]any{}
		}
		paths[route.Path][strings.ToLower(route.Method)] = op.document(&f, exchanges[op.function])
	}
	schemas := map[string]any{}
	for _, c := range components() {
		schemas[c.name] = c.schema.document()
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(map[string]any{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
		"info":              info(),
		"servers":           []any{map[string]any{"url": manifest.BasePath}},
		"tags":              tags(),
		"paths":             paths,
		"components":        map[string]any{"schemas": schemas, "securitySchemes": securitySchemes()},
	}); err != nil {
		panic("httpapi: the OpenAPI document cannot be written: " + err.Error()) // maps of plain values always can
	}
	return out.Bytes()
}

func routesByFunction() map[string]manifest.Function {
	routes := map[string]manifest.Function{}
	for _, f := range manifest.Functions() {
		if f.Trigger.Route != nil {
			routes[f.Name] = f
		}
	}
	return routes
}

func info() map[string]any {
	return map[string]any{
		"title":   "Ocelot",
		"version": "1",
		"description": "An audit-log service: who did what, to which resource, when, from where and what changed.\n\n" +
			"Every request carries `Authorization` and, where its path does not name the tenant, `X-Tenant-ID`. " +
			"Every answer carries `X-Request-Id`, the client's own where it sent one. " +
			"Errors are problem documents of RFC 9457. Answers over 1 KiB are gzip-compressed where the client accepts it. " +
			"Lists page by opaque cursors: pass `next` or `prev` as `?cursor=`. " +
			"Unknown query parameters are refused, and so is a single-valued one that is given twice. " +
			"Lengths of text are counted in bytes of UTF-8.",
	}
}

func tags() []any {
	var tags []any
	seen := map[string]bool{}
	for _, op := range operations() {
		if !seen[op.group] {
			seen[op.group] = true
			tags = append(tags, map[string]any{"name": op.group})
		}
	}
	return tags
}

func securitySchemes() map[string]any {
	return map[string]any{
		"bearer": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
			"description": "A JWT with the claims sub, tenants and role."},
		"apiKey": map[string]any{"type": "apiKey", "in": "header", "name": "Authorization",
			"description": "`ApiKey <secret>`: a key of one tenant, which needs no JWT."},
	}
}

func (op *operation) document(f *manifest.Function, exchanges []exchange) map[string]any {
	route := f.Trigger.Route
	d := map[string]any{
		"operationId": f.Name, "summary": f.Summary, "description": op.description, "tags": []string{op.group},
		"responses": op.documentResponses(route, exchanges),
		"security":  []any{},
	}
	if route.Permission != "" {
		d["description"] = op.description + "\n\nPermission: `" + string(route.Permission) + "`."
		d["security"] = []any{map[string]any{"bearer": []any{}}, map[string]any{"apiKey": []any{}}}
	}
	if parameters := op.documentParameters(route); len(parameters) > 0 {
		d["parameters"] = parameters
	}
	if op.body != nil {
		d["requestBody"] = op.body.document(exchanges)
	}
	return d
}

// tenantHeaderParameter is X-Tenant-ID where the route takes it, nil elsewhere.
func tenantHeaderParameter(route *manifest.Route) *parameter {
	p := &parameter{name: "X-Tenant-ID", schema: tenantIDSchema("")}
	switch route.TenantFrom {
	case manifest.TenantFromHeader:
		p.required, p.description = true, "The tenant whose log it is."
		return p
	case manifest.TenantFromPath, manifest.TenantNone:
	}
	return nil
}

func (op *operation) documentParameters(route *manifest.Route) []any {
	var out []any
	add := func(in string, parameters ...parameter) {
		for i := range parameters {
			out = append(out, parameters[i].document(in))
		}
	}
	if p := tenantHeaderParameter(route); p != nil {
		add("header", *p)
	}
	add("path", op.path...)
	add("query", op.query...)
	add("header", op.headers...)
	return out
}

func (p *parameter) document(in string) map[string]any {
	d := map[string]any{"name": p.name, "in": in, "schema": p.schema.document()}
	if p.description != "" {
		d["description"] = p.description
	}
	if p.required {
		d["required"] = true
	}
	if p.repeatable {
		many := list(p.schema)
		many.minItems, many.maxItems = 1, search.MaxFilterValues
		d["schema"] = many.document()
	}
	if p.repeatable || p.free {
		d["style"], d["explode"] = "form", true
	}
	return d
}

func (b *requestBody) document(exchanges []exchange) map[string]any {
	content := map[string]any{}
	for _, media := range b.media {
		entry := map[string]any{"schema": b.schema.document()}
		if b.lines && media != mediaJSON {
			entry["schema"] = str("One JSON text a line, each as an element of the JSON form.").document()
		}
		// Tools that try examples know how to write JSON only; the page shows the others.
		if examples := requestExamples(exchanges, media); media == mediaJSON && len(examples) > 0 {
			entry["examples"] = examples
		}
		content[media] = entry
	}
	return map[string]any{"description": b.description, "required": true, "content": content}
}

func (op *operation) documentResponses(route *manifest.Route, exchanges []exchange) map[string]any {
	responses := map[string]any{}
	for i := range op.answers {
		a := &op.answers[i]
		responses[strconv.Itoa(a.status)] = a.document(exchanges)
	}
	refusals := op.allRefusals(route)
	for i := 0; i < len(refusals); {
		end := i + 1
		for end < len(refusals) && refusals[end].kind.status == refusals[i].kind.status {
			end++
		}
		status := strconv.Itoa(refusals[i].kind.status)
		responses[status] = documentRefusal(refusals[i:end], exchanges)
		i = end
	}
	return responses
}

func (a *answer) document(exchanges []exchange) map[string]any {
	d := map[string]any{"description": a.description}
	if !a.bare {
		d["headers"] = documentHeaders(a.headers)
	}
	if a.media != "" {
		content := map[string]any{"schema": a.schema.document()}
		if examples := responseExamples(exchanges, a.status); len(examples) > 0 {
			content["examples"] = examples
		}
		d["content"] = map[string]any{a.media: content}
	}
	return d
}

// documentHeaders describes the given headers and those of every answer.
func documentHeaders(headers []parameter) map[string]any {
	d := map[string]any{"X-Request-Id": map[string]any{
		"description": "Names the request in the service's log.", "required": true, "schema": str("").document(),
	}}
	for _, h := range headers {
		d[h.name] = map[string]any{"description": h.description, "required": h.required, "schema": h.schema.document()}
	}
	return d
}

// documentRefusal describes the problems of one status.
func documentRefusal(refusals []refusal, exchanges []exchange) map[string]any {
	status := refusals[0].kind.status
	lines := make([]string, len(refusals))
	for i, r := range refusals {
		lines[i] = "`" + r.kind.code + "`: " + r.when
	}
	content := map[string]any{"schema": ref("Problem").document()}
	if examples := responseExamples(exchanges, status); len(examples) > 0 {
		content["examples"] = examples
	}
	return map[string]any{
		"description": strings.Join(lines, "\n"),
		"headers":     documentHeaders(refusalHeaders(refusals)),
		"content":     map[string]any{"application/problem+json": content},
	}
}

// refusalHeaders are the headers that come with a problem's status.
func refusalHeaders(refusals []refusal) []parameter {
	var headers []parameter
	for _, r := range refusals {
		switch r.kind {
		case kindUnauthenticated:
			headers = append(headers, parameter{name: "WWW-Authenticate", required: true, schema: str(""), description: "The schemes that are taken."})
		case kindUnavailable, kindTooMany:
			headers = append(headers, parameter{name: "Retry-After", required: true, schema: count(""), description: "Seconds to wait."})
		case kindNotYet:
			headers = append(headers, parameter{name: "Retry-After", schema: count(""), description: "Seconds to wait, where the entry may be under way."})
		}
	}
	return headers
}

// GetOpenAPI answers GET /openapi.json.
func GetOpenAPI(gate *Gate) http.Handler {
	return gate.endpoint("get-openapi", func(c *call) (*response, error) {
		return &response{status: http.StatusOK, contentType: mediaJSON, body: openAPIFile}, nil
	})
}
