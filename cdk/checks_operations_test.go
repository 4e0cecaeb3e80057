package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/metrics"
)

func operationChecks() []check {
	const alarm, composite = "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"
	return []check{
		{"alarms", alarmFaults, []mutation{
			removed(alarm), with(alarm, "Dimensions", []any{}), withoutAlarmOn(metrics.Unencrypted), withoutAlarmOn(metrics.UnreadableValues),
			withoutAlarmOn(metrics.IdentityConflicts), withoutAlarmOn(metrics.Expired), withoutAlarmOn(metrics.Repaired), withoutAlarmOn(metrics.Kept), withoutAlarmOn("5XXError"),
			withoutAlarmOn(metrics.FailingJobs), withoutAlarmOn(metrics.FailedDays), alarmOn(metrics.FailedDays, "Period", 60.0),
			withoutAlarmOn("FreeStorageSpace"), withoutAlarmOn("Errors"), withoutAlarmOn("Invocations"),
			alarmOn("Invocations", "TreatMissingData", "notBreaching"), alarmOn("Invocations", "Period", 60.0), alarmOn("5XXError", "Threshold", 0.5), alarmOn(metrics.Repaired, "Statistic", "Minimum"),
		}},
		{"reports of alarms", reportFaults, []mutation{
			without(alarm, "AlarmActions"), without(alarm, "AlarmDescription"), with(alarm, "AlarmDescription", "docs/operations.md#no-such-heading"),
			with(alarm, "AlarmActions", []any{"other"}), alarmOn("Errors", "Namespace", "AWS/Other"),
		}},
		{"percentiles", percentileFaults, []mutation{
			alarmOn(metrics.SearchableAfter, "Threshold", 600.0), alarmOn(metrics.DeliveredAfter, "ExtendedStatistic", "p50"),
			alarmOn(metrics.SearchableAfter, "MetricName", "Other"), alarmOn(metrics.DeliveredAfter, "Namespace", "Other"),
		}},
		{"promises", promiseFaults, []mutation{removed(composite), with(composite, "AlarmRule", "FALSE"), without(composite, "AlarmActions"), removed("AWS::SNS::Topic"), without("AWS::SNS::Topic", "KmsMasterKeyId"), removed("AWS::SNS::Subscription")}},
		{"dashboard", dashboardFaults, []mutation{removed("AWS::CloudWatch::Dashboard"), with("AWS::CloudWatch::Dashboard", "DashboardBody", "{}")}},
	}
}

// watching returns the alarms about a metric of a thing, by the value of a dimension.
func (e environment) watching(metric, name string) []found {
	return slices.DeleteFunc(e.stacks.of("AWS::CloudWatch::Alarm"), func(a found) bool {
		return a.text("MetricName") != metric || !slices.ContainsFunc(list(a.get("Dimensions")), func(d any) bool { return textOf(at(d, "Value")) == name })
	})
}

