// Package samtemplate writes template.yaml, the AWS SAM template of every
// function in the manifest, for `sam local start-api`, `sam local invoke` and
// `sam deploy`.
package samtemplate

import (
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

//go:generate go run ./internal/generate ../../template.yaml

const header = `# Generated from pkg/manifest by go generate ./pkg/samtemplate. Never edit it.
`

// node is a piece of the template; YAML prints its keys in their order.
type node = map[string]any

func ref(name string) node { return node{"Ref": name} }

func arn(resource string) node { return node{"Fn::GetAtt": []string{resource, "Arn"}} }

// Template returns the text of template.yaml.
func Template() ([]byte, error) {
	resources := node{"Api": api()}
	addSocketAPI(resources)
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
			"Environment": node{"Variables": environment()},
		}},
		"Parameters": parameters(),
		"Resources":  resources,
		"Outputs":    outputs(),
	})
	if err != nil {
		return nil, fmt.Errorf("write the SAM template: %w", err)
	}
	return append([]byte(header), text...), nil
}

const (
	prefix = "${AWS::StackName}" // begins the names of what a stack has
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

// environment is what every function reads (pkg/config). It only names its
// secrets, which the functions fetch from Secrets Manager.
func environment() node {
	return node{
		"OCELOT_LOG_LEVEL":    "info",
		"OCELOT_QUEUE_PREFIX": node{"Fn::Sub": prefix},
		"OCELOT_CURSOR_KEY":   ref(cursorKeySecret),
		"MONGODB_URI":         ref(mongoSecret),
		"OPENSEARCH_URL":      ref("OpenSearchUrl"),
		"OPENSEARCH_AUTH":     "aws",
		"OIDC_JWKS_URL":       ref("JwksUrl"),
		"OIDC_ISSUER":         ref("Issuer"),
		"OIDC_AUDIENCE":       ref("Audience"),
		"OCELOT_STREAM_URL":   node{"Fn::Sub": "wss://" + socketHost},

		"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": node{"Fn::Sub": "https://" + socketHost},
	}
}

// The parameters that name secrets by their ARNs.
const (
	cursorKeySecret = "CursorKeySecretArn"
	mongoSecret     = "MongoUriSecretArn"
)

func parameters() node {
	text := func(description string) node { return node{"Type": "String", "Description": description} }
	return node{
		cursorKeySecret: text("The ARN of the secret that signs cursors, at least 32 bytes"),
		mongoSecret:     text("The ARN of the secret that is MongoDB's connection string"),
		"OpenSearchUrl": text("The endpoint of the OpenSearch domain"),
		"JwksUrl":       text("The keys of bearer tokens"),
		"Issuer":        text("The issuer of bearer tokens"),
		"Audience":      text("The audience of bearer tokens"),
	}
}

// LogicalID returns a function's or queue's logical id: create-log is CreateLog.
func LogicalID(name string) string {
	var id strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}

func functionID(name string) string { return LogicalID(name) + "Function" }

func queueID(name manifest.QueueName) string { return LogicalID(string(name)) + "Queue" }

// The authorizers: API Gateway caches a decision by its identity sources, so that
// routes whose tenant stands in the header have one of their own (see
// lambdaedge.Authorizer).
const (
	callerInTenant = "CallerInTenant"
	caller         = "Caller"
)

func api() node {
	authorizer := func(headers ...string) node {
		return node{
			"FunctionArn": arn(functionID("authorize-request")), "FunctionPayloadType": "REQUEST",
			"Identity": node{"Headers": headers, "ReauthorizeEvery": 60}, // seconds
		}
	}
	return node{"Type": "AWS::Serverless::Api", "Properties": node{
		"StageName": stage, "EndpointConfiguration": node{"Type": "REGIONAL"}, "TracingEnabled": true,
		"BinaryMediaTypes": []string{"*~1*"}, // compressed bodies, in and out
		"Auth": node{"Authorizers": node{
			callerInTenant: authorizer("Authorization", "X-Tenant-ID"), caller: authorizer("Authorization"),
		}},
	}}
}

func authorizerOf(r *manifest.Route) string {
	switch {
	case r.Permission == "":
		return "NONE"
	case r.TenantFrom == manifest.TenantFromHeader:
		return callerInTenant
	}
	return caller
}

func addQueue(resources node, q manifest.Queue) {
	const fortnight = 14 * 24 * 60 * 60 // seconds, the longest that SQS keeps a message
	dead := queueID(q.Name.DeadLetters())
	resources[dead] = node{"Type": "AWS::SQS::Queue", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain", "Properties": node{
		"QueueName": queueName(q.Name.DeadLetters()), "MessageRetentionPeriod": fortnight, "SqsManagedSseEnabled": true,
	}}
	resources[queueID(q.Name)] = node{"Type": "AWS::SQS::Queue", "UpdateReplacePolicy": "Retain", "DeletionPolicy": "Retain", "Properties": node{
		"QueueName": queueName(q.Name), "VisibilityTimeout": int(q.VisibilityTimeout.Seconds()), "MessageRetentionPeriod": fortnight, "SqsManagedSseEnabled": true,
		"RedrivePolicy": node{"deadLetterTargetArn": arn(dead), "maxReceiveCount": q.MaxReceives},
	}}
}

