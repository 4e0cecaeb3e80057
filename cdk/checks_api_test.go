package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func apiChecks() []check {
	const api, stage, permission = "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage", "AWS::Lambda::Permission"
	logs := "Body.paths./api/v1/logs"
	return []check{
		{"routes", routeFaults, []mutation{
			without(api, logs+".post"), without(api, logs+".head"), with(api, logs+".post.x-amazon-apigateway-integration.uri", "other"),
			with(api, logs+".get.security", []any{}), with(api, logs+".get.x-amazon-apigateway-integration.type", "http"),
			with(api, "Body.paths./api/v1/health.get.security", []any{node{caller: []any{}}}), with(api, logs+".get.security", []any{node{caller: []any{}}}),
		}},
		{"permissions", permissionFaults, []mutation{removed(permission), with(permission, "SourceArn", "*"), with(permission, "FunctionName", "other"), with(permission, "Principal", "*")}},
		{"authorizers", authorizerFaults, []mutation{
			with(api, "Body.components.securitySchemes.Caller.x-amazon-apigateway-authorizer.identitySource", "method.request.header.Authorization, context.httpMethod, context.resourcePath, method.request.header.X-Tenant-ID"),
			with(api, "Body.components.securitySchemes.Caller.x-amazon-apigateway-authorizer.identitySource", "method.request.header.Authorization"),
			with(api, "Body.components.securitySchemes.Caller.x-amazon-apigateway-authorizer.authorizerResultTtlInSeconds", 3600.0),
			without(api, "Body.components.securitySchemes.Caller"),
		}},
		{"usage plans", usageFaults, []mutation{
			without(api, "Body.x-amazon-apigateway-api-key-source"), without(api, "Body.components.securitySchemes.Usage"),
			removed("AWS::ApiGateway::UsagePlan"), removed("AWS::ApiGateway::ApiKey"), removed("AWS::ApiGateway::UsagePlanKey"),
			with("AWS::ApiGateway::UsagePlan", "Throttle.RateLimit", 0.0), with("AWS::ApiGateway::UsagePlan", "ApiStages", []any{}),
			with("AWS::ApiGateway::UsagePlanKey", "UsagePlanId", "other"), with("AWS::ApiGateway::ApiKey", "Value", "another-key-than-that-of-the-authorizer"),
		}},
		{"validators", validatorFaults, []mutation{
			without(api, "Body.x-amazon-apigateway-request-validator"), without(api, "Body.x-amazon-apigateway-request-validators.parameters"),
			without(api, "Body.paths./api/v1/tenants/{id}.put.requestBody"), without(api, "Body.paths./api/v1/tenants/{id}/api-keys.post.x-amazon-apigateway-request-validator"),
			without(api, "Body.components.schemas.NewKey"), with(api, logs+".post.parameters", []any{node{"name": "X-Tenant-ID", "in": "header", "required": true, "schema": node{"type": "string"}}}),
			with(api, "Body.paths./api/v1/logs/{id}.get.parameters", []any{}),
		}},
		{"gateway responses", responseFaults, []mutation{
			without(api, "Body.x-amazon-apigateway-gateway-responses.THROTTLED"), with(api, "Body.x-amazon-apigateway-gateway-responses.UNAUTHORIZED.statusCode", 200.0),
			without(api, "Body.x-amazon-apigateway-gateway-responses.ACCESS_DENIED.responseTemplates"),
			withoutHeader("Strict-Transport-Security"),
		}},
		{"stage", stageFaults, []mutation{
			without(stage, "AccessLogSetting"), with(stage, "TracingEnabled", false), with(stage, "MethodSettings.0.DataTraceEnabled", true), without(stage, "MethodSettings.0.ThrottlingRateLimit"),
			with(stage, "AccessLogSetting.Format", "$context.path"), with(api, "DisableExecuteApiEndpoint", false), without(api, "Body.x-amazon-apigateway-binary-media-types"),
			removed("AWS::ApiGateway::Deployment"), removed("AWS::ApiGateway::Account"), compressing(),
		}},
		{"own domain", domainFaults, []mutation{
			removed("AWS::ApiGateway::DomainName"), with("AWS::ApiGateway::DomainName", "SecurityPolicy", "TLS_1_0"), removed("AWS::ApiGateway::BasePathMapping"),
			removed("AWS::ApiGatewayV2::DomainName"), removed("AWS::ApiGatewayV2::ApiMapping"),
		}},
		{"firewall", firewallFaults, []mutation{
			removed("AWS::WAFv2::WebACL"), removed("AWS::WAFv2::WebACLAssociation"), removed("AWS::WAFv2::LoggingConfiguration"),
			with("AWS::WAFv2::LoggingConfiguration", "RedactedFields", []any{}), with("AWS::WAFv2::WebACL", "Rules", []any{}),
		}},
		{"CORS", corsFaults, []mutation{
			without(api, logs+".options"), with(api, logs+".options.x-amazon-apigateway-integration.responses.default.responseTemplates.application/json", ""),
			withoutHeader("Access-Control-Allow-Origin"),
		}},
		{"WebSocket API", socketFaults, []mutation{
			removed("AWS::ApiGatewayV2::Route"), removed("AWS::ApiGatewayV2::Integration"), without("AWS::ApiGatewayV2::Stage", "AccessLogSettings"),
			with("AWS::ApiGatewayV2::Stage", "DefaultRouteSettings.DataTraceEnabled", true), with("AWS::ApiGatewayV2::Integration", "IntegrationUri", "other"),
			without("AWS::ApiGatewayV2::Stage", "DefaultRouteSettings.ThrottlingRateLimit"), with("AWS::ApiGatewayV2::Stage", "AutoDeploy", false),
		}},
	}
}

