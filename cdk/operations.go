package main

import (
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"

	"github.com/ocelot-audit/ocelot/pkg/metrics"
)

// addOperations adds the alarms, the topic that reports them, and the dashboard. They name
// what they watch, and refer to no other stack.
func addOperations(d *deployment) {
	stack := d.newStack("Operations", "Ocelot: alarms and the dashboard", d.stage.Node().FindChild(text("Data")).(awscdk.Stack))
	addTopic(d, stack)
	var promises []awscloudwatch.CfnAlarm
	for _, a := range alarms(d) {
		if added := a.add(d, stack); a.promise {
			promises = append(promises, added)
		}
	}
	if !d.Basic {
		addComposite(d, stack, promises)
	}
	awscloudwatch.NewCfnDashboard(stack, text("Dashboard"), &awscloudwatch.CfnDashboardProps{
		DashboardName: text(prefix + d.Name), DashboardBody: stack.ToJsonString(dashboard(d), nil),
	})
}

// addTopic adds the encrypted topic of the alarms. Only CloudWatch of this account publishes
// to it, and only over TLS.
func addTopic(d *deployment, stack awscdk.Stack) {
	topic := awssns.NewCfnTopic(stack, text("Topic"), &awssns.CfnTopicProps{
		TopicName: text(d.name("alarms")), KmsMasterKeyId: text("alias/" + d.name(storesKey)),
	})
	account := map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": sub("${AWS::AccountId}")}}
	awssns.NewCfnTopicPolicy(stack, text("TopicPolicy"), &awssns.CfnTopicPolicyProps{
		Topics: &[]*string{topic.Ref()},
		PolicyDocument: document(
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
				Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(text("cloudwatch.amazonaws.com"), nil)},
				Actions:    texts("sns:Publish"), Resources: &[]*string{topic.Ref()}, Conditions: &account,
			}),
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
				Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
				Actions: texts("sns:Publish"), Resources: &[]*string{topic.Ref()},
				Conditions: &map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
			}),
		),
	})
	if d.AlarmsEmail != "" {
		awssns.NewCfnSubscription(stack, text("Email"), &awssns.CfnSubscriptionProps{
			TopicArn: topic.Ref(), Protocol: text("email"), Endpoint: text(d.AlarmsEmail),
		})
	}
}

// addComposite reports once if any promise is broken.
func addComposite(d *deployment, stack awscdk.Stack, promises []awscloudwatch.CfnAlarm) {
	rules := make([]string, len(promises))
	for i, a := range promises {
		rules[i] = `ALARM("` + *a.Ref() + `")`
	}
	awscloudwatch.NewCfnCompositeAlarm(stack, text("Promises"), &awscloudwatch.CfnCompositeAlarmProps{
		AlarmName: text(d.name("promises")), AlarmDescription: text(runbook("A promise is broken")),
		AlarmRule: text(strings.Join(rules, " OR ")), AlarmActions: d.notify(), OkActions: d.notify(),
	})
}

// dashboard returns the body of the dashboard: requests, queues, functions, search.
func dashboard(d *deployment) node {
	api := []any{"AWS/ApiGateway", "Count", "ApiName", d.name("api"), "Stage", stageName}
	with := func(metric string) []any {
		changed := slices.Clone(api)
		changed[1] = metric
		return changed
	}
	var age, depth, dead, errors, durations []any
	for _, q := range d.queues {
		age = append(age, []any{"AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", d.name(string(q.Name))})
		depth = append(depth, []any{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", d.name(string(q.Name))})
		dead = append(dead, []any{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", d.name(string(q.Name.DeadLetters()))})
	}
	for _, f := range d.functions {
		errors = append(errors, []any{"AWS/Lambda", "Errors", "FunctionName", d.name(f.Name)})
		if acceptsEntries(f) || len(f.Trigger.Queues) > 0 {
			durations = append(durations, []any{"AWS/Lambda", "Duration", "FunctionName", d.name(f.Name)})
		}
	}
	search := func(metric string) []any {
		return []any{"AWS/ES", metric, "DomainName", d.name("search"), "ClientId", *awscdk.Aws_ACCOUNT_ID()}
	}
	widgets := []node{
		widget("Requests", "Sum", api, with("4XXError"), with("5XXError")),
		widget("Latency, p99", "p99", with("Latency"), with("IntegrationLatency")),
		widget("From acceptance to search and to subscribers, p99, seconds", "p99", []any{metrics.Namespace, metrics.SearchableAfter, "service", "index-logs"}, []any{metrics.Namespace, metrics.DeliveredAfter, "service", "stream-logs"}),
		widget("Age of the oldest message, seconds", "Maximum", age...),
		widget("Messages waiting", "Maximum", depth...),
		widget("Dead letters", "Maximum", dead...),
		widget("Errors of functions", "Sum", errors...),
		widget("Duration, p99", "p99", durations...),
		widget("Search: CPU and memory, %", "Maximum", search("CPUUtilization"), search("JVMMemoryPressure")),
		widget("Search: free space, MB", "Minimum", search("FreeStorageSpace")),
		widget("Slices of jobs, and days, that fail again and again", "Sum", []any{metrics.Namespace, metrics.FailingJobs, "service", metrics.ServiceJobs}, []any{metrics.Namespace, metrics.FailedDays, "service", metrics.ServiceJobs}),
		widget("Reconciliation", "Sum", []any{metrics.Namespace, "Stored", "service", "reconcile-index"}, []any{metrics.Namespace, metrics.Repaired, "service", "reconcile-index"}, []any{metrics.Namespace, metrics.Kept, "service", "reconcile-index"}, []any{metrics.Namespace, metrics.Repaired, "service", "reconcile-arrivals"}),
	}
	const columns, height = 2, 6
	for i := range widgets {
		widgets[i]["x"], widgets[i]["y"], widgets[i]["width"], widgets[i]["height"] = i%columns*(24/columns), i/columns*height, 24/columns, height
		widgets[i]["properties"].(node)["region"] = d.Region
	}
	return node{"widgets": widgets}
}

func widget(title, statistic string, lines ...any) node {
	return node{"type": "metric", "properties": node{
		"title": title, "stat": statistic, "period": 60, "view": "timeSeries", "metrics": lines,
	}}
}
