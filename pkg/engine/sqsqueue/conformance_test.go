package sqsqueue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

func TestConformance(t *testing.T) {
	client := newClient(t)
	conformance.Queue(t, func(t *testing.T, visibility time.Duration, maxReceives int) conformance.MessageQueue {
		return messageQueue{newQueue(t, client, visibility, maxReceives)}
	})
}

// newClient returns a client of a real service: what the environment names,
// with the environment's credentials, or an engine.
func newClient(t *testing.T) *sqs.Client {
	t.Helper()
	endpoint := enginetest.SQS(t)
	if os.Getenv("AWS_ENDPOINT_URL_SQS") == "" {
		return clientOf(endpoint)
	}
	settings, err := config.ReadAWS()
	if err != nil {
		t.Fatal(err)
	}
	return sqsqueue.NewClient(awsconfig.New(settings))
}

// newQueue creates a queue of a new name, which is gone after the test.
func newQueue(t *testing.T, client *sqs.Client, visibility time.Duration, maxReceives int) *sqsqueue.Queue {
	t.Helper()
	name := "test-" + uuid.NewString()
	queue := sqsqueue.Config{Name: name, VisibilityTimeout: visibility, MaxReceives: maxReceives}
	if err := sqsqueue.EnsureQueues(t.Context(), client, []sqsqueue.Config{queue}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeQueue(t, client, name) })
	return sqsqueue.New(client, name, sqsqueue.Options{})
}

func removeQueue(t *testing.T, client *sqs.Client, name string) {
	t.Helper()
	for _, name := range []string{name, name + "-dlq"} {
		if _, err := client.DeleteQueue(context.Background(), &sqs.DeleteQueueInput{QueueUrl: urlOf(t, client, name)}); err != nil {
			t.Error(err)
		}
	}
}

func urlOf(t *testing.T, client *sqs.Client, name string) *string {
	t.Helper()
	found, err := client.GetQueueUrl(context.Background(), &sqs.GetQueueUrlInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return found.QueueUrl
}

// messageQueue shows a queue as the suite wants it.
type messageQueue struct{ *sqsqueue.Queue }

func (q messageQueue) Receive(ctx context.Context, n int, wait time.Duration) ([]conformance.QueueMessage, error) {
	received, err := q.Queue.Receive(ctx, n, wait)
	messages := make([]conformance.QueueMessage, len(received))
	for i, m := range received {
		messages[i] = conformance.QueueMessage{ID: m.ID, Body: m.Body, Receipt: m.Receipt, ReceiveCount: m.ReceiveCount, Tenant: m.Tenant}
	}
	return messages, err
}

func (q messageQueue) Redrive(ctx context.Context) error {
	_, err := q.Queue.Redrive(ctx)
	return err
}

func TestConformanceOfEnsureQueues(t *testing.T) {
	client := newClient(t)
	prefix := "test-" + uuid.NewString()
	var queues []sqsqueue.Config
	for _, q := range manifest.Queues() {
		queues = append(queues, sqsqueue.Config{Name: prefix + "-" + string(q.Name), VisibilityTimeout: q.VisibilityTimeout})
	}
	t.Cleanup(func() {
		for _, queue := range queues {
			removeQueue(t, client, queue.Name)
		}
	})
	for _, maxReceives := range []int{5, 5, 6} { // a second call is no error; a third changes what exists
		for i := range queues {
			queues[i].MaxReceives = maxReceives
		}
		if err := sqsqueue.EnsureQueues(t.Context(), client, queues); err != nil {
			t.Fatal(err)
		}
	}
	for _, queue := range queues {
		name := queue.Name
		q := sqsqueue.New(client, name, sqsqueue.Options{})
		if err := q.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if visible, inFlight, dead, err := q.Depth(t.Context()); err != nil {
			t.Error(err)
		} else if got, want := [3]int64{visible, inFlight, dead}, [3]int64{}; got != want {
			t.Errorf("%s holds %v messages visible, in flight and dead, want %v", name, got, want)
		}
		const timeout, policy = types.QueueAttributeNameVisibilityTimeout, types.QueueAttributeNameRedrivePolicy
		got, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: urlOf(t, client, name), AttributeNames: []types.QueueAttributeName{timeout, policy},
		})
		if err != nil {
			t.Fatal(err)
		}
		var redrive struct {
			Dead        string `json:"deadLetterTargetArn"`
			MaxReceives int    `json:"maxReceiveCount"`
		}
		if err := json.Unmarshal([]byte(got.Attributes[string(policy)]), &redrive); err != nil {
			t.Fatal(err)
		}
		if redrive.MaxReceives != 6 {
			t.Errorf("got %d max receives, want 6", redrive.MaxReceives)
		}
		if !strings.HasSuffix(redrive.Dead, ":"+name+"-dlq") {
			t.Errorf("got dead-letter queue %q, want it to end with %q", redrive.Dead, ":"+name+"-dlq")
		}
		if got.Attributes[string(timeout)] != fmt.Sprint(queue.VisibilityTimeout.Seconds()) {
			t.Errorf("got visibility timeout %q, want %q", got.Attributes[string(timeout)], fmt.Sprint(queue.VisibilityTimeout.Seconds()))
		}
	}
}

func TestConformanceOfAQueueThatIsNotThere(t *testing.T) {
	q := sqsqueue.New(newClient(t), "test-"+uuid.NewString(), sqsqueue.Options{})
	for name, err := range map[string]error{
		"ping": q.Ping(t.Context()),
		"send": q.Send(t.Context(), "acme", []string{"x"}),
	} {
		if err == nil || !strings.Contains(err.Error(), "find queue") {
			t.Errorf("%s: got error %v, want one with %q", name, err, "find queue")
		}
	}
}

func TestWaitingMessagesAreCounted(t *testing.T) {
	q := newQueue(t, newClient(t), time.Minute, 5)
	if err := q.Send(t.Context(), "acme", []string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	var got int64
	for end := time.Now().Add(10 * time.Second); got != 3 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if got, err = q.Waiting(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got != 3 {
		t.Errorf("counted %d messages, want 3", got)
	}
}

// X-Ray links the trace of the consumer to the one that the message names.
func TestMessagesNameTheTraceOfTheirSender(t *testing.T) {
	client := newClient(t)
	q := newQueue(t, client, time.Minute, 5)
	in, _ := trace.Parse("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")
	for _, ctx := range []context.Context{trace.With(t.Context(), in), t.Context()} {
		if err := q.Send(ctx, "acme", []string{"x"}); err != nil {
			t.Fatal(err)
		}
	}
	const attribute = types.MessageSystemAttributeNameAWSTraceHeader
	got := map[string]int{}
	for end := time.Now().Add(10 * time.Second); len(got) < 2 && time.Now().Before(end); {
		answer, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: urlOf(t, client, q.Name()), MaxNumberOfMessages: 10, MessageSystemAttributeNames: []types.MessageSystemAttributeName{attribute},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range answer.Messages {
			got[m.Attributes[string(attribute)]]++
		}
	}
	for _, want := range []string{in.Header(), ""} {
		if got[want] != 1 {
			t.Errorf("got %d messages with the trace %q, want 1; all: %v", got[want], want, got)
		}
	}
}
