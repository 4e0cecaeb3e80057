package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func functionChecks() []check {
	const function, alias, rotation = "AWS::Lambda::Function", "AWS::Lambda::Alias", "AWS::SecretsManager::RotationSchedule"
	return []check{
		{"functions", functionFaults, []mutation{
			with(function, "Architectures", []any{"x86_64"}), with(function, "Runtime", "provided.al2"), without(function, "TracingConfig"), with(function, "Timeout", 1.0),
			with(function, "MemorySize", 1.0), removed(function), without(function, "VpcConfig"), without(function, "ReservedConcurrentExecutions"), without(function, "RecursiveLoop"),
			without(function, "LoggingConfig"), with(function, "Role", "other"), with(function, "VpcConfig.SubnetIds", []any{"a"}), with(function, "VpcConfig.SecurityGroupIds", []any{"a"}),
		}},
		{"aliases and rollouts", aliasFaults, []mutation{
			removed(alias), removed("AWS::Lambda::Version"), removed("AWS::CodeDeploy::DeploymentGroup"), with("AWS::CodeDeploy::DeploymentGroup", "AlarmConfiguration.Enabled", false),
			with("AWS::CodeDeploy::DeploymentGroup", "AutoRollbackConfiguration.Enabled", false), with("AWS::CodeDeploy::DeploymentGroup", "DeploymentConfigName", "CodeDeployDefault.LambdaAllAtOnce"),
			{"an alias without a rollout", func(s stacks) bool {
				s.of(alias)[0].UpdatePolicy = nil
				return true
			}},
		}},
		{"environments", variableFaults, []mutation{
			without(function, "Environment.Variables.MONGODB_URI"), without(function, "Environment.Variables.OIDC_JWKS_URL"),
			with(function, "Environment.Variables.OPENSEARCH_AUTH", "none"), without(function, "Environment.Variables.OCELOT_ORIGINS"), without(function, "Environment.Variables.OCELOT_RATE_STANDARD"), with(function, "Environment.Variables.OCELOT_LOG_LEVEL", "debug"),
			without(function, "Environment.Variables.AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"), without(function, "Environment.Variables.OCELOT_MASTER_KEY"),
		}},
		{"pollers", pollerFaults, []mutation{
			removed("AWS::Lambda::EventSourceMapping"), without("AWS::Lambda::EventSourceMapping", "FunctionResponseTypes"),
			without("AWS::Lambda::EventSourceMapping", "ScalingConfig"), with("AWS::Lambda::EventSourceMapping", "BatchSize", 1.0),
			withoutAction("sqs:ReceiveMessage"), withoutAction("sqs:DeleteMessage"), withoutAction("sqs:GetQueueAttributes"),
		}},
		{"rotations", rotationFaults, []mutation{
			removed(rotation), with(rotation, "SecretId", "other"), with(rotation, "RotationRules.AutomaticallyAfterDays", 1000.0), with(rotation, "RotationLambdaARN", "other"),
			secretsManager("SourceAccount", nil), secretsManager("SourceArn", "*"), secretsManager("Principal", "*"), undependent(rotation),
		}},
		{"schedules", scheduleFaults, []mutation{
			removed("AWS::Scheduler::Schedule"), with("AWS::Scheduler::Schedule", "ScheduleExpression", "rate(1 day)"),
			with("AWS::Scheduler::Schedule", "Target.RetryPolicy.MaximumRetryAttempts", 5.0), removed("AWS::Lambda::EventInvokeConfig"), withoutAction("lambda:InvokeFunction"),
		}},
		{"log groups", logFaults, []mutation{without("AWS::Logs::LogGroup", "RetentionInDays"), {"a function's log group removed", func(s stacks) bool {
			group, is := s.named("AWS::Logs::LogGroup", "LogGroupName", "/aws/lambda/ocelot-prod-create-log")
			delete(s[group.stack].Resources, group.id)
			return is
		}}}},
	}
}

// functionOf returns the resource of a function.
func (e environment) functionOf(f manifest.Function) (found, bool) {
	return e.stacks.named("AWS::Lambda::Function", "FunctionName", e.name(f.Name))
}