// compressing has API Gateway pack and unpack bodies.
func compressing() mutation {
	return mutation{"an API that compresses", func(s stacks) bool {
		s.of("AWS::ApiGateway::RestApi")[0].Properties["MinimumCompressionSize"] = 1024.0
		return true
	}}
}

// withoutHeader takes a header from the refusal of an unknown credential.
func withoutHeader(name string) mutation {
	return mutation{"refusals without " + name, func(s stacks) bool {
		parameters, is := s.of("AWS::ApiGateway::RestApi")[0].get("Body.x-amazon-apigateway-gateway-responses.UNAUTHORIZED.responseParameters").(map[string]any)
		delete(parameters, "gatewayresponse.header."+name)
		return is
	}}
}

func (e environment) api() found { return e.stacks.of("AWS::ApiGateway::RestApi")[0] }

// operationOf returns the document of a method of a path.
func (e environment) operationOf(path, method string) (node, bool) {
	paths, _ := e.api().get("Body.paths").(map[string]any)
	methods, _ := paths[manifest.BasePath+path].(map[string]any)
	op, is := methods[strings.ToLower(method)].(map[string]any)
	return op, is
}

func routeFaults(e environment) []string {
	var f faults
	for _, function := range e.functions {
		r := function.Trigger.Route
		if r == nil {
			continue
		}
		methods := []string{r.Method}
		if r.Method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		security := "[]"
		if r.Permission != "" {
			security = `[{"Caller":[],"Usage":[]}]`
		}
		for _, method := range methods {
			op, is := e.operationOf(r.Path, method)
			if !is {
				f.addf("got no %s %s, want one", method, r.Path)
				continue
			}
			if got, want := textOf(at(op, "x-amazon-apigateway-integration.uri")), e.integration(function.Name); got != want {
				f.addf("%s %s invokes %q, want %q", method, r.Path, got, want)
			}
			if got := textOf(at(op, "x-amazon-apigateway-integration.type")); got != "aws_proxy" {
				f.addf("%s %s: got the integration %q, want aws_proxy", method, r.Path, got)
			}
			if got, _ := json.Marshal(op["security"]); string(got) != security {
				f.addf("%s %s: got the security %s, want %s", method, r.Path, got, security)
			}
		}
	}
	return f
}

