// Package samtemplate writes template.yaml, the AWS SAM template of every
// function in the manifest, for `sam local start-api`, `sam local invoke` and
// `sam deploy`.
package samtemplate

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

//go:generate go run ./internal/generate ../../template.yaml

const header = `# Generated from pkg/manifest by go generate ./pkg/samtemplate. Never edit it.
`

// node is a part of the template. YAML writes its keys in alphabetical order.
type node = map[string]any

func ref(name string) node { return node{"Ref": name} }

func arn(resource string) node { return node{"Fn::GetAtt": []string{resource, "Arn"}} }

// Template returns the text of template.yaml.
func Template() ([]byte, error) {
	resources := node{"Api": api()}
	addUsagePlans(resources)
	addSocketAPI(resources)
	addExports(resources)
	addTombstones(resources)
	addArchive(resources)
	for _, q := range manifest.Queues() {
		addQueue(resources, q)
	}
	for _, f := range manifest.Functions() {
		addFunction(resources, f)
	}
	text, err := yaml.Marshal(node{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Transform":                "AWS::Serverless-2016-10-31",
		"Description":              "Ocelot, an audit-log service: one Lambda for each endpoint and worker",
		"Globals": node{"Function": node{
			"Runtime": "provided.al2023", "Architectures": []string{"arm64"}, "Handler": "bootstrap", "Tracing": "Active",
		}},
		"Parameters": parameters(),
		"Conditions": conditions(),
		"Resources":  resources,
		"Outputs":    outputs(),
	})
	if err != nil {
		return nil, fmt.Errorf("write the SAM template: %w", err)
	}
	return append([]byte(header), text...), nil
}

const (
	prefix = "${AWS::StackName}" // of the names of the stack's resources
	stage  = "live"              // of both APIs
)

func outputs() node {
	url := func(description, value string) node {
		return node{"Description": description, "Value": node{"Fn::Sub": value}}
	}
	return node{
		"ApiUrl":    url("The base of the HTTP API", "https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${Api.Stage}"+manifest.BasePath),
		"StreamUrl": url("Where clients connect to the live stream", "wss://"+socketHost),
	}
}

// environment returns the variables that a function reads (pkg/config). The value of a
// secret is its ARN: the function fetches the secret from Secrets Manager.
func environment(f manifest.Function) node {
	values := node{
		"OCELOT_LOG_LEVEL":    "info",
		"OCELOT_QUEUE_PREFIX": node{"Fn::Sub": prefix},
		"OCELOT_CURSOR_KEY":   ref(cursorKeySecret),
		"OCELOT_MASTER_KEY":   ref(masterKeyARN),

		"OCELOT_EXPORTS_BUCKET":    ref(exportsBucket),
		"OCELOT_TOMBSTONES_BUCKET": ref(tombstonesBucket),
		"OCELOT_ARCHIVE_BUCKET":    ref(archiveBucket),
		"MONGODB_URI":              ref(mongoSecret),
		"OPENSEARCH_URL":           ref(openSearchURL),
		"OPENSEARCH_AUTH":          when(openSearchSigned, "aws", "none"),
		"OIDC_JWKS_URL":            ref("JwksUrl"),
		"OIDC_ISSUER":              ref("Issuer"),
		"OIDC_AUDIENCE":            ref("Audience"),
		"OCELOT_STREAM_URL":        node{"Fn::Sub": "wss://" + socketHost},
		"OCELOT_ORIGINS":           ref(origins),

		"OCELOT_KEY_BACKUP_DAYS": ref("KeyBackupDays"),

		"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": node{"Fn::Sub": "https://" + socketHost},
	}
	for variable, parameter := range rateParameters {
		values[variable] = ref(parameter)
	}
	for _, plan := range usagePlans {
		values[plan.variable] = plan.key()
	}
	read := node{}
	for _, name := range config.FunctionVariables(f) {
		if value, set := values[name]; set {
			read[name] = value // the others have defaults
		}
	}
	return read
}

// rateParameters are the parameters of quotas by the variables that have them.
var rateParameters = map[string]string{
	"OCELOT_RATE_STANDARD": "RateStandard", "OCELOT_RATE_PRIORITY": "RatePriority", "OCELOT_RATE_CREDENTIAL": "RateCredential",
}

// The parameters that are also used outside of environments.
const (
	cursorKeySecret = "CursorKeySecretArn"
	mongoSecret     = "MongoUriSecretArn"
	openSearchURL   = "OpenSearchUrl"
	openSearchARN   = "OpenSearchDomainArn"
	secretsKeyARN   = "SecretsKeyArn"
	masterKeyARN    = "MasterKeyArn"
	origins         = "Origins"
)