// aliasText is how the templates refer to the alias of a function, in its own stack.
func (e environment) aliasOf(function found) (found, bool) {
	return e.stacks.named("AWS::Lambda::Alias", "FunctionName", "${"+function.id+"}")
}

func functionFaults(e environment) []string {
	var f faults
	for _, want := range e.functions {
		function, is := e.functionOf(want)
		if !is {
			f.addf("got no function %s, want one", want.Name)
			continue
		}
		stack := "FunctionsWorkers"
		if r := want.Trigger.Route; r != nil {
			stack = "FunctionsAdmin"
			if root, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/"); root == "logs" {
				stack = "FunctionsLogs"
			}
		}
		if want.Trigger.Authorizer {
			stack = "FunctionsLogs"
		}
		if function.stack != stack {
			f.addf("%s is in %s, want %s", want.Name, function.stack, stack)
		}
		f.want(function, "Architectures", "arm64")
		f.want(function, "Runtime", "provided.al2023")
		f.want(function, "Handler", "bootstrap")
		f.want(function, "TracingConfig.Mode", "Active")
		f.want(function, "MemorySize", strconv.Itoa(want.MemoryMB))
		f.want(function, "Timeout", strconv.Itoa(int(want.Timeout.Seconds())))
		f.present(function, "LoggingConfig.LogGroup")
		role, _ := e.stacks.named("AWS::IAM::Role", "RoleName", e.name(want.Name))
		f.want(function, "Role", "${"+role.id+".Arn}")
		if len(want.Grants) > 0 {
			f.inVPC(function, len(e.Zones))
		}
		if r := want.Trigger.Route; r != nil && r.Permission == "logs:write" && e.Accepting > 0 {
			f.want(function, "ReservedConcurrentExecutions", strconv.Itoa(e.Accepting))
		}
		if slices.ContainsFunc(want.Trigger.Queues, func(t manifest.QueueTrigger) bool {
			return slices.ContainsFunc(want.Grants, func(g manifest.Grant) bool { return g.Write && g.Resource == manifest.QueueResource(t.Queue) })
		}) {
			f.want(function, "RecursiveLoop", "Allow")
		}
	}
	if got, want := len(e.stacks.of("AWS::Lambda::Function")), len(e.functions); got != want {
		f.addf("got %d functions, want %d", got, want)
	}
	return f
}

// inVPC adds a fault unless the function is in the subnets and the group of functions.
func (f *faults) inVPC(function found, zones int) {
	subnets := textsOf(function.get("VpcConfig.SubnetIds"))
	if len(subnets) != zones || slices.ContainsFunc(subnets, func(s string) bool { return !strings.Contains(s, "Vpc"+functionSubnets+"Subnet") }) {
		f.addf("%s is in the subnets %v, want that of functions in each of %d zones", function.id, subnets, zones)
	}
	if groups := function.text("VpcConfig.SecurityGroupIds"); !strings.Contains(groups, "FunctionsGroup") {
		f.addf("%s has the groups %s, want that of functions", function.id, groups)
	}
}

func aliasFaults(e environment) []string {
	var f faults
	for _, want := range e.functions {
		function, _ := e.functionOf(want)
		alias, is := e.aliasOf(function)
		if !is {
			f.addf("%s: got no alias, want one", want.Name)
			continue
		}
		f.want(alias, "Name", "live")
		if version := strings.TrimSuffix(strings.TrimPrefix(alias.text("FunctionVersion"), "${"), ".Version}"); e.stacks[alias.stack].Resources[version] == nil {
			f.addf("%s: got no version %s, want one", want.Name, version)
		}
		group, is := e.stacks.named("AWS::CodeDeploy::DeploymentGroup", "DeploymentGroupName", e.name(want.Name))
		if !is {
			f.addf("%s: got no deployment group, want one", want.Name)
			continue
		}
		f.want(group, "DeploymentConfigName", e.Rollout)
		f.want(group, "AlarmConfiguration.Enabled", "true")
		f.want(group, "AutoRollbackConfiguration.Enabled", "true")
		if got, want := textOf(at(alias.UpdatePolicy, "CodeDeployLambdaAliasUpdate.DeploymentGroupName")), "${"+group.id+"}"; got != want {
			f.addf("%s: got the rollout %q, want %q", alias.id, got, want)
		}
		alarm, _ := e.stacks.named("AWS::CloudWatch::Alarm", "AlarmName", e.name(want.Name, "errors"))
		f.want(group, "AlarmConfiguration.Alarms.0.Name", "${"+alarm.id+"}")
	}
	return f
}

