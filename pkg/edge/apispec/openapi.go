package apispec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// OpenAPI returns the OpenAPI 3.1 document of every function that has a route.
// It returns the same text every time. `go generate` writes it to openapi.json,
// which GetOpenAPI serves.
func OpenAPI() []byte {
	paths := map[string]map[string]any{}
	operations, examples := Operations(), Examples()
	for i := range operations {
		op := &operations[i]
		if paths[op.Route.Path] == nil {
			paths[op.Route.Path] = map[string]any{}
		}
		paths[op.Route.Path][strings.ToLower(op.Route.Method)] = op.document(examples[op.Name])
	}
	schemas := map[string]any{}
	for _, c := range Components() {
		schemas[c.Name] = c.Schema.document()
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
		"tags":              tags(operations),
		"paths":             paths,
		"components":        map[string]any{"schemas": schemas, "securitySchemes": securitySchemes()},
	}); err != nil {
		panic("apispec: the OpenAPI document cannot be written: " + err.Error()) // maps of plain values always can
	}
	return out.Bytes()
}

func info() map[string]any {
	return map[string]any{
		"title":   "Ocelot",
		"version": "1",
		"description": "An audit-log service: who did what, to which resource, when, from where and what changed.\n\n" +
			"Every request carries `Authorization` and, unless its path names the tenant or the credential is for one tenant alone, `" + manifest.TenantHeader + "`. " +
			"Every answer carries `" + manifest.RequestIDHeader + "`, the client's own if it sent one. " +
			fmt.Sprintf("Errors are problem documents of RFC 9457. Answers over %d KiB are gzip-compressed if the client accepts it. ", httpapi.MinGzip>>10) +
			"Lists page by opaque cursors: pass `next` or `prev` as `?cursor=`. " +
			"Unknown query parameters are refused, and so is a single-valued one that appears twice. " +
			"Lengths of text are counted in bytes of UTF-8.",
	}
}

func tags(operations []Operation) []any {
	var tags []any
	seen := map[string]bool{}
	for _, op := range operations {
		if !seen[op.Group] {
			seen[op.Group] = true
			tags = append(tags, map[string]any{"name": op.Group})
		}
	}
	return tags
}

func securitySchemes() map[string]any {
	return map[string]any{
		"bearer": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
			"description": "A JWT with the claims sub, tenants and role."},
		"apiKey": map[string]any{"type": "apiKey", "in": "header", "name": "Authorization",
			"description": "`ApiKey <secret>`: a key of one tenant, which needs neither a JWT nor `" + manifest.TenantHeader + "`."},
	}
}

func (op *Operation) document(examples []Example) map[string]any {
	d := map[string]any{
		"operationId": op.Name, "summary": op.Summary, "description": op.Description, "tags": []string{op.Group},
		"responses": op.documentResponses(examples),
		"security":  []any{},
	}
	if op.Route.Permission != "" {
		d["description"] = op.Description + "\n\nPermission: `" + string(op.Route.Permission) + "`."
		d["security"] = []any{map[string]any{"bearer": []any{}}, map[string]any{"apiKey": []any{}}}
	}
	if len(op.Parameters) > 0 {
		parameters := make([]any, len(op.Parameters))
		for i := range op.Parameters {
			parameters[i] = op.Parameters[i].document()
		}
		d["parameters"] = parameters
	}
	if op.Body != nil {
		d["requestBody"] = op.Body.document(examples)
	}
	return d
}

func (p *Parameter) document() map[string]any {
	d := map[string]any{"name": p.Name, "in": p.In, "schema": p.Schema.document()}
	if p.Description != "" {
		d["description"] = p.Description
	}
	if p.Required {
		d["required"] = true
	}
	if p.Repeatable {
		many := list(p.Schema)
		many.MinItems, many.MaxItems = 1, search.MaxFilterValues
		d["schema"] = many.document()
	}
	if p.Repeatable || p.FreeForm {
		d["style"], d["explode"] = "form", true
	}
	return d
}