func addFunction(resources node, f manifest.Function) {
	properties := node{
		"CodeUri": "bin/lambdas/arm64/" + f.Name, "Description": f.Summary,
		"MemorySize": f.MemoryMB, "Timeout": int(f.Timeout.Seconds()), "Policies": policies(f),
	}
	if events := events(f); len(events) > 0 {
		properties["Events"] = events
	}
	if f.Trigger.Schedule != nil {
		properties["EventInvokeConfig"] = noRetry()
	}
	resources[functionID(f.Name)] = node{"Type": "AWS::Serverless::Function", "Properties": properties}
	if f.Trigger.Socket != nil {
		addSocketRoute(resources, f)
	}
}

func events(f manifest.Function) node {
	found := node{}
	if r := f.Trigger.Route; r != nil {
		found["Http"] = node{"Type": "Api", "Properties": node{
			"RestApiId": ref("Api"), "Method": strings.ToLower(r.Method), "Path": manifest.BasePath + r.Path,
			"Auth": node{"Authorizer": authorizerOf(r)},
		}}
	}
	for _, q := range f.Trigger.Queues {
		properties := node{
			"Queue": arn(queueID(q.Queue)), "BatchSize": q.BatchSize, "FunctionResponseTypes": []string{"ReportBatchItemFailures"},
		}
		if q.Window > 0 {
			properties["MaximumBatchingWindowInSeconds"] = int(q.Window.Seconds())
		}
		found[LogicalID(string(q.Queue))] = node{"Type": "SQS", "Properties": properties}
	}
	if s := f.Trigger.Schedule; s != nil {
		found["Schedule"] = node{"Type": "ScheduleV2", "Properties": node{"ScheduleExpression": rate(s.Every), "RetryPolicy": noRetry()}}
	}
	return found
}

// rate is EventBridge Scheduler's expression for every so many minutes.
func rate(every time.Duration) string {
	if every == time.Minute {
		return "rate(1 minute)"
	}
	return fmt.Sprintf("rate(%d minutes)", every/time.Minute)
}

// noRetry is for runs of a schedule: the next one makes up for one that failed.
func noRetry() node { return node{"MaximumRetryAttempts": 0} }

// policies grants the secrets of the settings, the connections that a function
// sends over, and the queues that it sends to or asks after; SAM adds the right to receive from the queues that
// trigger it.
func policies(f manifest.Function) []node {
	statements := []node{{
		"Effect": "Allow", "Action": []string{"secretsmanager:GetSecretValue"}, "Resource": []node{ref(cursorKeySecret), ref(mongoSecret)},
	}}
	for _, q := range manifest.Queues() {
		for _, name := range []manifest.QueueName{q.Name, q.Name.DeadLetters()} {
			for _, g := range f.Grants {
				if g.Resource != manifest.QueueResource(name) {
					continue
				}
				actions := []string{"sqs:GetQueueUrl"}
				if g.Read {
					actions = append(actions, "sqs:GetQueueAttributes")
				}
				if g.Write {
					actions = append(actions, "sqs:SendMessage")
				}
				statements = append(statements, node{"Effect": "Allow", "Action": actions, "Resource": arn(queueID(name))})
			}
		}
	}
	return []node{{"Version": "2012-10-17", "Statement": append(statements, connections(f)...)}}
}

func queueName(name manifest.QueueName) node { return node{"Fn::Sub": prefix + "-" + string(name)} }