func alarmFaults(e environment) []string {
	var f faults
	want := func(metric, name string) {
		if len(e.watching(metric, name)) == 0 {
			f.addf("got no alarm about %s of %s, want one", metric, name)
		}
	}
	above := func(metric, name, threshold, statistic string) {
		want(metric, name)
		for _, alarm := range e.watching(metric, name) {
			f.want(alarm, "Threshold", threshold)
			f.want(alarm, "Statistic", statistic)
			f.want(alarm, "ComparisonOperator", "GreaterThanThreshold")
		}
	}
	for _, q := range e.queues {
		age := "60"
		switch q.Name {
		case manifest.QueueJobs:
			age = "3600"
		case manifest.QueueArchive:
			age = "43200"
		}
		above("ApproximateAgeOfOldestMessage", e.name(string(q.Name)), age, "Maximum")
		above("ApproximateNumberOfMessagesVisible", e.name(string(q.Name)), "100000", "Maximum")
		above("ApproximateNumberOfMessagesVisible", e.name(string(q.Name.DeadLetters())), "0", "Maximum")
	}
	for _, function := range e.functions {
		above("Errors", e.name(function.Name), "0", "Sum")
	}
	for _, path := range []string{"/logs", "/logs/bulk"} {
		above("5XXError", manifest.BasePath+path, "0.0005", "Average")
	}
	above(metrics.Repaired, "reconcile-index", "0", "Sum")
	above(metrics.Repaired, "reconcile-arrivals", "0", "Sum")
	above(metrics.Kept, "reconcile-index", "0", "Sum")
	above(metrics.FailingJobs, metrics.ServiceJobs, "0", "Sum")
	above(metrics.FailedDays, metrics.ServiceJobs, "0", "Sum")
	for _, alarm := range e.watching(metrics.FailedDays, metrics.ServiceJobs) { // a day comes again after an hour
		f.want(alarm, "Period", "3600")
		f.want(alarm, "DatapointsToAlarm", "3")
	}
	above(metrics.Expired, "persist-logs", "0", "Sum")
	above(metrics.IdentityConflicts, "persist-logs", "0", "Sum")
	above(metrics.UnreadableValues, metrics.ServiceReveal, "0", "Sum")
	above(metrics.Unencrypted, metrics.ServiceAccept, "0", "Sum")
	for _, function := range e.functions {
		if function.Trigger.Schedule == nil {
			continue
		}
		want("Invocations", e.name(function.Name))
		for _, alarm := range e.watching("Invocations", e.name(function.Name)) {
			f.want(alarm, "Threshold", "1")
			f.want(alarm, "Statistic", "Sum")
			f.want(alarm, "ComparisonOperator", "LessThanThreshold")
			f.want(alarm, "TreatMissingData", "breaching")
			if period, err := strconv.Atoi(alarm.text("Period")); err != nil || time.Duration(period)*time.Second < 2*function.Trigger.Schedule.Every {
				f.addf("%s: got a period of %s s, want two of the schedule's intervals", alarm.id, alarm.text("Period"))
			}
		}
	}
	want("ClusterStatus.red", e.name("search"))
	want("FreeStorageSpace", e.name("search"))
	return f
}

// reportFaults finds alarms that tell nobody, or do not say what to do.
func reportFaults(e environment) []string {
	var f faults
	headings, err := runbookHeadings()
	if err != nil {
		f.addf("%v", err)
	}
	rule := ""
	for _, composite := range e.stacks.of("AWS::CloudWatch::CompositeAlarm") {
		rule += composite.text("AlarmRule")
	}
	for _, alarm := range e.stacks.of("AWS::CloudWatch::Alarm") {
		page, heading, _ := strings.Cut(alarm.text("AlarmDescription"), "#")
		if page != runbookPage || !slices.Contains(headings, heading) {
			f.addf("%s: got the description %q, want a heading of %s", alarm.id, alarm.text("AlarmDescription"), runbookPage)
		}
		namespace, known := namespaces[alarm.text("MetricName")]
		if !known {
			namespace = metrics.Namespace
		}
		f.want(alarm, "Namespace", namespace)
		if alarm.get("AlarmActions") != nil {
			f.want(alarm, "AlarmActions", e.topicARN())
		} else if !strings.Contains(rule, "${"+alarm.id+"}") {
			f.addf("%s tells nobody, want it published or in the composite alarm", alarm.id)
		}
	}
	return f
}

// namespaces has AWS's metrics that alarms are about. All others are the service's own.
var namespaces = map[string]string{
	"ApproximateAgeOfOldestMessage": "AWS/SQS", "ApproximateNumberOfMessagesVisible": "AWS/SQS", "Errors": "AWS/Lambda", "Invocations": "AWS/Lambda", "5XXError": "AWS/ApiGateway",
	"ClusterStatus.red": "AWS/ES", "FreeStorageSpace": "AWS/ES",
}