func (b *RequestBody) document(examples []Example) map[string]any {
	content := map[string]any{}
	for _, media := range b.MediaTypes {
		entry := map[string]any{"schema": b.Schema.document()}
		if b.OnePerLine && media != httpapi.MediaJSON {
			entry["schema"] = anyText("One JSON text a line, each as an element of the JSON form.").document()
		}
		// Tools that try examples know how to write JSON only; the page shows the others.
		if examples := requestExamples(examples, media); media == httpapi.MediaJSON && len(examples) > 0 {
			entry["examples"] = examples
		}
		content[media] = entry
	}
	return map[string]any{"description": b.Description, "required": true, "content": content}
}

func (op *Operation) documentResponses(examples []Example) map[string]any {
	responses := map[string]any{}
	for i := range op.Responses {
		r := &op.Responses[i]
		responses[strconv.Itoa(r.Status)] = r.document(examples)
	}
	for rest := op.ErrorResponses; len(rest) > 0; {
		status := rest[0].Kind.Status
		end := slices.IndexFunc(rest, func(r ErrorResponse) bool { return r.Kind.Status != status })
		if end < 0 {
			end = len(rest)
		}
		responses[strconv.Itoa(status)] = documentErrorResponses(rest[:end], examples)
		rest = rest[end:]
	}
	return responses
}

func (r *Response) document(examples []Example) map[string]any {
	d := map[string]any{"description": r.Description, "headers": documentHeaders(r.Headers)}
	if r.MediaType != "" {
		content := documentContent(r.MediaType, r.Schema, responseExamples(examples, r.Status))
		for _, file := range r.Files {
			content[file] = map[string]any{"schema": anyText("A file.").document()}
		}
		d["content"] = content
	}
	return d
}

func documentContent(mediaType string, schema *Schema, examples map[string]any) map[string]any {
	content := map[string]any{"schema": schema.document()}
	if len(examples) > 0 {
		content["examples"] = examples
	}
	return map[string]any{mediaType: content}
}

// documentHeaders describes these headers and those of every response.
func documentHeaders(headers []Header) map[string]any {
	d := map[string]any{manifest.RequestIDHeader: map[string]any{
		"description": "Names the request in the service's log.", "required": true, "schema": anyText("").document(),
	}}
	for _, h := range headers {
		d[h.Name] = map[string]any{"description": h.Description, "required": h.Required, "schema": h.Schema.document()}
	}
	return d
}

// documentErrorResponses describes the problems of one status.
func documentErrorResponses(responses []ErrorResponse, examples []Example) map[string]any {
	lines := make([]string, len(responses))
	for i, r := range responses {
		lines[i] = "`" + r.Kind.Code + "`: " + r.When
	}
	return map[string]any{
		"description": strings.Join(lines, "\n"),
		"headers":     documentHeaders(errorHeaders(responses)),
		"content":     documentContent(httpapi.MediaProblem, ref("Problem"), responseExamples(examples, responses[0].Kind.Status)),
	}
}

// errorHeaders returns the headers of a problem's response.
func errorHeaders(responses []ErrorResponse) []Header {
	var headers []Header
	for _, r := range responses {
		switch r.Kind {
		case httpapi.ProblemUnauthenticated:
			headers = append(headers, Header{Name: "WWW-Authenticate", Required: true, Schema: anyText(""), Description: "The accepted schemes."})
		case httpapi.ProblemQuota:
			headers = append(headers, quotaHeaders()...)
		case httpapi.ProblemUnavailable, httpapi.ProblemTooMany:
			headers = append(headers, Header{Name: "Retry-After", Required: true, Schema: count(""), Description: "Seconds to wait."})
		case httpapi.ProblemNotYet:
			headers = append(headers, Header{Name: "Retry-After", Schema: count(""), Description: "Seconds to wait, if the entry may still arrive."})
		}
	}
	return headers
}