// permissionFaults finds an integration that API Gateway may not invoke.
func permissionFaults(e environment) []string {
	var f faults
	id := "${" + e.api().id + "}"
	for _, function := range e.functions {
		var sources []string
		switch trigger := function.Trigger; {
		case trigger.Route != nil:
			path := pathParameter.ReplaceAllString(trigger.Route.Path, "*")
			sources = append(sources, ownARN("execute-api", id+"/*/*"+manifest.BasePath+path))
		case trigger.Authorizer:
			sources = append(sources, ownARN("execute-api", id+"/authorizers/*"))
		case trigger.Socket != nil:
			sources = append(sources, ownARN("execute-api", e.socketImport()+"/*/"+trigger.Socket.Key))
		}
		for _, source := range sources {
			permission, is := e.stacks.named("AWS::Lambda::Permission", "FunctionName", e.aliasARN(function.Name))
			if !is {
				f.addf("%s: got no permission for API Gateway, want one", function.Name)
				continue
			}
			f.want(permission, "SourceArn", source)
			f.want(permission, "Principal", "apigateway.amazonaws.com")
			f.want(permission, "Action", "lambda:InvokeFunction")
		}
	}
	return f
}

func authorizerFaults(e environment) []string {
	var f faults
	const path = "Body.components.securitySchemes.Caller.x-amazon-apigateway-authorizer."
	// Each is required in a request. Without the route, a cached answer would refuse what no function sees.
	f.want(e.api(), path+"identitySource", "method.request.header.Authorization, context.httpMethod, context.resourcePath")
	f.want(e.api(), path+"type", "request")
	f.want(e.api(), path+"authorizerResultTtlInSeconds", strconv.Itoa(int(manifest.AuthorizerTTL.Seconds())))
	f.want(e.api(), path+"authorizerUri", e.integration("authorize-request"))
	return f
}

// usageFaults finds a tier whose requests are not counted by a plan of its own. A method takes its
// key from the authorizer alone.
func usageFaults(e environment) []string {
	var f faults
	f.want(e.api(), "Body.x-amazon-apigateway-api-key-source", "AUTHORIZER")
	f.want(e.api(), "Body.components.securitySchemes.Usage.type", "apiKey")
	f.want(e.api(), "Body.components.securitySchemes.Usage.name", "x-api-key")
	authorizer, _ := e.stacks.named("AWS::Lambda::Function", "FunctionName", e.name("authorize-request"))
	for tier, most := range map[string]float64{"standard": standardShare * e.Requests, "priority": e.Requests} {
		key, is := e.stacks.named("AWS::ApiGateway::ApiKey", "Value", authorizer.text("Environment.Variables.OCELOT_USAGE_KEY_"+strings.ToUpper(tier)))
		if !is {
			f.addf("%s: got no API key that the authorizer returns, want one", tier)
			continue
		}
		f.want(key, "Enabled", "true")
		of, is := e.stacks.named("AWS::ApiGateway::UsagePlanKey", "KeyId", "${"+key.id+"}")
		if !is {
			f.addf("%s: got a key without a plan, want one", tier)
			continue
		}
		plan, is := e.stacks.named("AWS::ApiGateway::UsagePlan", "UsagePlanName", e.name(tier))
		if !is {
			f.addf("%s: got no usage plan, want one", tier)
			continue
		}
		f.want(of, "UsagePlanId", "${"+plan.id+"}")
		f.want(plan, "Throttle.RateLimit", textOf(most))
		f.present(plan, "Throttle.BurstLimit")
		f.want(plan, "ApiStages.0.ApiId", "${"+e.api().id+"}")
		f.present(plan, "ApiStages.0.Stage")
	}
	return f
}

func validatorFaults(e environment) []string {
	var f faults
	f.want(e.api(), "Body.x-amazon-apigateway-request-validator", checkParameters)
	f.want(e.api(), "Body.x-amazon-apigateway-request-validators."+checkParameters+".validateRequestParameters", "true")
	f.want(e.api(), "Body.x-amazon-apigateway-request-validators."+checkAll+".validateRequestBody", "true")
	for _, function := range e.functions {
		r := function.Trigger.Route
		if r == nil {
			continue
		}
		op, _ := e.operationOf(r.Path, r.Method)
		if requires(op, "X-Tenant-ID") { // an API key needs none
			f.addf("%s %s requires X-Tenant-ID, want it optional", r.Method, r.Path)
		}
		for _, match := range pathParameter.FindAllStringSubmatch(r.Path, -1) {
			if !requires(op, match[1]) {
				f.addf("%s %s does not require {%s}, want it required", r.Method, r.Path, match[1])
			}
		}
	}
	for path, method := range map[string]string{"/tenants": "post", "/tenants/{id}": "put", "/tenants/{id}/api-keys": "post"} {
		op, _ := e.operationOf(path, method)
		model := strings.TrimPrefix(textOf(at(op["requestBody"], "content.application/json.schema.$ref")), schemaPrefix)
		if textOf(op["x-amazon-apigateway-request-validator"]) != checkAll || e.api().get("Body.components.schemas."+model) == nil {
			f.addf("%s %s: got the validator %v and the model %q, want its body checked", method, path, op["x-amazon-apigateway-request-validator"], model)
		}
	}
	return f
}

