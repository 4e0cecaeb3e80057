package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"regexp"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awswafv2"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// addAPI adds the REST API with its stage, and the routes of the WebSocket API. It finds the
// functions' aliases by their names.
func addAPI(d *deployment, stores *data) {
	stack := d.newStack("Api", "Ocelot: the REST API, and the routes of the WebSocket API", stores.stack)
	for _, other := range functionStacks {
		stack.AddStackDependency(d.stage.Node().FindChild(text(other.name)).(awscdk.Stack), nil)
	}
	body, err := gatewayDocument(d.document, d.functions, func(name string) string { return *sub(d.integration(name)) })
	if err != nil {
		panic("cdk: " + err.Error()) // the document is the service's own
	}
	addCORS(d, body)
	body["x-amazon-apigateway-gateway-responses"] = gatewayResponses(d.Origins)
	api := awsapigateway.NewCfnRestApi(stack, text("Api"), &awsapigateway.CfnRestApiProps{
		Name: text(d.name("api")), Description: text("Ocelot"), Body: body,
		EndpointConfiguration:     &awsapigateway.CfnRestApi_EndpointConfigurationProperty{Types: texts("REGIONAL")},
		DisableExecuteApiEndpoint: d.Domain.API != "",
	})
	addPermissions(d, stack, api)
	stage := addStage(d, stack, api, fingerprint(body))
	addUsagePlans(d, stack, api, stage)
	addFirewall(d, stack, api, stage)
	if d.Domain.API != "" {
		addAPIDomain(d, stack, api, stage)
	}
	addSocketRoutes(d, stack, stores)
	awscdk.NewCfnOutput(stack, text("ApiUrl"), &awscdk.CfnOutputProps{
		Description: text("The base of the HTTP API"), Value: text(d.apiURL(api)),
	})
	awscdk.NewCfnOutput(stack, text("StreamUrl"), &awscdk.CfnOutputProps{
		Description: text("Where clients connect to the live stream"), Value: sub("wss://" + stores.socketHost()),
	})
}

func (d *deployment) apiURL(api awsapigateway.CfnRestApi) string {
	if d.Domain.API != "" {
		return "https://" + d.Domain.API + manifest.BasePath
	}
	return *sub("https://" + *api.Ref() + ".execute-api.${AWS::Region}.${AWS::URLSuffix}/" + stageName + manifest.BasePath)
}

// fingerprint changes if the API's document changes. A deployment takes a copy of the document.
func fingerprint(body node) string {
	content, err := json.Marshal(body)
	if err != nil {
		panic("cdk: the API's document: " + err.Error()) // maps of plain values always can
	}
	sum := sha256.Sum256(tokens.ReplaceAll(content, []byte("token")))
	return hex.EncodeToString(sum[:8])
}

// tokens are the CDK's marks of values that are not known yet. They are numbered as they
// are made.
var tokens = regexp.MustCompile(`\$\{Token\[[^\]]*\]\}`)

// gatewayResponses gives API Gateway's own answers the form of the functions' answers.
// Header values are mapping expressions: quoted text or the name of a variable. The templates
// are for application/json, because API Gateway uses that type if a client accepts any.
func gatewayResponses(origins []string) node {
	responses := node{}
	for _, answer := range httpapi.GatewayAnswers("$context.requestId") {
		parameters := node{"gatewayresponse.header." + manifest.RequestIDHeader: "context.requestId"}
		for name, values := range answer.Header {
			parameters["gatewayresponse.header."+name] = "'" + values[0] + "'"
		}
		if len(origins) == 1 { // it cannot choose among several
			parameters["gatewayresponse.header.Access-Control-Allow-Origin"] = "'" + origins[0] + "'"
		}
		responses[answer.Type] = node{
			"statusCode": answer.Status, "responseParameters": parameters, "responseTemplates": node{"application/json": answer.Body},
		}
	}
	return responses
}

// addPermissions lets the API invoke the aliases of the functions that it integrates.
func addPermissions(d *deployment, stack awscdk.Stack, api awsapigateway.CfnRestApi) {
	for _, f := range d.functions {
		var source string
		switch {
		case f.Trigger.Route != nil:
			// Any method: HEAD has the function of GET, and others have functions of their own.
			source = "/*/*" + manifest.BasePath + pathParameter.ReplaceAllString(f.Trigger.Route.Path, "*")
		case f.Trigger.Authorizer:
			source = "/authorizers/*"
		default:
			continue
		}
		awslambda.NewCfnPermission(stack, text(manifest.CamelCase(f.Name)+"Permission"), &awslambda.CfnPermissionProps{
			Action: text("lambda:InvokeFunction"), FunctionName: sub(d.aliasARN(f.Name)), Principal: text("apigateway.amazonaws.com"),
			SourceArn: sub(ownARN("execute-api", *api.Ref()+source)),
		})
	}
}

