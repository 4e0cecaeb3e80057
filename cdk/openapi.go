package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// node is a part of a JSON document.
type node = map[string]any

// caller is the authorizer. API Gateway requires every identity source in a request, and not every
// request needs a tenant. So its identity sources are the credential and the route, which makes every
// refused route reach the function (see lambdaedge.Authorizer).
const caller = "Caller"

// usage requires an API key of a usage plan, which the authorizer returns.
const usage = "Usage"

// The validators: API Gateway checks that required parameters are there, and bodies against
// the models.
const (
	checkParameters = "parameters"
	checkAll        = "parameters-and-body"
)

// gatewayDocument returns the OpenAPI 3.0 document that API Gateway imports: the routes of
// the functions, with what the service's own 3.1 document says about them. integration
// returns the URI at which a function is invoked, by its name.
func gatewayDocument(source []byte, functions []manifest.Function, integration func(name string) string) (node, error) {
	var described struct {
		Info       node
		Paths      map[string]map[string]operation
		Components struct{ Schemas node }
	}
	if err := json.Unmarshal(source, &described); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	models := &models{source: described.Components.Schemas, found: node{}}
	paths := map[string]node{}
	schemes := node{}
	for _, f := range functions {
		if f.Trigger.Authorizer {
			schemes[caller] = authorizer(integration(f.Name))
			schemes[usage] = node{"type": "apiKey", "in": "header", "name": "x-api-key"}
		}
		r := f.Trigger.Route
		if r == nil {
			continue
		}
		path := manifest.BasePath + r.Path
		if paths[path] == nil {
			paths[path] = node{}
		}
		op := described.Paths[r.Path][strings.ToLower(r.Method)]
		paths[path][strings.ToLower(r.Method)] = op.document(f, models, integration(f.Name))
		if r.Method == http.MethodGet {
			head := op.document(f, models, integration(f.Name))
			head["operationId"] = "head-" + f.Name
			paths[path]["head"] = head
		}
	}
	return node{
		"openapi": "3.0.3", "info": node{"title": described.Info["title"], "version": described.Info["version"]}, "paths": paths,
		"components":                             node{"schemas": models.found, "securitySchemes": schemes},
		"x-amazon-apigateway-api-key-source":     "AUTHORIZER",
		"x-amazon-apigateway-binary-media-types": []string{"*/*"}, // compressed bodies, in and out
		"x-amazon-apigateway-request-validators": node{
			checkParameters: node{"validateRequestParameters": true, "validateRequestBody": false},
			checkAll:        node{"validateRequestParameters": true, "validateRequestBody": true},
		},
		"x-amazon-apigateway-request-validator": checkParameters,
	}, nil
}

// identitySources are those by which API Gateway caches the authorizer's answers.
const identitySources = "method.request.header.Authorization, context.httpMethod, context.resourcePath"

func authorizer(uri string) node {
	return node{
		"type": "apiKey", "in": "header", "name": "Authorization", "x-amazon-apigateway-authtype": "custom",
		"x-amazon-apigateway-authorizer": node{
			"type": "request", "authorizerUri": uri, "identitySource": identitySources,
			"authorizerResultTtlInSeconds": int(manifest.AuthorizerTTL.Seconds()),
		},
	}
}

// operation is what the 3.1 document says about a route.
type operation struct {
	Summary     string
	Parameters  []parameter
	RequestBody *struct {
		Content map[string]struct{ Schema node }
	}
}

type parameter struct {
	Name, In string
	Required bool
}

// document returns the operation of API Gateway. Its answers have no schema: API Gateway
// passes on what the function returns.
func (op operation) document(f manifest.Function, models *models, uri string) node {
	r := f.Trigger.Route
	d := node{
		"operationId": f.Name, "summary": f.Summary, "responses": node{"default": node{"description": "The function's answer."}},
		"parameters": op.parameters(r), "security": []node{},
		"x-amazon-apigateway-integration": node{
			"type": "aws_proxy", "httpMethod": http.MethodPost, "uri": uri, "passthroughBehavior": "when_no_match",
		},
	}
	if r.Permission != "" {
		d["security"] = []node{{caller: []string{}, usage: []string{}}}
	}
	if schema := op.plainBody(); schema != nil && !acceptsEntries(f) { // whose bodies may be compressed
		if converted, exact := models.convert(schema); exact {
			d["requestBody"] = node{"required": true, "content": node{"application/json": node{"schema": converted}}}
			d["x-amazon-apigateway-request-validator"] = checkAll
		}
	}
	return d
}

// plainBody returns the schema of the body if it can be JSON alone, or nil.
func (op operation) plainBody() node {
	if op.RequestBody == nil || len(op.RequestBody.Content) != 1 {
		return nil
	}
	return op.RequestBody.Content["application/json"].Schema
}

var pathParameter = regexp.MustCompile(`\{([^}]+)\}`)

// parameters returns the documented parameters, and those of the path in any case.
func (op operation) parameters(r *manifest.Route) []node {
	all := slices.Clone(op.Parameters)
	for _, match := range pathParameter.FindAllStringSubmatch(r.Path, -1) {
		if !slices.ContainsFunc(all, func(p parameter) bool { return p.In == "path" && p.Name == match[1] }) {
			all = append(all, parameter{Name: match[1], In: "path", Required: true})
		}
	}
	documents := make([]node, len(all))
	for i, p := range all {
		documents[i] = node{"name": p.Name, "in": p.In, "required": p.Required, "schema": node{"type": "string"}}
	}
	return documents
}

// models converts schemas of JSON Schema 2020-12 to those of OpenAPI 3.0.
type models struct {
	source, found node
	inexact       map[string]bool
}

const schemaPrefix = "#/components/schemas/"

// convert returns the schema in OpenAPI 3.0, and adds the schemas that it names to found. It
// is not exact if API Gateway could refuse what the schema accepts.
func (m *models) convert(schema node) (converted node, exact bool) {
	converted, exact = node{}, true
	for key, value := range schema {
		ok := true
		switch key {
		case "$ref":
			converted[key], ok = value, m.add(strings.TrimPrefix(value.(string), schemaPrefix))
		case "type":
			kind, single := value.(string)
			if converted[key] = kind; !single {
				delete(converted, key)
				ok = false // API Gateway has no null
			}
		case "properties":
			properties := node{}
			for name, s := range value.(node) {
				c, is := m.convert(s.(node))
				properties[name], ok = c, ok && is
			}
			converted[key] = properties
		case "items", "additionalProperties":
			if s, is := value.(node); is {
				converted[key], ok = m.convert(s)
			} else {
				converted[key] = value
			}
		case "anyOf", "oneOf", "allOf":
			ok = false // left out
		case "description", "enum", "format", "maximum", "maxItems", "maxLength", "minimum", "minItems", "minLength", "pattern", "required", "uniqueItems":
			converted[key] = value
		}
		exact = exact && ok // all other keys only describe or narrow
	}
	return converted, exact
}

// add adds a schema by its name and reports whether its conversion is exact.
func (m *models) add(name string) bool {
	if m.inexact == nil {
		m.inexact = map[string]bool{}
	}
	if _, is := m.found[name]; !is {
		m.found[name] = node{} // a schema may name itself
		converted, exact := m.convert(m.source[name].(node))
		m.found[name], m.inexact[name] = converted, !exact
	}
	return !m.inexact[name]
}