func requires(op node, parameter string) bool {
	return slices.ContainsFunc(list(op["parameters"]), func(p any) bool {
		return textOf(at(p, "name")) == parameter && textOf(at(p, "required")) == "true"
	})
}

func responseFaults(e environment) []string {
	var f faults
	for _, answer := range httpapi.GatewayAnswers("$context.requestId") {
		path := "Body.x-amazon-apigateway-gateway-responses." + answer.Type
		f.want(e.api(), path+".statusCode", strconv.Itoa(answer.Status))
		f.want(e.api(), path+".responseTemplates.application/json", answer.Body)
		parameters, _ := e.api().get(path + ".responseParameters").(map[string]any)
		if got, want := textOf(parameters["gatewayresponse.header.Content-Type"]), "'application/problem+json'"; got != want {
			f.addf("%s: got Content-Type %s, want %s", answer.Type, got, want)
		}
		if got, want := textOf(parameters["gatewayresponse.header.Strict-Transport-Security"]), "'"+httpapi.HTTPSOnly+"'"; got != want {
			f.addf("%s: got Strict-Transport-Security %s, want %s", answer.Type, got, want)
		}
	}
	return f
}

func stageFaults(e environment) []string {
	var f faults
	for _, stage := range f.some(e.stacks, "AWS::ApiGateway::Stage") {
		f.want(stage, "TracingEnabled", "true")
		f.want(stage, "MethodSettings.0.DataTraceEnabled", "false")
		f.want(stage, "MethodSettings.0.MetricsEnabled", "true")
		f.want(stage, "MethodSettings.0.ThrottlingRateLimit", textOf(e.Requests))
		f.present(stage, "AccessLogSetting.DestinationArn")
		format := stage.text("AccessLogSetting.Format")
		var line map[string]string
		if err := json.Unmarshal([]byte(format), &line); err != nil {
			f.addf("got the access log %q, want JSON", format)
		}
		for _, value := range line {
			if value == "$context.path" || strings.Contains(value, "querystring") || strings.Contains(value, "Authorization") {
				f.addf("the access log has %s, want nothing that a client wrote", value)
			}
		}
		deployment := strings.TrimSuffix(strings.TrimPrefix(stage.text("DeploymentId"), "${"), "}")
		if e.stacks[stage.stack].Resources[deployment] == nil {
			f.addf("the stage has no deployment %s, want one", deployment)
		}
	}
	f.some(e.stacks, "AWS::ApiGateway::Account")
	// The functions pack answers and unpack requests. The API hands both on as they are.
	f.want(e.api(), "Body.x-amazon-apigateway-binary-media-types", "*/*")
	if got := e.api().get("MinimumCompressionSize"); got != nil {
		f.addf("the API compresses from %v bytes, want never", got)
	}
	f.want(e.api(), "Body.x-amazon-apigateway-minimum-compression-size", "")
	f.want(e.api(), "DisableExecuteApiEndpoint", strconv.FormatBool(e.Domain.API != ""))
	return f
}