// addStage deploys the API as it is in this template. An access log line has no query string.
func addStage(d *deployment, stack awscdk.Stack, api awsapigateway.CfnRestApi, fingerprint string) awsapigateway.CfnStage {
	deployment := awsapigateway.NewCfnDeployment(stack, text("Deployment"+fingerprint), &awsapigateway.CfnDeploymentProps{RestApiId: api.Ref()})
	account := addLoggingAccount(stack)
	group := newLogGroup(stack, d, "AccessLog", "/ocelot/"+d.Name+"/api-access")
	stage := awsapigateway.NewCfnStage(stack, text("Stage"), &awsapigateway.CfnStageProps{
		RestApiId: api.Ref(), DeploymentId: deployment.Ref(), StageName: text(stageName), TracingEnabled: true,
		AccessLogSetting: &awsapigateway.CfnStage_AccessLogSettingProperty{DestinationArn: group.LogGroupArn(), Format: text(apiLogFormat())},
		MethodSettings: &[]any{&awsapigateway.CfnStage_MethodSettingProperty{
			HttpMethod: text("*"), ResourcePath: text("/*"), MetricsEnabled: true, ThrottlingRateLimit: number(d.Requests), ThrottlingBurstLimit: number(d.Burst),
			LoggingLevel: text("ERROR"), DataTraceEnabled: false, // it would log bodies and credentials
		}},
	})
	stage.AddResourceDependency(account, nil)
	return stage
}

// standardShare is the share of the stage's requests that tenants of the standard tier may have
// together. The rest is left for the other tier.
const standardShare = 0.75

// addUsagePlans bounds the requests of each tier together. The authorizer returns the key of the
// tenant's tier (lambdaedge.Callers). A client cannot choose one, so that a key is no secret.
func addUsagePlans(d *deployment, stack awscdk.Stack, api awsapigateway.CfnRestApi, stage awsapigateway.CfnStage) {
	for tier, share := range map[audit.Tier]float64{audit.TierStandard: standardShare, audit.TierPriority: 1} {
		id := manifest.CamelCase(string(tier))
		key := awsapigateway.NewCfnApiKey(stack, text(id+"Key"), &awsapigateway.CfnApiKeyProps{
			Name: text(d.name(string(tier))), Value: text(d.usageKey(tier)), Enabled: true,
			Description: text("Counts the requests of tenants of the tier " + string(tier) + ". It opens nothing."),
		})
		plan := awsapigateway.NewCfnUsagePlan(stack, text(id+"Plan"), &awsapigateway.CfnUsagePlanProps{
			UsagePlanName: text(d.name(string(tier))), Description: text("All tenants of the tier " + string(tier) + " together"),
			ApiStages: &[]any{&awsapigateway.CfnUsagePlan_ApiStageProperty{ApiId: api.Ref(), Stage: stage.Ref()}},
			Throttle: &awsapigateway.CfnUsagePlan_ThrottleSettingsProperty{
				RateLimit: number(share * d.Requests), BurstLimit: number(math.Floor(share * float64(d.Burst))),
			},
		})
		awsapigateway.NewCfnUsagePlanKey(stack, text(id+"PlanKey"), &awsapigateway.CfnUsagePlanKeyProps{
			KeyId: key.Ref(), KeyType: text("API_KEY"), UsagePlanId: plan.Ref(),
		})
	}
}

// usageKey returns the API key of a tier. It is unique in the account and region.
func (d *deployment) usageKey(tier audit.Tier) string {
	return d.name("requests-of-" + string(tier) + "-tenants")
}

func apiLogFormat() string {
	return logFormat("requestId", "extendedRequestId", "identity.sourceIp", "httpMethod", "resourcePath", "status", "protocol", "responseLength",
		"requestTime", "responseLatency", "integrationLatency", "integrationErrorMessage", "authorizer.error", "error.responseType", "xrayTraceId")
}

