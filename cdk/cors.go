package main

import (
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// addCORS answers the preflight requests of browsers at every path, for the environment's
// origins. API Gateway itself answers. Without origins there is none.
func addCORS(d *deployment, body node) {
	if len(d.Origins) == 0 {
		return
	}
	for path, operations := range body["paths"].(map[string]node) {
		var methods []string
		for method := range operations {
			methods = append(methods, strings.ToUpper(method))
		}
		operations["options"] = preflight(path, methods, d.Origins)
	}
}

// preflight returns the operation that answers a preflight request. Its template names the
// request's origin if that is one of the known ones.
func preflight(path string, methods, origins []string) node {
	header := func(name string) string { return "Access-Control-" + name }
	answers := node{}
	fixed := node{
		"method.response.header." + header("Allow-Methods"): "'" + httpapi.PreflightMethods(methods) + "'",
		"method.response.header." + header("Allow-Headers"): "'" + httpapi.PreflightHeaders() + "'",
		"method.response.header." + header("Max-Age"):       "'" + strconv.Itoa(int(httpapi.PreflightAge.Seconds())) + "'",
		"method.response.header.Vary":                       "'Origin'",
		"method.response.header.Strict-Transport-Security":  "'" + httpapi.HTTPSOnly + "'",
	}
	for name := range fixed {
		answers[strings.TrimPrefix(name, "method.response.header.")] = node{"schema": node{"type": "string"}}
	}
	answers[header("Allow-Origin")] = node{"schema": node{"type": "string"}}
	return node{
		"operationId": "preflight-" + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(strings.Trim(path, "/")),
		"summary":     "Answer a browser's preflight request", "security": []node{}, "parameters": operation{}.parameters(&manifest.Route{Path: path}),
		"responses": node{"204": node{"description": "What the browser may send.", "headers": answers}},
		"x-amazon-apigateway-integration": node{
			"type": "mock", "requestTemplates": node{"application/json": `{"statusCode": 204}`}, "passthroughBehavior": "when_no_templates",
			"contentHandling": "CONVERT_TO_TEXT",
			"responses": node{"default": node{"statusCode": "204", "responseParameters": fixed, "responseTemplates": node{
				"application/json": originTemplate(origins),
			}}},
		},
	}
}

// originTemplate overrides the header with the request's origin if it is one of these.
func originTemplate(origins []string) string {
	quoted := make([]string, len(origins))
	for i, o := range origins {
		quoted[i] = `"` + o + `"`
	}
	return `#set($origin = $input.params().header.get("Origin"))` + "\n" +
		`#if([` + strings.Join(quoted, ",") + `].contains($origin))` + "\n" +
		`#set($context.responseOverride.header.Access-Control-Allow-Origin = $origin)` + "\n#end"
}
