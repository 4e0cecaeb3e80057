package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscodedeploy"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rights"
)

// liveAlias is the alias that everything invokes. A rollout moves it to a new version.
const liveAlias = "live"

// functionStack is a stack of functions with what their rollouts share.
type functionStack struct {
	*deployment
	stack   awscdk.Stack
	net     *network
	stores  *data
	rollout *rollout // nil: a new version is live at once
}

// functionStacks are the stacks of functions, with what each says of itself. There are several,
// because CloudFormation takes at most 500 resources in a stack.
var functionStacks = []struct{ name, description string }{
	{"FunctionsLogs", "Ocelot: the authorizer, and the functions of the REST API below /logs"},
	{"FunctionsAdmin", "Ocelot: the other functions of the REST API"},
	{"FunctionsWorkers", "Ocelot: the functions of queues, schedules and the live stream"},
}

// functionStackOf returns the name of the stack that the function is in.
func functionStackOf(f manifest.Function) string {
	switch route := f.Trigger.Route; {
	case f.Trigger.Authorizer, route != nil && (route.Path == "/logs" || strings.HasPrefix(route.Path, "/logs/")):
		return "FunctionsLogs"
	case route != nil:
		return "FunctionsAdmin"
	}
	return "FunctionsWorkers"
}

// addFunctions adds the functions in their stacks.
func addFunctions(d *deployment, net *network, stores *data) {
	stacks := map[string]*functionStack{}
	for _, named := range functionStacks {
		s := &functionStack{deployment: d, stack: d.newStack(named.name, named.description, stores.stack), net: net, stores: stores}
		if !d.Basic {
			s.rollout = newRollout(s)
		}
		stacks[named.name] = s
	}
	for _, f := range d.functions {
		stacks[functionStackOf(f)].add(f)
	}
}

// add adds a function with its version, alias, role, log group, alarm and deployment
// group, and with the queues or the schedule that trigger it.
func (s *functionStack) add(f manifest.Function) {
	scope := constructs.NewConstruct(s.stack, text(manifest.CamelCase(f.Name)))
	group := newLogGroup(scope, s.deployment, "Log", "/aws/lambda/"+s.name(f.Name))
	props := &awslambda.FunctionProps{
		FunctionName: text(s.name(f.Name)), Description: text(f.Summary), Runtime: awslambda.Runtime_PROVIDED_AL2023(), Architecture: awslambda.Architecture_ARM_64(),
		Handler: text("bootstrap"), Code: awslambda.Code_FromAsset(text(filepath.Join(s.bootstraps, f.Name)), nil),
		MemorySize: number(f.MemoryMB), Timeout: awscdk.Duration_Seconds(number(f.Timeout.Seconds())), Environment: s.environment(f),
		Role: s.role(scope, f), LogGroup: group, Tracing: awslambda.Tracing_ACTIVE,
	}
	if acceptsEntries(f) && s.Accepting > 0 {
		props.ReservedConcurrentExecutions = number(s.Accepting)
	}
	if inVPC(f) {
		props.Vpc, props.VpcSubnets = s.net.vpc, &awsec2.SubnetSelection{SubnetGroupName: text(functionSubnets)}
		props.SecurityGroups = s.securityGroups(scope, f)
	}
	if rights.FeedsItself(f) {
		props.RecursiveLoop = awslambda.RecursiveLoop_ALLOW
	}
	function := awslambda.NewFunction(scope, text("Function"), props)
	alias := awslambda.NewAlias(scope, text("Live"), &awslambda.AliasProps{AliasName: text(liveAlias), Version: function.CurrentVersion()})
	alarm := s.addAlarm(scope, f)
	if s.rollout != nil {
		s.rollout.add(scope, f, alias, alarm)
	}
	s.addPollers(scope, f, alias)
	s.addSchedule(scope, f, alias)
	s.addRotation(scope, f, alias)
}

// acceptsEntries reports whether the function must not wait for the others' executions.
func acceptsEntries(f manifest.Function) bool {
	return f.Trigger.Route != nil && f.Trigger.Route.Permission == access.LogsWrite
}

// inVPC reports whether the function calls anything.
func inVPC(f manifest.Function) bool { return len(f.Dependencies()) > 0 }

func (s *functionStack) securityGroups(scope constructs.Construct, f manifest.Function) *[]awsec2.ISecurityGroup {
	of := func(id string, group awsec2.CfnSecurityGroup) awsec2.ISecurityGroup {
		return awsec2.SecurityGroup_FromSecurityGroupId(scope, text(id), group.AttrGroupId(), &awsec2.SecurityGroupImportOptions{Mutable: truth(false)})
	}
	groups := []awsec2.ISecurityGroup{of("FunctionsGroup", s.net.functions)}
	if f.DependsOn(manifest.DependencyTokens) {
		groups = append(groups, of("IssuersGroup", s.net.issuers))
	}
	return &groups
}

