package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

const (
	maxWait             = 20 * time.Second       // SQS's limit for one ReceiveMessage
	pollInterval        = 100 * time.Millisecond // if less than a second is left: SQS waits for whole seconds
	redrivePollInterval = 200 * time.Millisecond
)

// Message is one delivery of a message.
type Message struct {
	ID           string // the same in every delivery
	Body         string
	Receipt      string // identifies this delivery; stale after the next delivery
	ReceiveCount int    // including this delivery
	SentAt       time.Time
	Tenant       audit.TenantID // as it was sent
}

// Receive returns up to n visible messages, at most MaxBatch. If there is none, it
// waits for one up to wait, and then returns none.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration) ([]Message, error) {
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(wait)
	for {
		left := time.Until(end)
		seconds := min(left.Round(pollInterval), maxWait) / time.Second
		messages, err := q.receiveOnce(ctx, url, min(n, MaxBatch), max(0, int32(seconds)))
		if err != nil || len(messages) > 0 || time.Until(end) <= 0 {
			return messages, err
		}
		if seconds > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("receive from %s: %w", q.name, ctx.Err())
		case <-time.After(min(left, pollInterval)):
		}
	}
}

func (q *Queue) receiveOnce(ctx context.Context, url *string, n int, seconds int32) ([]Message, error) {
	answer, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: seconds,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameMessageGroupId,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", q.name, err)
	}
	messages := make([]Message, len(answer.Messages))
	for i, m := range answer.Messages {
		count, countErr := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
		sent, sentErr := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
		if err := errors.Join(countErr, sentErr); err != nil {
			return nil, fmt.Errorf("receive from %s: message %s: %w", q.name, aws.ToString(m.MessageId), err)
		}
		messages[i] = Message{
			ID: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), Receipt: aws.ToString(m.ReceiptHandle),
			ReceiveCount: count, SentAt: time.UnixMilli(sent).UTC(),
			Tenant: audit.TenantID(m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]),
		}
	}
	return messages, nil
}

// Delete removes the messages of these deliveries. A receipt that is stale or whose
// message is deleted removes nothing and is not an error.
func (q *Queue) Delete(ctx context.Context, receipts []string) error {
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(receipts, MaxBatch) {
		entries := make([]types.DeleteMessageBatchRequestEntry, len(batch))
		for i := range batch {
			entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &batch[i]}
		}
		answer, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: url, Entries: entries})
		if err != nil {
			return fmt.Errorf("delete %d messages of %s: %w", len(batch), q.name, err)
		}
		if err := failure(answer.Failed); err != nil {
			return fmt.Errorf("delete %d messages of %s: %w", len(batch), q.name, err)
		}
	}
	return nil
}

// ChangeVisibility makes the message of this delivery visible after d, rounded up to
// a second. 0 makes it visible now. A stale receipt changes nothing and is not an error.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return err
	}
	seconds := (d + time.Second - 1) / time.Second // rounded up: too long is better than too short
	answer, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{
		QueueUrl: url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("0"), ReceiptHandle: &receipt, VisibilityTimeout: int32(seconds)},
		},
	})
	if err != nil {
		return fmt.Errorf("change the visibility of a message of %s: %w", q.name, err)
	}
	if err := failure(answer.Failed); err != nil {
		return fmt.Errorf("change the visibility of a message of %s: %w", q.name, err)
	}
	return nil
}

// failure returns an error if SQS failed to process a receipt. It ignores failures
// that are the sender's fault: they mean that a receipt is stale. The codes for that
// differ between implementations, but all set SenderFault.
func failure(items []types.BatchResultErrorEntry) error {
	for _, item := range items {
		if !item.SenderFault {
			return fmt.Errorf("%d failed, one as %s", len(items), aws.ToString(item.Code))
		}
	}
	return nil
}

// Redrive moves the dead letters back to the queue as new messages. It waits until
// SQS is done and returns the approximate number. Dead letters that arrive during
// the redrive may stay.
func (q *Queue) Redrive(ctx context.Context) (moved int64, err error) {
	from, err := q.arn(ctx, &q.deadLetters)
	if err != nil {
		return 0, err
	}
	to, err := q.arn(ctx, &q.self)
	if err != nil {
		return 0, err
	}
	// The destination is needed for dead letters that were sent directly to the
	// dead-letter queue: SQS knows no source for them.
	_, err = q.client.StartMessageMoveTask(ctx, &sqs.StartMessageMoveTaskInput{SourceArn: &from, DestinationArn: &to})
	if err != nil {
		return 0, fmt.Errorf("redrive %s: %w", q.name, err)
	}
	for {
		tasks, err := q.client.ListMessageMoveTasks(ctx, &sqs.ListMessageMoveTasksInput{SourceArn: &from, MaxResults: aws.Int32(1)})
		if err != nil {
			return 0, fmt.Errorf("redrive %s: %w", q.name, err)
		}
		if len(tasks.Results) > 0 {
			switch task := tasks.Results[0]; aws.ToString(task.Status) {
			case "COMPLETED":
				return task.ApproximateNumberOfMessagesMoved, nil
			case "FAILED", "CANCELLED":
				return task.ApproximateNumberOfMessagesMoved, fmt.Errorf("redrive %s: %s %s", q.name, aws.ToString(task.Status), aws.ToString(task.FailureReason))
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("redrive %s: %w", q.name, ctx.Err())
		case <-time.After(redrivePollInterval):
		}
	}
}