func parameters() node {
	text := func(description string) node { return node{"Type": "String", "Description": description} }
	optional := func(description string) node {
		return node{"Type": "String", "Description": description, "Default": ""}
	}
	rate := func(variable, description string) node {
		return node{"Type": "Number", "Description": description + ", in entries a second; 0: no limit", "Default": config.DefaultRates()[variable]}
	}
	requests := func(description string, unset int) node {
		return node{"Type": "Number", "Description": description, "Default": unset, "MinValue": 1}
	}
	return node{
		usagePlans[0].parameter: requests("The requests a second of all tenants of the tier standard together", 1500),
		usagePlans[1].parameter: requests("The requests a second of all tenants of the tier priority together", 2000),

		"RateStandard":   rate("OCELOT_RATE_STANDARD", "The quota of a tenant"),
		"RatePriority":   rate("OCELOT_RATE_PRIORITY", "The quota of a tenant with the tier priority"),
		"RateCredential": rate("OCELOT_RATE_CREDENTIAL", "The quota of an API key or the subject of a token"),
		cursorKeySecret:  text("The ARN of the secret that signs cursors, at least 32 bytes"),
		mongoSecret:      text("The ARN of the secret that is MongoDB's connection string"),
		openSearchURL:    text("The endpoint of the OpenSearch domain; without OpenSearchDomainArn, the ARN of the secret that is its URL with user and password"),
		openSearchARN:    optional("The ARN of the OpenSearch domain, which signed requests are sent to; empty where user and password prove who asks"),
		"KeyBackupDays": node{
			"Type": "Number", "Default": 35, "MinValue": 0, "MaxValue": 3650, "Description": "How many days backups of MongoDB are kept; certificates of erasures say it",
		},
		masterKeyARN:  text("The ARN of the symmetric KMS key that wraps the keys of tenants"),
		secretsKeyARN: optional("The ARN of the KMS key of the secrets; empty where that is aws/secretsmanager"),
		origins:       optional("The origins, separated by commas, of pages whose scripts may call the API in a browser; empty: none"),
		"JwksUrl":     text("The keys of bearer tokens"),
		"Issuer":      text("The issuer of bearer tokens"),
		"Audience":    text("The audience of bearer tokens"),
	}
}

// The conditions.
const (
	openSearchSigned = "OpenSearchIsSigned"
	secretsOwnKey    = "SecretsHaveTheirOwnKey"
	browsersMayCall  = "BrowsersMayCall"
)

func conditions() node {
	given := func(parameter string) node { return node{"Fn::Not": []node{{"Fn::Equals": []any{ref(parameter), ""}}}} }
	return node{openSearchSigned: given(openSearchARN), secretsOwnKey: given(secretsKeyARN), browsersMayCall: given(origins)}
}

// when returns a node that is then if the condition is true, else otherwise.
func when(condition string, then, otherwise any) node {
	return node{"Fn::If": []any{condition, then, otherwise}}
}

// noValue leaves out the property or list element whose value it is.
func noValue() node { return ref("AWS::NoValue") }

func functionID(name string) string { return manifest.CamelCase(name) + "Function" }

func queueID(name manifest.QueueName) string { return manifest.CamelCase(string(name)) + "Queue" }

// caller is the name of the authorizer. API Gateway requires every identity source in a request,
// and not every request needs a tenant. So its identity sources are the credential and the route,
// which makes every refused route reach the function (see lambdaedge.Authorizer).
const caller = "Caller"

func api() node {
	authorizer := node{
		"FunctionArn": arn(functionID("authorize-request")), "FunctionPayloadType": "REQUEST",
		"Identity": node{"Headers": []string{"Authorization"}, "Context": []string{"httpMethod", "resourcePath"}, "ReauthorizeEvery": int(manifest.AuthorizerTTL.Seconds())},
	}
	return node{"Type": "AWS::Serverless::Api", "Properties": node{
		"StageName": stage, "EndpointConfiguration": node{"Type": "REGIONAL"}, "TracingEnabled": true,
		"ApiKeySourceType": "AUTHORIZER",
		"BinaryMediaTypes": []string{"*~1*"}, // compressed bodies, in and out
		"Auth":             node{"Authorizers": node{caller: authorizer}},
		"GatewayResponses": gatewayResponses(),
	}}
}

// usagePlan bounds the requests of the tenants of a tier together.
type usagePlan struct {
	tier                string
	variable, parameter string // of the authorizer and of the template
}

var usagePlans = []usagePlan{
	{"standard", "OCELOT_USAGE_KEY_STANDARD", "RequestsStandard"},
	{"priority", "OCELOT_USAGE_KEY_PRIORITY", "RequestsPriority"},
}

// key returns the API key of the plan. It is unique in the account and region.
func (p usagePlan) key() node {
	return node{"Fn::Sub": prefix + "-requests-of-" + p.tier + "-tenants"}
}