// environment returns the variables of pkg/config that the function reads. The value of a
// secret is its ARN: the function fetches the secret from Secrets Manager.
func (s *functionStack) environment(f manifest.Function) *map[string]*string {
	stream := "wss://" + s.stores.socketHost()
	if s.Domain.Stream != "" {
		stream = "wss://" + s.Domain.Stream
	}
	known := map[string]string{
		"OCELOT_LOG_LEVEL": s.LogLevel, "OCELOT_QUEUE_PREFIX": prefix + s.Name, "OCELOT_STREAM_URL": stream, "OCELOT_ORIGINS": strings.Join(s.Origins, ","),
		"OCELOT_CURSOR_KEY": s.secretARN(rights.CursorKey), "OCELOT_MASTER_KEY": *s.stores.tenants, "OCELOT_EXPORTS_BUCKET": s.exportsBucket(), "OCELOT_TOMBSTONES_BUCKET": s.bucket(tombstonesBucket), "OCELOT_ARCHIVE_BUCKET": s.bucket(archiveBucket), "MONGODB_URI": s.secretARN(rights.Records),
		"OCELOT_KEY_BACKUP_DAYS": strconv.Itoa(s.Database.BackupDays),
		"OPENSEARCH_URL":         "https://" + *s.stores.search.AttrDomainEndpoint(), "OPENSEARCH_AUTH": "aws", "OPENSEARCH_REPLICAS": strconv.Itoa(s.Search.Replicas),
		"OIDC_JWKS_URL": s.Issuer.JWKSURL, "OIDC_ISSUER": s.Issuer.Issuer, "OIDC_AUDIENCE": s.Issuer.Audience,
		"OCELOT_RATE_STANDARD": strconv.Itoa(s.Rates.Standard), "OCELOT_RATE_PRIORITY": strconv.Itoa(s.Rates.Priority), "OCELOT_RATE_CREDENTIAL": strconv.Itoa(s.Rates.Credential),
		"OCELOT_USAGE_KEY_STANDARD": s.usageKey(audit.TierStandard), "OCELOT_USAGE_KEY_PRIORITY": s.usageKey(audit.TierPriority),

		"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "https://" + s.stores.socketHost(),
	}
	variables := map[string]*string{}
	for _, name := range config.FunctionVariables(f) {
		if value, set := known[name]; set {
			variables[name] = sub(value) // the others have defaults
		}
	}
	return &variables
}

func (s *functionStack) addAlarm(scope constructs.Construct, f manifest.Function) awscloudwatch.CfnAlarm {
	return awscloudwatch.NewCfnAlarm(scope, text("Errors"), &awscloudwatch.CfnAlarmProps{
		AlarmName: text(s.name(f.Name, "errors")), AlarmDescription: text(runbook("Errors of a function")),
		Namespace: text("AWS/Lambda"), MetricName: text("Errors"), Statistic: text("Sum"), Period: number(60),
		Dimensions: &[]any{dimension("FunctionName", s.name(f.Name)), dimension("Resource", s.name(f.Name)+":"+liveAlias)},
		Threshold:  number(0), ComparisonOperator: text("GreaterThanThreshold"), EvaluationPeriods: number(5), DatapointsToAlarm: number(2),
		TreatMissingData: text("notBreaching"), AlarmActions: s.notify(), OkActions: s.notify(),
	})
}

// addPollers has Lambda poll the queues that trigger the function.
func (s *functionStack) addPollers(scope constructs.Construct, f manifest.Function, alias awslambda.Alias) {
	for _, t := range f.Trigger.Queues {
		awslambda.NewCfnEventSourceMapping(scope, text(manifest.CamelCase(string(t.Queue))+"Poller"), &awslambda.CfnEventSourceMappingProps{
			FunctionName: alias.FunctionArn(), EventSourceArn: sub(s.queueARN(t.Queue)), BatchSize: number(t.BatchSize),
			MaximumBatchingWindowInSeconds: number(t.Window.Seconds()), FunctionResponseTypes: texts("ReportBatchItemFailures"),
			ScalingConfig: &awslambda.CfnEventSourceMapping_ScalingConfigProperty{MaximumConcurrency: number(t.MaxConcurrency)},
		})
	}
}

// addSchedule has EventBridge Scheduler invoke the function. A run that fails is not
// repeated: the next one does its work.
func (s *functionStack) addSchedule(scope constructs.Construct, f manifest.Function, alias awslambda.Alias) {
	if f.Trigger.Schedule == nil {
		return
	}
	role := awsiam.NewRole(scope, text("SchedulerRole"), &awsiam.RoleProps{
		Description: text("Lets the schedule invoke " + f.Name),
		AssumedBy: awsiam.NewServicePrincipal(text("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": sub("${AWS::AccountId}")}},
		}),
		InlinePolicies: &map[string]awsiam.PolicyDocument{"invoke": document(allow([]string{s.aliasARN(f.Name)}, "lambda:InvokeFunction"))},
	})
	awsscheduler.NewCfnSchedule(scope, text("Schedule"), &awsscheduler.CfnScheduleProps{
		Name: text(s.name(f.Name)), Description: text(f.Summary), ScheduleExpression: text(f.Trigger.Schedule.Expression()),
		FlexibleTimeWindow: &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: text("OFF")},
		Target: &awsscheduler.CfnSchedule_TargetProperty{
			Arn: alias.FunctionArn(), RoleArn: role.RoleArn(), RetryPolicy: &awsscheduler.CfnSchedule_RetryPolicyProperty{MaximumRetryAttempts: number(0)},
		},
	})
	awslambda.NewCfnEventInvokeConfig(scope, text("NoRetry"), &awslambda.CfnEventInvokeConfigProps{
		FunctionName: alias.Lambda().FunctionName(), Qualifier: alias.AliasName(), MaximumRetryAttempts: number(0),
	})
}

