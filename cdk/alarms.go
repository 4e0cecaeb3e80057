package main

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/metrics"
)

// alarm watches one metric. It goes off if the metric is above the threshold in so many
// periods of the last ones.
type alarm struct {
	id      string
	heading string // of docs/operations.md, which says what to do
	// promise marks an alarm about what the service promises its users. The composite alarm
	// reports it.
	promise    bool
	namespace  string
	metric     string
	statistic  string // of CloudWatch, or a percentile such as p99
	dimensions []*awscloudwatch.CfnAlarm_DimensionProperty
	period     int // seconds
	of, last   int // periods
	above      float64
	below      bool // the alarm goes off below the threshold instead
	unreported bool // no data is as bad as a value beyond the threshold
}

// alarms returns every alarm of the environment except those of single functions.
func alarms(d *deployment) []alarm {
	return slices.Concat(queueAlarms(d), acceptAlarms(d), scheduleAlarms(d), metricAlarms(), searchAlarms(d))
}

// The ages in seconds of the oldest message that the service tolerates.
const (
	lateAge = 60   // what an entry may take from its acceptance until it is found, and until subscribers get it
	jobAge  = 3600 // of a job's message, which may wait for slices of other jobs
	// archiveAge is that of a message for the archive. The months of all tenants end at the same time, and a slice
	// takes up to four minutes.
	archiveAge = 12 * 3600
)

// maxDepth is how many messages may wait. One message has up to 60 KB of entries.
const maxDepth = 100_000

func queueAlarms(d *deployment) []alarm {
	var all []alarm
	for _, q := range d.queues {
		base := alarm{
			namespace: "AWS/SQS", statistic: "Maximum", period: 60, of: 5, last: 5,
			dimensions: []*awscloudwatch.CfnAlarm_DimensionProperty{dimension("QueueName", d.name(string(q.Name)))},
		}
		name := manifest.CamelCase(string(q.Name))
		age, depth, dead := base, base, base
		age.id, age.metric, age.heading, age.above, age.promise = name+"Age", "ApproximateAgeOfOldestMessage", "A queue's oldest message is old", lateAge, true
		switch q.Name {
		case manifest.QueueJobs:
			age.above, age.promise = jobAge, false
		case manifest.QueueArchive:
			age.above, age.promise = archiveAge, false
		}
		depth.id, depth.metric, depth.heading, depth.above = name+"Depth", "ApproximateNumberOfMessagesVisible", "A queue is deep", maxDepth
		dead.id, dead.metric, dead.heading, dead.promise = name+"DeadLetters", "ApproximateNumberOfMessagesVisible", "There are dead letters", true
		dead.dimensions = []*awscloudwatch.CfnAlarm_DimensionProperty{dimension("QueueName", d.name(string(q.Name.DeadLetters())))}
		dead.of, dead.last = 1, 1
		all = append(all, age, depth, dead)
	}
	return all
}

// acceptFailures is the share of requests that the service may fail to accept.
const acceptFailures = 0.0005

// acceptAlarms watch the routes that accept entries.
func acceptAlarms(d *deployment) []alarm {
	var all []alarm
	for _, f := range d.functions {
		if !acceptsEntries(f) {
			continue
		}
		all = append(all, alarm{
			id: manifest.CamelCase(f.Name) + "Failures", heading: "Entries are not accepted", promise: true,
			namespace: "AWS/ApiGateway", metric: "5XXError", statistic: "Average", period: 300, of: 2, last: 3, above: acceptFailures,
			dimensions: []*awscloudwatch.CfnAlarm_DimensionProperty{
				dimension("ApiName", d.name("api")), dimension("Stage", stageName), dimension("Method", f.Trigger.Route.Method),
				dimension("Resource", manifest.BasePath+f.Trigger.Route.Path),
			},
		})
	}
	return all
}

// minSilence is the shortest time after which a scheduled function counts as stopped.
const minSilence = 15 * time.Minute

// silence is the time after which a scheduled function counts as stopped: two runs are missing. It is
// at most a day, which is as far as an alarm looks back.
func silence(s manifest.Schedule) time.Duration { return min(max(2*s.Every, minSilence), 24*time.Hour) }

// scheduleAlarms watch that scheduled functions run: one that never runs has no errors.
func scheduleAlarms(d *deployment) []alarm {
	var all []alarm
	for _, f := range d.functions {
		if f.Trigger.Schedule == nil {
			continue
		}
		all = append(all, alarm{
			id: manifest.CamelCase(f.Name) + "Stopped", heading: "A schedule has stopped",
			namespace: "AWS/Lambda", metric: "Invocations", statistic: "Sum", period: int(silence(*f.Trigger.Schedule) / time.Second), of: 1, last: 1,
			below: true, above: 1, unreported: true, // CloudWatch has no data about a function that does not run
			dimensions: []*awscloudwatch.CfnAlarm_DimensionProperty{dimension("FunctionName", d.name(f.Name))},
		})
	}
	return all
}

