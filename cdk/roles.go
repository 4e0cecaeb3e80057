package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

// role returns the role of a function: what its grants need, what Lambda needs to poll its
// queues, to write its logs and traces, and to run it in the VPC. None of AWS's own managed
// policies is in it.
func (s *functionStack) role(scope constructs.Construct, f manifest.Function) awsiam.IRole {
	statements := []awsiam.PolicyStatement{
		allow([]string{ownARN("logs", "log-group:/aws/lambda/"+s.name(f.Name)+":*")}, "logs:CreateLogStream", "logs:PutLogEvents"),
		allow([]string{"*"}, "xray:PutTraceSegments", "xray:PutTelemetryRecords"), // X-Ray knows no resource of these
	}
	for _, r := range append(rights.Polling(f), rights.Of(f)...) {
		statements = append(statements, s.statement(r))
	}
	if inVPC(f) {
		statements = append(statements, networkStatements(s.functionARN(f.Name))...)
	}
	role := awsiam.NewRole(scope, text("Role"), &awsiam.RoleProps{
		RoleName: text(s.name(f.Name)), Description: text(f.Summary), AssumedBy: awsiam.NewServicePrincipal(text("lambda.amazonaws.com"), nil),
		InlinePolicies: &map[string]awsiam.PolicyDocument{"grants": document(statements...)},
	})
	return role.WithoutPolicyUpdates(nil)
}

// networkStatements let Lambda attach the function to the VPC, and the function itself not.
// Lambda's manual asks for all resources.
func networkStatements(function string) []awsiam.PolicyStatement {
	actions := texts("ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
		"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses")
	return []awsiam.PolicyStatement{
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: actions, Resources: texts("*")}),
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Effect: awsiam.Effect_DENY, Actions: actions, Resources: texts("*"),
			Conditions: &map[string]any{"ArnEquals": map[string]any{"lambda:SourceFunctionArn": sub(function)}},
		}),
	}
}

// statement returns the statement of a right.
func (s *functionStack) statement(r rights.Right) awsiam.PolicyStatement {
	var resources []string
	for _, target := range r.Targets {
		if arn := s.targetARN(target); arn != "" {
			resources = append(resources, arn)
		}
	}
	statement := allow(resources, r.Actions...)
	if r.Via != "" {
		statement.AddCondition(text("StringLike"), map[string]any{"kms:ViaService": r.Via})
	}
	return statement
}

// targetARN returns the ARN of a target. It is "" for the address of the search index, which
// is no secret here: calls are signed.
func (s *functionStack) targetARN(target rights.Target) string {
	switch target.Kind {
	case rights.Secret:
		if target.Name == rights.Search {
			return ""
		}
		return s.secretARN(target.Name) + "-??????" // which AWS adds to the name
	case rights.SecretsKey:
		return *s.stores.key.KeyArn()
	case rights.MasterKey:
		return *s.stores.tenants
	case rights.Exports:
		return "arn:${AWS::Partition}:s3:::" + s.exportsBucket() + target.Name
	case rights.Tombstones:
		return "arn:${AWS::Partition}:s3:::" + s.bucket(tombstonesBucket) + target.Name
	case rights.Archive:
		return "arn:${AWS::Partition}:s3:::" + s.bucket(archiveBucket) + target.Name
	case rights.BucketsKey:
		return *s.stores.key.KeyArn()
	case rights.Queue:
		return s.queueARN(manifest.QueueName(target.Name))
	case rights.Index:
		return s.searchARN() + target.Name
	case rights.Sockets:
		return s.stores.socketARN("/" + stageName + "/" + target.Name + "/@connections/*")
	}
	panic("cdk: no ARN for a target of the kind " + string(target.Kind))
}

func allow(resources []string, actions ...string) awsiam.PolicyStatement {
	all := make([]*string, len(resources))
	for i, r := range resources {
		all[i] = sub(r)
	}
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: texts(actions...), Resources: &all})
}

func document(statements ...awsiam.PolicyStatement) awsiam.PolicyDocument {
	return awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &statements})
}
