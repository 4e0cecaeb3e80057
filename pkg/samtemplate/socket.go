package samtemplate

import "github.com/ocelot-audit/ocelot/pkg/manifest"

// The WebSocket API. The environments of functions refer to the API but not to its stage
// or routes. The routes refer to the functions. There is therefore no circular dependency.
const (
	socketAPI  = "StreamApi"
	socketHost = "${" + socketAPI + "}.execute-api.${AWS::Region}.${AWS::URLSuffix}/" + stage
	socketARN  = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${" + socketAPI + "}"
)

// addSocketAPI adds the API and its stage. The stage deploys each change automatically,
// because CloudFormation would not renew a deployment that the template lists.
func addSocketAPI(resources node) {
	resources[socketAPI] = node{"Type": "AWS::ApiGatewayV2::Api", "Properties": node{
		"Name": node{"Fn::Sub": prefix + "-stream"}, "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": "$request.body.action",
	}}
	resources["StreamStage"] = node{"Type": "AWS::ApiGatewayV2::Stage", "Properties": node{
		"ApiId": ref(socketAPI), "StageName": stage, "AutoDeploy": true,
	}}
}

// addSocketRoute adds a function's route without an authorizer and without a route
// response. connect-stream authenticates clients, and functions send to clients over
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
