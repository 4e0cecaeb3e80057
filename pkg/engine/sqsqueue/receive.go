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
)

const (
	maxWait   = 20 * time.Second       // of one ReceiveMessage
	pollEvery = 100 * time.Millisecond // where less than the second is left that SQS counts in
	moveEvery = 200 * time.Millisecond // between two looks at a redrive
)

// Message is one delivery of a message.
type Message struct {
	ID           string // the same at every delivery
	Body         string
	Receipt      string // names this delivery; stale once the message was delivered again
	ReceiveCount int    // this delivery included
	SentAt       time.Time
}

// Receive returns up to n visible messages, ten at most. Where there is none it
// waits for one, for wait at most, and then returns none.
func (q *Queue) Receive(ctx context.Context, n int, wait time.Duration) ([]Message, error) {
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(wait)
	for {
		left := time.Until(end)
		seconds := min(left.Round(pollEvery), maxWait) / time.Second
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
		case <-time.After(min(left, pollEvery)):
		}
	}
}

func (q *Queue) receiveOnce(ctx context.Context, url *string, n int, seconds int32) ([]Message, error) {
	answer, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: seconds,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp,
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
		}
	}
	return messages, nil
}

// Delete removes the messages of these deliveries. A receipt that is stale, or
// whose message is gone, removes nothing and is not an error.
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

// ChangeVisibility makes the message of this delivery visible to others d from
// now on, to the second, at once where d is 0. A stale receipt changes nothing
// and is not an error.
func (q *Queue) ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error {
	url, err := q.self.get(ctx, q.client)
	if err != nil {
		return err
	}
	seconds := (d + time.Second - 1) / time.Second // rather too long than too short
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

// failure returns the failures of a batch by receipts that are SQS's. Those that
// are the caller's say that a receipt is not good any more: each implementation
// has other codes for it, and only whose fault it is is common to all.
func failure(items []types.BatchResultErrorEntry) error {
	for _, item := range items {
		if !item.SenderFault {
			return fmt.Errorf("%d failed, one as %s", len(items), aws.ToString(item.Code))
		}
	}
	return nil
}

// Redrive moves the dead letters back, as new messages, and returns about how
// many once that is done. Letters that come in meanwhile may stay.
func (q *Queue) Redrive(ctx context.Context) (moved int64, err error) {
	from, err := q.arn(ctx, &q.deadLetters)
	if err != nil {
		return 0, err
	}
	to, err := q.arn(ctx, &q.self)
	if err != nil {
		return 0, err
	}
	// The destination is named because letters that were sent to the dead-letter
	// queue itself have no source of their own to go back to.
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
		case <-time.After(moveEvery):
		}
	}
}