// addRotation has Secrets Manager rotate a secret with the function: at once, so that its first
// ring has a key that signs next, and then at its interval.
func (s *functionStack) addRotation(scope constructs.Construct, f manifest.Function, alias awslambda.Alias) {
	r := f.Trigger.Rotation
	if r == nil {
		return
	}
	permission := awslambda.NewCfnPermission(scope, text("RotationPermission"), &awslambda.CfnPermissionProps{
		Action: text("lambda:InvokeFunction"), FunctionName: alias.FunctionArn(), Principal: text("secretsmanager.amazonaws.com"),
		SourceAccount: awscdk.Aws_ACCOUNT_ID(), SourceArn: sub(s.secretARN(secretVariables[r.Secret]) + "-??????"),
	})
	if s.Basic {
		return
	}
	awssecretsmanager.NewCfnRotationSchedule(scope, text("Rotation"), &awssecretsmanager.CfnRotationScheduleProps{
		SecretId: text(s.secretName(secretVariables[r.Secret])), RotationLambdaArn: alias.FunctionArn(),
		RotationRules: &awssecretsmanager.CfnRotationSchedule_RotationRulesProperty{AutomaticallyAfterDays: number(r.Days())},
	}).AddResourceDependency(permission, nil)
}

// secretVariables are the variables of the secrets that rotate.
var secretVariables = map[manifest.Resource]string{manifest.ResourceCursorKey: rights.CursorKey}

// rollout is what the deployment groups of a stack share.
type rollout struct {
	*deployment
	application awscodedeploy.CfnApplication
	role        awsiam.IRole
}

func newRollout(s *functionStack) *rollout {
	role := awsiam.NewRole(s.stack, text("RolloutRole"), &awsiam.RoleProps{
		Description: text("Lets CodeDeploy move the aliases"), AssumedBy: awsiam.NewServicePrincipal(text("codedeploy.amazonaws.com"), nil),
		InlinePolicies: &map[string]awsiam.PolicyDocument{"rollout": document(
			allow([]string{ownARN("lambda", "function:"+s.name("*"))}, "lambda:UpdateAlias", "lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig"),
			allow([]string{"*"}, "cloudwatch:DescribeAlarms"), // CloudWatch knows no resource of it
		)},
	})
	return &rollout{
		deployment: s.deployment, role: role,
		application: awscodedeploy.NewCfnApplication(s.stack, text("Rollouts"), &awscodedeploy.CfnApplicationProps{ComputePlatform: text("Lambda")}),
	}
}

// add has CodeDeploy move the alias to a new version, and back if the alarm goes off.
func (r *rollout) add(scope constructs.Construct, f manifest.Function, alias awslambda.Alias, alarm awscloudwatch.CfnAlarm) {
	group := awscodedeploy.NewCfnDeploymentGroup(scope, text("Rollout"), &awscodedeploy.CfnDeploymentGroupProps{
		ApplicationName: r.application.Ref(), DeploymentGroupName: text(r.name(f.Name)), ServiceRoleArn: r.role.RoleArn(), DeploymentConfigName: text(r.Rollout),
		DeploymentStyle: &awscodedeploy.CfnDeploymentGroup_DeploymentStyleProperty{
			DeploymentOption: text("WITH_TRAFFIC_CONTROL"), DeploymentType: text("BLUE_GREEN"),
		},
		AlarmConfiguration: &awscodedeploy.CfnDeploymentGroup_AlarmConfigurationProperty{
			Enabled: true, Alarms: &[]any{&awscodedeploy.CfnDeploymentGroup_AlarmProperty{Name: alarm.Ref()}},
		},
		AutoRollbackConfiguration: &awscodedeploy.CfnDeploymentGroup_AutoRollbackConfigurationProperty{
			Enabled: true, Events: texts("DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"),
		},
	})
	alias.Node().DefaultChild().(awslambda.CfnAlias).CfnOptions().SetUpdatePolicy(&awscdk.CfnUpdatePolicy{
		CodeDeployLambdaAliasUpdate: &awscdk.CfnCodeDeployLambdaAliasUpdate{
			ApplicationName: r.application.Ref(), DeploymentGroupName: group.Ref(),
		},
	})
}
