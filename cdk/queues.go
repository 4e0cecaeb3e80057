package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// addQueues adds each queue with its dead-letter queue. Both refuse requests without TLS.
func (s *data) addQueues(d *deployment) {
	for _, q := range d.queues {
		dead := s.addQueue(d, q.Name.DeadLetters(), func(*awssqs.QueueProps) {})
		s.addQueue(d, q.Name, func(p *awssqs.QueueProps) {
			p.VisibilityTimeout = awscdk.Duration_Seconds(number(q.VisibilityTimeout.Seconds()))
			p.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: number(q.MaxReceives)}
		})
	}
}

func (s *data) addQueue(d *deployment, name manifest.QueueName, change func(*awssqs.QueueProps)) awssqs.Queue {
	props := &awssqs.QueueProps{
		QueueName: text(d.name(string(name))), RetentionPeriod: awscdk.Duration_Days(number(14)), // SQS's maximum
		Encryption: awssqs.QueueEncryption_SQS_MANAGED, // unlike KMS it costs nothing for each message
		EnforceSSL: truth(true), RemovalPolicy: removal(d),
	}
	change(props)
	return awssqs.NewQueue(s.stack, text(manifest.CamelCase(string(name))+"Queue"), props)
}
