package main

import (
	"encoding/json"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// stageName is the stage of both APIs.
const stageName = "live"

func newSocketAPI(d *deployment, stack awscdk.Stack) awsapigatewayv2.CfnApi {
	return awsapigatewayv2.NewCfnApi(stack, text("StreamApi"), &awsapigatewayv2.CfnApiProps{
		Name: text(d.name("stream")), ProtocolType: text("WEBSOCKET"), RouteSelectionExpression: text("$request.body.action"),
		DisableExecuteApiEndpoint: false, // functions send to clients over it
	})
}

// socketHost returns the host and stage of the WebSocket API's own address.
func (s *data) socketHost() string {
	return *s.sockets.Ref() + ".execute-api.${AWS::Region}.${AWS::URLSuffix}/" + stageName
}

// socketARN returns the ARN of what is below the WebSocket API.
func (s *data) socketARN(path string) string { return ownARN("execute-api", *s.sockets.Ref()+path) }

// addSocketRoutes adds the WebSocket API's stage, and its routes to functions. Routes have
// no authorizer and no response: connect-stream authenticates clients, and functions send
// to clients over @connections.
func addSocketRoutes(d *deployment, stack awscdk.Stack, s *data) {
	group := newLogGroup(stack, d, "StreamAccessLog", "/ocelot/"+d.Name+"/stream-access")
	stage := awsapigatewayv2.NewCfnStage(stack, text("StreamStage"), &awsapigatewayv2.CfnStageProps{
		ApiId: s.sockets.Ref(), StageName: text(stageName), AutoDeploy: true,
		AccessLogSettings: &awsapigatewayv2.CfnStage_AccessLogSettingsProperty{DestinationArn: group.LogGroupArn(), Format: text(socketLogFormat())},
		DefaultRouteSettings: &awsapigatewayv2.CfnStage_RouteSettingsProperty{
			ThrottlingBurstLimit: number(d.Burst), ThrottlingRateLimit: number(d.Requests), DetailedMetricsEnabled: true,
			LoggingLevel: text("ERROR"), DataTraceEnabled: false, // it would log what clients send
		},
	})
	for _, f := range d.functions {
		if f.Trigger.Socket != nil {
			stage.AddResourceDependency(addSocketRoute(d, stack, s, f), nil)
		}
	}
	if d.Domain.Stream != "" {
		addStreamDomain(d, stack, stage, s)
	}
}

func socketLogFormat() string {
	return logFormat("requestId", "eventType", "routeKey", "status", "connectionId", "identity.sourceIp", "requestTime", "integrationLatency", "error.message")
}

// logFormat returns the format of an access log: JSON with these variables of API Gateway.
func logFormat(variables ...string) string {
	line := map[string]string{}
	for _, v := range variables {
		line[v] = "$context." + v
	}
	format, err := json.Marshal(line)
	if err != nil {
		panic("cdk: the format of an access log: " + err.Error()) // a map of texts always can
	}
	return string(format)
}

func addSocketRoute(d *deployment, stack awscdk.Stack, s *data, f manifest.Function) awscdk.CfnResource {
	name, key := manifest.CamelCase(f.Name), f.Trigger.Socket.Key
	integration := awsapigatewayv2.NewCfnIntegration(stack, text(name+"Integration"), &awsapigatewayv2.CfnIntegrationProps{
		ApiId: s.sockets.Ref(), IntegrationType: text("AWS_PROXY"), IntegrationMethod: text("POST"), IntegrationUri: sub(d.integration(f.Name)),
	})
	awslambda.NewCfnPermission(stack, text(name+"Permission"), &awslambda.CfnPermissionProps{
		Action: text("lambda:InvokeFunction"), FunctionName: sub(d.aliasARN(f.Name)), Principal: text("apigateway.amazonaws.com"),
		SourceArn: sub(s.socketARN("/*/" + key)),
	})
	return awsapigatewayv2.NewCfnRoute(stack, text(name+"Route"), &awsapigatewayv2.CfnRouteProps{
		ApiId: s.sockets.Ref(), RouteKey: text(key), AuthorizationType: text("NONE"), Target: text("integrations/" + *integration.Ref()),
	})
}

// integration returns the URI at which API Gateway invokes a function's alias.
func (d *deployment) integration(name string) string {
	return "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/" + d.aliasARN(name) + "/invocations"
}

func addStreamDomain(d *deployment, stack awscdk.Stack, stage awsapigatewayv2.CfnStage, s *data) {
	domain := awsapigatewayv2.NewCfnDomainName(stack, text("StreamDomain"), &awsapigatewayv2.CfnDomainNameProps{
		DomainName: text(d.Domain.Stream),
		DomainNameConfigurations: &[]any{&awsapigatewayv2.CfnDomainName_DomainNameConfigurationProperty{
			CertificateArn: text(d.Domain.CertificateARN), EndpointType: text("REGIONAL"), SecurityPolicy: text("TLS_1_2"),
		}},
	})
	awsapigatewayv2.NewCfnApiMapping(stack, text("StreamMapping"), &awsapigatewayv2.CfnApiMappingProps{
		ApiId: s.sockets.Ref(), DomainName: domain.Ref(), Stage: stage.Ref(),
	})
}