// metricAlarms watch the service's own metrics.
func metricAlarms() []alarm {
	own := func(id, heading, service, metric string, period int) alarm {
		return alarm{
			id: id, heading: heading, namespace: metrics.Namespace, metric: metric, statistic: "Sum", period: period, of: 1, last: 1,
			dimensions: []*awscloudwatch.CfnAlarm_DimensionProperty{dimension("service", service)},
		}
	}
	promised := func(a alarm) alarm {
		a.promise = true
		return a
	}
	late := func(id, heading, service, metric string) alarm {
		a := promised(own(id, heading, service, metric, 60))
		a.statistic, a.above, a.of, a.last = "p99", lateAge, 3, 5
		return a
	}
	failedDays := own("DaysFailing", "Days are not checked", metrics.ServiceJobs, metrics.FailedDays, 3600) // a day comes again after an hour
	failedDays.of, failedDays.last = 3, 3
	keyless := promised(own("KeysMissing", "Values cannot be encrypted", metrics.ServiceAccept, metrics.Unencrypted, 300))
	keyless.of, keyless.last = 2, 3 // a process asks a failing key once in two seconds
	return []alarm{
		keyless,
		late("SearchableLate", "Entries are found late", "index-logs", metrics.SearchableAfter),
		late("DeliveredLate", "Subscribers get entries late", "stream-logs", metrics.DeliveredAfter),
		promised(own("IndexGaps", "The index lacked entries", "reconcile-index", metrics.Repaired, 900)),
		promised(own("OnlyIndexed", "Only the index has entries", "reconcile-index", metrics.Kept, 900)),
		promised(own("ArrivalGaps", "The arrival log lacked entries", "reconcile-arrivals", metrics.Repaired, 900)),
		own("JobsFailing", "A job fails again and again", metrics.ServiceJobs, metrics.FailingJobs, 900),
		failedDays,
		own("ExpiredEntries", "Accepted entries ended before they were stored", "persist-logs", metrics.Expired, 300),
		own("IdentityConflicts", "An identity was used twice", "persist-logs", metrics.IdentityConflicts, 300),
		own("UnreadableValues", "Encrypted values were altered", metrics.ServiceReveal, metrics.UnreadableValues, 300),
	}
}

func searchAlarms(d *deployment) []alarm {
	own := alarm{
		namespace: "AWS/ES", statistic: "Maximum", period: 60, of: 1, last: 1,
		dimensions: []*awscloudwatch.CfnAlarm_DimensionProperty{
			dimension("DomainName", d.name("search")), dimension("ClientId", *awscdk.Aws_ACCOUNT_ID()),
		},
	}
	red, space := own, own
	red.id, red.metric, red.heading = "SearchRed", "ClusterStatus.red", "The search domain is red"
	space.id, space.metric, space.heading = "SearchSpace", "FreeStorageSpace", "The search domain is almost full"
	space.statistic, space.below, space.above = "Minimum", true, float64(d.Search.VolumeGB)*1000/5 // MB: a fifth
	return []alarm{red, space}
}

// add adds the alarm. It is published by itself unless the composite alarm does.
func (a alarm) add(d *deployment, stack awscdk.Stack) awscloudwatch.CfnAlarm {
	dimensions := make([]any, len(a.dimensions))
	for i, one := range a.dimensions {
		dimensions[i] = one
	}
	comparison := "GreaterThanThreshold"
	if a.below {
		comparison = "LessThanThreshold"
	}
	missing := "notBreaching"
	if a.unreported {
		missing = "breaching"
	}
	props := &awscloudwatch.CfnAlarmProps{
		AlarmName: text(d.name(a.id)), AlarmDescription: text(runbook(a.heading)), Namespace: text(a.namespace), MetricName: text(a.metric),
		Dimensions: &dimensions, Period: number(a.period), EvaluationPeriods: number(a.last), DatapointsToAlarm: number(a.of),
		Threshold: number(a.above), ComparisonOperator: text(comparison), TreatMissingData: text(missing),
	}
	if strings.HasPrefix(a.statistic, "p") {
		props.ExtendedStatistic = text(a.statistic)
	} else {
		props.Statistic = text(a.statistic)
	}
	if !a.promise || d.Basic {
		props.AlarmActions, props.OkActions = d.notify(), d.notify()
	}
	return awscloudwatch.NewCfnAlarm(stack, text(a.id), props)
}

// notify publishes to the topic of the alarms.
func (d *deployment) notify() *[]any { return &[]any{sub(d.topicARN())} }

func (d *deployment) topicARN() string { return ownARN("sns", d.name("alarms")) }

// runbookPage is where each alarm has a heading.
const runbookPage = "docs/operations.md"

// runbook returns the description of an alarm: where to read what to do.
func runbook(heading string) string {
	return runbookPage + "#" + strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(heading), "'", ""), " ", "-")
}

func dimension(name, value string) *awscloudwatch.CfnAlarm_DimensionProperty {
	return &awscloudwatch.CfnAlarm_DimensionProperty{Name: text(name), Value: text(value)}
}