func domainFaults(e environment) []string {
	var f faults
	if e.Domain.API == "" {
		return nil
	}
	for _, domain := range f.some(e.stacks, "AWS::ApiGateway::DomainName") {
		f.want(domain, "DomainName", e.Domain.API)
		f.want(domain, "SecurityPolicy", "TLS_1_2")
	}
	for _, domain := range f.some(e.stacks, "AWS::ApiGatewayV2::DomainName") {
		f.want(domain, "DomainName", e.Domain.Stream)
		f.want(domain, "DomainNameConfigurations.0.SecurityPolicy", "TLS_1_2")
	}
	f.some(e.stacks, "AWS::ApiGateway::BasePathMapping")
	f.some(e.stacks, "AWS::ApiGatewayV2::ApiMapping")
	return f
}

func firewallFaults(e environment) []string {
	var f faults
	for _, acl := range f.some(e.stacks, "AWS::WAFv2::WebACL") {
		if got := len(list(acl.get("Rules"))); got != 2 {
			f.addf("got %d rules of the firewall, want 2", got)
		}
	}
	for _, association := range f.some(e.stacks, "AWS::WAFv2::WebACLAssociation") {
		if !strings.Contains(association.text("ResourceArn"), "/restapis/${"+e.api().id+"}/stages/") {
			f.addf("the firewall protects %q, want the API's stage", association.text("ResourceArn"))
		}
	}
	for _, logs := range f.some(e.stacks, "AWS::WAFv2::LoggingConfiguration") {
		redacted, _ := json.Marshal(logs.get("RedactedFields"))
		for _, part := range []string{"QueryString", "authorization"} {
			if !strings.Contains(string(redacted), part) {
				f.addf("the firewall's log redacts %s, want %s too", redacted, part)
			}
		}
	}
	return f
}

func corsFaults(e environment) []string {
	var f faults
	paths, _ := e.api().get("Body.paths").(map[string]any)
	for path := range paths {
		op, is := e.operationOf(strings.TrimPrefix(path, manifest.BasePath), "options")
		if is != (len(e.Origins) > 0) {
			f.addf("%s: got OPTIONS %t, want %t", path, is, len(e.Origins) > 0)
			continue
		}
		if is {
			headers, _ := at(op, "x-amazon-apigateway-integration.responses.default.responseParameters").(map[string]any)
			if got, want := textOf(headers["method.response.header.Strict-Transport-Security"]), "'"+httpapi.HTTPSOnly+"'"; got != want {
				f.addf("%s: got OPTIONS with Strict-Transport-Security %s, want %s", path, got, want)
			}
		}
		for _, origin := range e.Origins {
			template := textOf(at(op, "x-amazon-apigateway-integration.responses.default.responseTemplates.application/json"))
			if !strings.Contains(template, `"`+origin+`"`) {
				f.addf("%s: got the template %q, want it to know %s", path, template, origin)
			}
		}
	}
	if len(e.Origins) == 1 {
		parameters, _ := e.api().get("Body.x-amazon-apigateway-gateway-responses.UNAUTHORIZED.responseParameters").(map[string]any)
		if got, want := textOf(parameters["gatewayresponse.header.Access-Control-Allow-Origin"]), "'"+e.Origins[0]+"'"; got != want {
			f.addf("a refusal allows the origin %s, want %s", got, want)
		}
	}
	return f
}

func socketFaults(e environment) []string {
	var f faults
	for _, function := range e.functions {
		if function.Trigger.Socket == nil {
			continue
		}
		route, is := e.stacks.named("AWS::ApiGatewayV2::Route", "RouteKey", function.Trigger.Socket.Key)
		if !is {
			f.addf("got no route %s, want one", function.Trigger.Socket.Key)
			continue
		}
		integration := strings.TrimSuffix(strings.TrimPrefix(route.text("Target"), "integrations/${"), "}")
		r := e.stacks[route.stack].Resources[integration]
		if r == nil {
			f.addf("%s has no integration, want one", route.id)
			continue
		}
		f.want(found{route.stack, integration, r}, "IntegrationUri", e.integration(function.Name))
	}
	for _, stage := range f.some(e.stacks, "AWS::ApiGatewayV2::Stage") {
		f.present(stage, "AccessLogSettings.DestinationArn")
		f.want(stage, "DefaultRouteSettings.DataTraceEnabled", "false")
		f.want(stage, "DefaultRouteSettings.ThrottlingRateLimit", textOf(e.Requests))
		f.want(stage, "AutoDeploy", "true")
	}
	return f
}