// variableFaults reads each function's environment as the function does.
func variableFaults(e environment) []string {
	var f faults
	required := map[manifest.Dependency][]string{
		manifest.DependencyRecords: {"MONGODB_URI"}, manifest.DependencySearch: {"OPENSEARCH_URL", "OPENSEARCH_AUTH", "OPENSEARCH_REPLICAS"},
		manifest.DependencyQueues: {"OCELOT_QUEUE_PREFIX"}, manifest.DependencySockets: {"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"},
		manifest.DependencyCursorKey: {"OCELOT_CURSOR_KEY"}, manifest.DependencyMasterKey: {"OCELOT_MASTER_KEY"}, manifest.DependencyTokens: {"OIDC_JWKS_URL", "OIDC_ISSUER", "OIDC_AUDIENCE"},
	}
	for _, want := range e.functions {
		function, _ := e.functionOf(want)
		read := config.FunctionVariables(want)
		variables, _ := function.get("Environment.Variables").(map[string]any)
		for name := range variables {
			if !slices.Contains(read, name) {
				f.addf("%s has the variable %s, want only what it reads", want.Name, name)
			}
		}
		f.want(function, "Environment.Variables.OCELOT_LOG_LEVEL", e.LogLevel)
		f.want(function, "Environment.Variables.OCELOT_ORIGINS", strings.Join(e.Origins, ","))
		for _, d := range want.Dependencies() {
			for _, name := range required[d] {
				f.present(function, "Environment.Variables."+name)
			}
		}
		if acceptsEntries(want) {
			f.want(function, "Environment.Variables.OCELOT_RATE_STANDARD", strconv.Itoa(e.Rates.Standard))
		}
		if want.DependsOn(manifest.DependencySearch) {
			f.want(function, "Environment.Variables.OPENSEARCH_AUTH", "aws")
		}
		if want.DependsOn(manifest.DependencyRecords) && !strings.HasSuffix(function.text("Environment.Variables.MONGODB_URI"), ":secret:ocelot/"+e.Name+"/mongodb-uri") {
			f.addf("%s: got MONGODB_URI %q, want the secret's ARN", want.Name, function.text("Environment.Variables.MONGODB_URI"))
		}
	}
	return f
}

// pollerFaults also asks the roles: Lambda polls with the function's own.
func pollerFaults(e environment) []string {
	var f faults
	count := 0
	for _, want := range e.functions {
		function, _ := e.functionOf(want)
		alias, _ := e.aliasOf(function)
		for _, t := range want.Trigger.Queues {
			count++
			arn := e.queueARN(t.Queue)
			mapping, is := e.stacks.named("AWS::Lambda::EventSourceMapping", "EventSourceArn", arn)
			if !is {
				f.addf("got no poller of %s, want one", t.Queue)
				continue
			}
			f.want(mapping, "FunctionName", "${"+alias.id+"}")
			f.want(mapping, "BatchSize", strconv.Itoa(t.BatchSize))
			f.want(mapping, "FunctionResponseTypes", "ReportBatchItemFailures")
			f.want(mapping, "ScalingConfig.MaximumConcurrency", strconv.Itoa(t.MaxConcurrency))
			f.want(mapping, "MaximumBatchingWindowInSeconds", strconv.Itoa(int(t.Window.Seconds())))
			for _, action := range []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} {
				if !slices.Contains(e.rights(want), action+" "+arn) {
					f.addf("%s may not %s on %s, want it allowed", want.Name, action, arn)
				}
			}
		}
	}
	if got := len(e.stacks.of("AWS::Lambda::EventSourceMapping")); got != count {
		f.addf("got %d pollers, want %d", got, count)
	}
	return f
}