// addUsagePlans adds a plan with a key for each tier. The authorizer returns the key of the
// tenant's tier (lambdaedge.Callers). A client cannot choose one, so that a key is no secret.
func addUsagePlans(resources node) {
	for _, p := range usagePlans {
		id, name := manifest.CamelCase(p.tier), node{"Fn::Sub": prefix + "-" + p.tier}
		resources[id+"Key"] = node{"Type": "AWS::ApiGateway::ApiKey", "Properties": node{
			"Name": name, "Value": p.key(), "Enabled": true, "Description": "Counts requests; it opens nothing",
		}}
		resources[id+"Plan"] = node{"Type": "AWS::ApiGateway::UsagePlan", "Properties": node{
			"UsagePlanName": name, "Description": "All tenants of the tier " + p.tier + " together",
			"ApiStages": []node{{"ApiId": ref("Api"), "Stage": ref("Api.Stage")}},
			"Throttle":  node{"RateLimit": ref(p.parameter), "BurstLimit": ref(p.parameter)},
		}}
		resources[id+"PlanKey"] = node{"Type": "AWS::ApiGateway::UsagePlanKey", "Properties": node{
			"KeyId": ref(id + "Key"), "KeyType": "API_KEY", "UsagePlanId": ref(id + "Plan"),
		}}
	}
}

// gatewayResponses gives API Gateway's own responses the form of the functions'
// responses. Header values are mapping expressions: quoted text or the name of a
// variable. The templates are for application/json, because API Gateway uses that type
// if a client accepts any.
func gatewayResponses() node {
	responses := node{}
	for _, answer := range httpapi.GatewayAnswers("$context.requestId") {
		headers := node{manifest.RequestIDHeader: "context.requestId", "Access-Control-Allow-Origin": when(browsersMayCall, firstOrigin(), noValue())}
		for name, values := range answer.Header {
			headers[name] = "'" + values[0] + "'"
		}
		responses[answer.Type] = node{
			"StatusCode": answer.Status, "ResponseParameters": node{"Headers": headers}, "ResponseTemplates": node{"application/json": answer.Body},
		}
	}
	return responses
}

// firstOrigin is a mapping expression. API Gateway cannot choose among several origins.
func firstOrigin() node {
	first := node{"Fn::Select": []any{0, node{"Fn::Split": []any{",", ref(origins)}}}}
	return node{"Fn::Sub": []any{"'${Origin}'", node{"Origin": first}}}
}

func addQueue(resources node, q manifest.Queue) {
	const fortnight = 14 * 24 * 60 * 60 // seconds, SQS's maximum
	dead := queueID(q.Name.DeadLetters())
	resources[dead] = node{"Type": "AWS::SQS::Queue", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain", "Properties": node{
		"QueueName": queueName(q.Name.DeadLetters()), "MessageRetentionPeriod": fortnight, "SqsManagedSseEnabled": true,
	}}
	resources[queueID(q.Name)] = node{"Type": "AWS::SQS::Queue", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain", "Properties": node{
		"QueueName": queueName(q.Name), "VisibilityTimeout": int(q.VisibilityTimeout.Seconds()), "MessageRetentionPeriod": fortnight, "SqsManagedSseEnabled": true,
		"RedrivePolicy": node{"deadLetterTargetArn": arn(dead), "maxReceiveCount": q.MaxReceives},
	}}
}

// exportsBucket is the id of the bucket with the files of exports.
const exportsBucket = "ExportsBucket"

// addExports adds the bucket of exports, with rules that remove unfinished uploads, and files that the
// service could not remove.
func addExports(resources node) {
	addBucket(resources, exportsBucket, node{"LifecycleConfiguration": node{"Rules": []node{{
		"Id": "Expire", "Status": "Enabled", "ExpirationInDays": manifest.ExportBucketDays, "AbortIncompleteMultipartUpload": node{"DaysAfterInitiation": manifest.UploadDays},
	}}}})
}

// tombstonesBucket is the id of the bucket that says which keys were destroyed.
const tombstonesBucket = "TombstonesBucket"

// addTombstones adds the bucket of tombstones, which keeps them for ever.
func addTombstones(resources node) {
	addBucket(resources, tombstonesBucket, node{"VersioningConfiguration": node{"Status": "Enabled"}})
}

// archiveBucket is the id of the bucket with the archive.
const archiveBucket = "ArchiveBucket"

