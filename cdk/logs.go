package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
)

// retention returns how long the environment keeps logs.
func retention(d *deployment) awslogs.RetentionDays {
	days := map[int]awslogs.RetentionDays{
		7: awslogs.RetentionDays_ONE_WEEK, 30: awslogs.RetentionDays_ONE_MONTH, 90: awslogs.RetentionDays_THREE_MONTHS,
		180: awslogs.RetentionDays_SIX_MONTHS, 365: awslogs.RetentionDays_ONE_YEAR,
	}
	known, is := days[int(d.LogRetention/day)]
	if !is {
		panic("cdk: " + d.Name + ": CloudWatch knows no retention of " + d.LogRetention.String())
	}
	return known
}

// removal returns what becomes of data whose resource is removed from a stack.
func removal(d *deployment) awscdk.RemovalPolicy {
	if d.Protected {
		return awscdk.RemovalPolicy_RETAIN
	}
	return awscdk.RemovalPolicy_DESTROY
}

func newLogGroup(scope constructs.Construct, d *deployment, id, name string) awslogs.LogGroup {
	return awslogs.NewLogGroup(scope, text(id), &awslogs.LogGroupProps{
		LogGroupName: text(name), Retention: retention(d), RemovalPolicy: removal(d),
	})
}
