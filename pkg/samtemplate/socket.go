package samtemplate

import "github.com/ocelot-audit/ocelot/pkg/manifest"

// The WebSocket API. Functions' environments name the API and its stage's name
// alone, and its routes name the functions, so that nothing depends on itself.
const (
	socketAPI  = "StreamApi"
	socketHost = "${" + socketAPI + "}.execute-api.${AWS::Region}.${AWS::URLSuffix}/" + stage
	socketARN  = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${" + socketAPI + "}"
)

// addSocketAPI adds the API and its stage. The stage deploys each change by
// itself: a deployment that the template listed would never be made anew.
func addSocketAPI(resources node) {
	resources[socketAPI] = node{"Type": "AWS::ApiGatewayV2::Api", "Properties": node{
		"Name": node{"Fn::Sub": prefix + "-stream"}, "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": "$request.body.action",
	}}
	resources["StreamStage"] = node{"Type": "AWS::ApiGatewayV2::Stage", "Properties": node{
		"ApiId": ref(socketAPI), "StageName": stage, "AutoDeploy": true,
	}}
}

// addSocketRoute adds a function's route, which the function answers by itself:
// connect-stream decides who may connect, and what clients are sent goes by
// @connections.
func addSocketRoute(resources node, f manifest.Function) {
	name, function := manifest.CamelCase(f.Name), functionID(f.Name)
	resources[name+"Integration"] = node{"Type": "AWS::ApiGatewayV2::Integration", "Properties": node{
		"ApiId": ref(socketAPI), "IntegrationType": "AWS_PROXY", "IntegrationMethod": "POST",
		"IntegrationUri": node{"Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${" + function + ".Arn}/invocations"},
	}}
	resources[name+"Route"] = node{"Type": "AWS::ApiGatewayV2::Route", "Properties": node{
		"ApiId": ref(socketAPI), "RouteKey": f.Trigger.Socket.Key, "AuthorizationType": "NONE",
		"Target": node{"Fn::Sub": "integrations/${" + name + "Integration}"},
	}}
	resources[name+"Permission"] = node{"Type": "AWS::Lambda::Permission", "Properties": node{
		"Action": "lambda:InvokeFunction", "FunctionName": ref(function), "Principal": "apigateway.amazonaws.com",
		"SourceArn": node{"Fn::Sub": socketARN + "/*/" + f.Trigger.Socket.Key},
	}}
}