// addArchive adds the bucket of the archive, with rules that remove unfinished uploads, and a while later
// what the service has replaced or removed.
func addArchive(resources node) {
	addBucket(resources, archiveBucket, node{
		"VersioningConfiguration": node{"Status": "Enabled"},
		"LifecycleConfiguration": node{"Rules": []node{{
			"Id": "Expire", "Status": "Enabled", "NoncurrentVersionExpiration": node{"NoncurrentDays": 30}, "AbortIncompleteMultipartUpload": node{"DaysAfterInitiation": manifest.UploadDays},
		}}},
	})
}

// addBucket adds a bucket that is encrypted, not public, and stays if the stack goes.
func addBucket(resources node, id string, properties node) {
	properties["BucketEncryption"] = node{"ServerSideEncryptionConfiguration": []node{{"ServerSideEncryptionByDefault": node{"SSEAlgorithm": "AES256"}}}}
	properties["PublicAccessBlockConfiguration"] = node{
		"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true,
	}
	resources[id] = node{"Type": "AWS::S3::Bucket", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain", "Properties": properties}
}

func addFunction(resources node, f manifest.Function) {
	properties := node{
		"CodeUri": "bin/lambdas/arm64/" + f.Name, "Description": f.Summary,
		"MemorySize": f.MemoryMB, "Timeout": int(f.Timeout.Seconds()), "Environment": node{"Variables": environment(f)},
	}
	if policies := policies(f); len(policies) > 0 {
		properties["Policies"] = policies
	}
	if events := events(f); len(events) > 0 {
		properties["Events"] = events
	}
	if f.Trigger.Schedule != nil {
		properties["EventInvokeConfig"] = noRetry()
	}
	if rights.FeedsItself(f) {
		properties["RecursiveLoop"] = "Allow"
	}
	resources[functionID(f.Name)] = node{"Type": "AWS::Serverless::Function", "Properties": properties}
	if f.Trigger.Socket != nil {
		addSocketRoute(resources, f)
	}
	if f.Trigger.Rotation != nil {
		// Who made the secret turns its rotation on; see docs/operations.md.
		resources[manifest.CamelCase(f.Name)+"Permission"] = node{"Type": "AWS::Lambda::Permission", "Properties": node{
			"Action": "lambda:InvokeFunction", "FunctionName": ref(functionID(f.Name)), "Principal": "secretsmanager.amazonaws.com",
			"SourceAccount": ref("AWS::AccountId"),
		}}
	}
}

func events(f manifest.Function) node {
	found := node{}
	if r := f.Trigger.Route; r != nil {
		found["Http"] = method(r, r.Method)
		if r.Method == http.MethodGet {
			found["Head"] = method(r, http.MethodHead)
		}
		if answersPreflight(f) {
			found["Options"] = preflight(r)
		}
	}
	for _, q := range f.Trigger.Queues {
		properties := node{
			"Queue": arn(queueID(q.Queue)), "BatchSize": q.BatchSize, "FunctionResponseTypes": []string{"ReportBatchItemFailures"},
			"ScalingConfig": node{"MaximumConcurrency": q.MaxConcurrency},
		}
		if q.Window > 0 {
			properties["MaximumBatchingWindowInSeconds"] = int(q.Window.Seconds())
		}
		found[manifest.CamelCase(string(q.Queue))] = node{"Type": "SQS", "Properties": properties}
	}
	if s := f.Trigger.Schedule; s != nil {
		found["Schedule"] = node{"Type": "ScheduleV2", "Properties": node{"ScheduleExpression": s.Expression(), "RetryPolicy": noRetry()}}
	}
	return found
}

// method returns a method of the REST API. A public one names no authorizer: SAM rejects
// an explicit "none".
func method(r *manifest.Route, name string) node {
	properties := node{"RestApiId": ref("Api"), "Method": strings.ToLower(name), "Path": manifest.BasePath + r.Path}
	if r.Permission != "" {
		properties["Auth"] = node{"Authorizer": caller, "ApiKeyRequired": true} // see addUsagePlans
	}
	return node{"Type": "Api", "Properties": properties}
}

// preflight returns the method of browsers' preflight requests, which have no credential.
func preflight(r *manifest.Route) node {
	return node{"Type": "Api", "Properties": node{"RestApiId": ref("Api"), "Method": "options", "Path": manifest.BasePath + r.Path}}
}

// answersPreflight reports whether the function answers the preflight requests of its path: the
// first function of the path does.
func answersPreflight(f manifest.Function) bool {
	functions := manifest.Functions()
	first := slices.IndexFunc(functions, func(other manifest.Function) bool {
		return other.Trigger.Route != nil && other.Trigger.Route.Path == f.Trigger.Route.Path
	})
	return functions[first].Name == f.Name
}

// noRetry disables retries of scheduled runs: the next run does the work of a failed one.
func noRetry() node { return node{"MaximumRetryAttempts": 0} }

func queueName(name manifest.QueueName) node { return node{"Fn::Sub": prefix + "-" + string(name)} }
