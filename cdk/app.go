package main

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// service is what the stacks run: the table of pkg/manifest, or a changed copy of it.
type service struct {
	functions  []manifest.Function
	queues     []manifest.Queue
	document   []byte // the OpenAPI 3.1 document
	bootstraps string // the folder that has a folder with the bootstrap of each function
}

// deployment is the service in one environment.
type deployment struct {
	Environment
	service
	stage constructs.Construct
}

// addApp adds the stacks of each environment, and the pipeline.
func addApp(app awscdk.App, environments []Environment, s service) {
	stages := make([]awscdk.Stage, len(environments))
	for i, e := range environments {
		stages[i] = addEnvironment(app, e, s)
	}
	addDelivery(app, environments, stages)
}

// addEnvironment adds the stacks of one environment.
func addEnvironment(scope constructs.Construct, e Environment, s service) awscdk.Stage {
	stage := awscdk.NewStage(scope, text(e.Name), &awscdk.StageProps{
		StageName: text(prefix + e.Name), Env: &awscdk.Environment{Account: optional(e.Account), Region: text(e.Region)},
	})
	d := &deployment{Environment: e, service: s, stage: stage}
	net := newNetwork(d)
	stores := newData(d, net)
	addFunctions(d, net, stores)
	addAPI(d, stores)
	addOperations(d)
	return stage
}

// newStack adds one of the environment's stacks. It is deployed after the others.
func (d *deployment) newStack(name, description string, after ...awscdk.Stack) awscdk.Stack {
	stack := awscdk.NewStack(d.stage, text(name), &awscdk.StackProps{
		StackName: text(d.name(name)), Description: text(description), TerminationProtection: truth(d.Protected),
		Tags: &map[string]*string{"service": text("ocelot"), "environment": text(d.Name)},
	})
	for _, other := range after {
		stack.AddStackDependency(other, nil)
	}
	return stack
}

// prefix begins the names of stacks and resources.
const prefix = "ocelot-"

// name returns the name of a resource in the environment. Stacks find the resources of
// others by such names, so that one can change without the others.
func (d *deployment) name(parts ...string) string {
	return prefix + d.Name + "-" + strings.Join(parts, "-")
}

// The ARNs that are composed from names.
func (d *deployment) functionARN(name string) string {
	return ownARN("lambda", "function:"+d.name(name))
}

func (d *deployment) aliasARN(name string) string { return d.functionARN(name) + ":" + liveAlias }

func (d *deployment) queueARN(name manifest.QueueName) string {
	return ownARN("sqs", d.name(string(name)))
}

// ownARN returns the ARN of a resource of the stack's own account and region, as a text
// for sub.
func ownARN(service, resource string) string {
	return "arn:${AWS::Partition}:" + service + ":${AWS::Region}:${AWS::AccountId}:" + resource
}

// sub returns the text with the values of CloudFormation's pseudo parameters.
func sub(template string) *string {
	return text(strings.NewReplacer(
		"${AWS::Partition}", *awscdk.Aws_PARTITION(), "${AWS::Region}", *awscdk.Aws_REGION(),
		"${AWS::AccountId}", *awscdk.Aws_ACCOUNT_ID(), "${AWS::URLSuffix}", *awscdk.Aws_URL_SUFFIX(),
	).Replace(template))
}

// The CDK takes pointers to values.
func text(s string) *string                { return jsii.String(s) }
func texts(s ...string) *[]*string         { return jsii.Strings(s...) }
func number[T int | float64](n T) *float64 { return jsii.Number(float64(n)) }
func truth(b bool) *bool                   { return jsii.Bool(b) }

// optional returns nil for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return text(s)
}