func scheduleFaults(e environment) []string {
	var f faults
	for _, want := range e.functions {
		if want.Trigger.Schedule == nil {
			continue
		}
		schedule, is := e.stacks.named("AWS::Scheduler::Schedule", "Name", e.name(want.Name))
		if !is {
			f.addf("got no schedule of %s, want one", want.Name)
			continue
		}
		function, _ := e.functionOf(want)
		alias, _ := e.aliasOf(function)
		f.want(schedule, "ScheduleExpression", "rate("+strconv.Itoa(int(want.Trigger.Schedule.Every.Minutes()))+" minutes)")
		f.want(schedule, "Target.Arn", "${"+alias.id+"}")
		f.want(schedule, "Target.RetryPolicy.MaximumRetryAttempts", "0")
		role := strings.TrimSuffix(strings.TrimPrefix(schedule.text("Target.RoleArn"), "${"), ".Arn}")
		if may := rightsOf(e.stacks[schedule.stack].Resources[role]); !slices.Contains(may, "lambda:InvokeFunction "+e.aliasARN(want.Name)) {
			f.addf("the schedule of %s may %v, want it to invoke the function", want.Name, may)
		}
		if _, is := e.stacks.named("AWS::Lambda::EventInvokeConfig", "FunctionName", "${"+function.id+"}"); !is {
			f.addf("%s: got no setting of retries, want none of them", want.Name)
		}
	}
	return f
}

// secretsManager changes a property of the permission of Secrets Manager; nil removes it.
func secretsManager(property string, value any) mutation {
	return mutation{fmt.Sprintf("the permission of Secrets Manager with %s %v", property, value), func(s stacks) bool {
		permission, is := s.named("AWS::Lambda::Permission", "Principal", "secretsmanager.amazonaws.com")
		if is {
			permission.Properties[property] = value
		}
		return is
	}}
}

// undependent lets resources of a type be made before those that they need.
func undependent(kind string) mutation {
	return mutation{kind + " that depends on nothing", func(s stacks) bool {
		for _, r := range s.of(kind) {
			r.DependsOn = nil
		}
		return len(s.of(kind)) > 0
	}}
}

// rotationFaults finds a secret that Secrets Manager does not, or cannot, have rotated.
func rotationFaults(e environment) []string {
	var f faults
	count := 0
	for _, want := range e.functions {
		if want.Trigger.Rotation == nil {
			continue
		}
		count++
		function, _ := e.functionOf(want)
		alias, _ := e.aliasOf(function)
		schedule, is := e.stacks.named("AWS::SecretsManager::RotationSchedule", "RotationLambdaARN", "${"+alias.id+"}")
		if !is {
			f.addf("got no rotation by %s, want one", want.Name)
			continue
		}
		f.want(schedule, "SecretId", "ocelot/"+e.Name+"/cursor-key")
		f.want(schedule, "RotationRules.AutomaticallyAfterDays", strconv.Itoa(want.Trigger.Rotation.Days()))
		permission, is := e.stacks.named("AWS::Lambda::Permission", "FunctionName", "${"+alias.id+"}")
		if !is {
			f.addf("%s: got no permission for Secrets Manager, want one", want.Name)
			continue
		}
		f.want(permission, "Principal", "secretsmanager.amazonaws.com")
		f.want(permission, "Action", "lambda:InvokeFunction")
		f.want(permission, "SourceAccount", "${AWS::AccountId}")
		f.want(permission, "SourceArn", ownARN("secretsmanager", "secret:ocelot/"+e.Name+"/cursor-key-??????"))
		if !slices.Contains(schedule.DependsOn, permission.id) {
			f.addf("the rotation by %s depends on %v, want %s: Secrets Manager invokes the function at once", want.Name, schedule.DependsOn, permission.id)
		}
	}
	if got := len(e.stacks.of("AWS::SecretsManager::RotationSchedule")); got != count {
		f.addf("got %d rotations, want %d", got, count)
	}
	return f
}

func logFaults(e environment) []string {
	var f faults
	for _, group := range f.some(e.stacks, "AWS::Logs::LogGroup") {
		f.want(group, "RetentionInDays", strconv.Itoa(int(e.LogRetention/day)))
	}
	for _, want := range e.functions {
		if _, is := e.stacks.named("AWS::Logs::LogGroup", "LogGroupName", "/aws/lambda/"+e.name(want.Name)); !is {
			f.addf("%s: got no log group, want one", want.Name)
		}
	}
	return f
}