// addLoggingAccount lets API Gateway write logs in this account and region.
func addLoggingAccount(stack awscdk.Stack) awscdk.CfnResource {
	role := awsiam.NewRole(stack, text("LoggingRole"), &awsiam.RoleProps{
		Description: text("Lets API Gateway write its logs"), AssumedBy: awsiam.NewServicePrincipal(text("apigateway.amazonaws.com"), nil),
		InlinePolicies: &map[string]awsiam.PolicyDocument{"logs": document(allow([]string{ownARN("logs", "*")}, // it names its groups after its APIs
			"logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents", "logs:GetLogEvents", "logs:FilterLogEvents"))},
	})
	return awsapigateway.NewCfnAccount(stack, text("LoggingAccount"), &awsapigateway.CfnAccountProps{CloudWatchRoleArn: role.RoleArn()})
}

func addAPIDomain(d *deployment, stack awscdk.Stack, api awsapigateway.CfnRestApi, stage awsapigateway.CfnStage) {
	domain := awsapigateway.NewCfnDomainName(stack, text("Domain"), &awsapigateway.CfnDomainNameProps{
		DomainName: text(d.Domain.API), RegionalCertificateArn: text(d.Domain.CertificateARN), SecurityPolicy: text("TLS_1_2"),
		EndpointConfiguration: &awsapigateway.CfnDomainName_EndpointConfigurationProperty{Types: texts("REGIONAL")},
	})
	awsapigateway.NewCfnBasePathMapping(stack, text("Mapping"), &awsapigateway.CfnBasePathMappingProps{
		DomainName: domain.Ref(), RestApiId: api.Ref(), Stage: stage.Ref(),
	})
}

// ipLimit is how many requests of one address the firewall accepts in five minutes.
const ipLimit = 100_000

// addFirewall refuses addresses with a bad reputation or too many requests. It has no rules
// about content: an audit log stores and finds records of attacks.
func addFirewall(d *deployment, stack awscdk.Stack, api awsapigateway.CfnRestApi, stage awsapigateway.CfnStage) {
	visible := func(name string) *awswafv2.CfnWebACL_VisibilityConfigProperty {
		return &awswafv2.CfnWebACL_VisibilityConfigProperty{CloudWatchMetricsEnabled: true, SampledRequestsEnabled: false, MetricName: text(name)}
	}
	acl := awswafv2.NewCfnWebACL(stack, text("Firewall"), &awswafv2.CfnWebACLProps{
		Name: text(d.name("api")), Scope: text("REGIONAL"), VisibilityConfig: visible("firewall"),
		DefaultAction: &awswafv2.CfnWebACL_DefaultActionProperty{Allow: map[string]any{}},
		Rules: &[]any{
			&awswafv2.CfnWebACL_RuleProperty{
				Name: text("reputation"), Priority: number(0), VisibilityConfig: visible("reputation"),
				OverrideAction: &awswafv2.CfnWebACL_OverrideActionProperty{None: map[string]any{}},
				Statement: &awswafv2.CfnWebACL_StatementProperty{ManagedRuleGroupStatement: &awswafv2.CfnWebACL_ManagedRuleGroupStatementProperty{
					VendorName: text("AWS"), Name: text("AWSManagedRulesAmazonIpReputationList"),
				}},
			},
			&awswafv2.CfnWebACL_RuleProperty{
				Name: text("rate"), Priority: number(1), VisibilityConfig: visible("rate"),
				Action: &awswafv2.CfnWebACL_RuleActionProperty{Block: map[string]any{}},
				Statement: &awswafv2.CfnWebACL_StatementProperty{RateBasedStatement: &awswafv2.CfnWebACL_RateBasedStatementProperty{
					AggregateKeyType: text("IP"), Limit: number(ipLimit),
				}},
			},
		},
	})
	if d.Basic {
		return
	}
	group := newLogGroup(stack, d, "FirewallLog", "aws-waf-logs-"+d.name("api"))
	awswafv2.NewCfnWebACLAssociation(stack, text("FirewallOfStage"), &awswafv2.CfnWebACLAssociationProps{
		WebAclArn:   acl.AttrArn(),
		ResourceArn: sub("arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/" + *api.Ref() + "/stages/" + *stage.Ref()),
	})
	awswafv2.NewCfnLoggingConfiguration(stack, text("FirewallLogs"), &awswafv2.CfnLoggingConfigurationProps{
		ResourceArn: acl.AttrArn(), LogDestinationConfigs: &[]any{sub(ownARN("logs", "log-group:"+*group.LogGroupName()))},
		RedactedFields: &[]any{
			&awswafv2.CfnLoggingConfiguration_FieldToMatchProperty{QueryString: map[string]any{}},
			&awswafv2.CfnLoggingConfiguration_FieldToMatchProperty{SingleHeader: map[string]any{"Name": "authorization"}},
		},
	})
}