// percentileFaults looks for the promises about time: p99 within a minute.
func percentileFaults(e environment) []string {
	var f faults
	for metric, service := range map[string]string{metrics.SearchableAfter: "index-logs", metrics.DeliveredAfter: "stream-logs"} {
		alarms := e.watching(metric, service)
		if len(alarms) != 1 {
			f.addf("got %d alarms about %s of %s, want 1", len(alarms), metric, service)
		}
		for _, alarm := range alarms {
			f.want(alarm, "Namespace", metrics.Namespace)
			f.want(alarm, "ExtendedStatistic", "p99")
			f.want(alarm, "Threshold", "60")
			f.want(alarm, "ComparisonOperator", "GreaterThanThreshold")
			if got := len(list(alarm.get("Dimensions"))); got != 1 {
				f.addf("%s: got %d dimensions, want the service alone", alarm.id, got)
			}
		}
	}
	return f
}

var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

func runbookHeadings() ([]string, error) {
	text, err := os.ReadFile("../" + runbookPage)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, match := range heading.FindAllStringSubmatch(string(text), -1) {
		all = append(all, strings.TrimPrefix(runbook(match[1]), runbookPage+"#"))
	}
	return all, nil
}

// promiseFaults looks for what section "Promises" of the runbook lists.
func promiseFaults(e environment) []string {
	var f faults
	for _, topic := range f.some(e.stacks, "AWS::SNS::Topic") {
		f.want(topic, "KmsMasterKeyId", "alias/"+e.name(storesKey))
	}
	if e.AlarmsEmail != "" {
		if _, is := e.stacks.named("AWS::SNS::Subscription", "Endpoint", e.AlarmsEmail); !is {
			f.addf("got no subscription of %s to the alarms, want one", e.AlarmsEmail)
		}
	}
	for _, composite := range f.some(e.stacks, "AWS::CloudWatch::CompositeAlarm") {
		f.want(composite, "AlarmActions", e.topicARN())
		for _, promise := range []struct{ metric, name string }{
			{"5XXError", manifest.BasePath + "/logs"}, {"ApproximateAgeOfOldestMessage", e.name("ingest")}, {"ApproximateAgeOfOldestMessage", e.name("index")},
			{"ApproximateAgeOfOldestMessage", e.name("stream")}, {"ApproximateNumberOfMessagesVisible", e.name("ingest-dlq")}, {metrics.Repaired, "reconcile-index"},
			{metrics.Repaired, "reconcile-arrivals"}, {metrics.Kept, "reconcile-index"}, {metrics.Unencrypted, metrics.ServiceAccept}, {metrics.SearchableAfter, "index-logs"}, {metrics.DeliveredAfter, "stream-logs"},
		} {
			for _, alarm := range e.watching(promise.metric, promise.name) {
				if !strings.Contains(composite.text("AlarmRule"), `ALARM("${`+alarm.id+`}")`) {
					f.addf("the composite alarm lacks %s, want it there", alarm.id)
				}
			}
		}
		for _, queue := range []manifest.QueueName{manifest.QueueJobs, manifest.QueueArchive} { // backlogs are a part of their work
			for _, alarm := range e.watching("ApproximateAgeOfOldestMessage", e.name(string(queue))) {
				if strings.Contains(composite.text("AlarmRule"), "${"+alarm.id+"}") {
					f.addf("the composite alarm has %s, want it without", alarm.id)
				}
				if alarm.get("AlarmActions") == nil {
					f.addf("%s tells nobody, want it published", alarm.id)
				}
			}
		}
	}
	return f
}

func dashboardFaults(e environment) []string {
	var f faults
	for _, dashboard := range f.some(e.stacks, "AWS::CloudWatch::Dashboard") {
		body := dashboard.text("DashboardBody")
		for _, part := range []string{e.name("ingest"), e.name("ingest-dlq"), e.name("search"), e.name("persist-logs"), "reconcile-index", "5XXError"} {
			if !strings.Contains(body, part) {
				f.addf("the dashboard lacks %s, want it there", part)
			}
		}
	}
	return f
}
