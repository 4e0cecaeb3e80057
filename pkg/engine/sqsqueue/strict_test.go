package sqsqueue_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
)

// strict takes messages by SQS's documented rules, which the engines of the
// tests do not hold to, and fails as it is told.
type strict struct {
	maxBytes int
	// fail decides on the try-th time that a body is sent; "" takes it.
	fail func(body string, try int) (code string, senderFault bool)

	mu      sync.Mutex
	tries   map[string]int
	bodies  []string // taken
	delays  []int    // of each, in seconds
	batches []int    // messages in each call
	billed  int      // chunks of 64 KB
	lookups int      // of the queue's URL
}

// unmentioned is the code of a message that the answer leaves out.
const unmentioned = "unmentioned"

type batchItem struct {
	ID    string `json:"Id"`
	Body  string `json:"MessageBody"`
	Delay int    `json:"DelaySeconds"`
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS."); action {
	case "GetQueueUrl":
		s.lookups++
		answer(w, http.StatusOK, map[string]string{"QueueUrl": "http://" + r.Host + "/1/q"})
	case "SendMessageBatch":
		var input struct{ Entries []batchItem }
		if err := json.NewDecoder(r.Body).Decode(&input); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#InvalidMessageContents"})
			return
		}
		s.sendBatch(w, input.Entries)
	default:
		answer(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#UnsupportedOperation", "message": action})
	}
}

func (s *strict) sendBatch(w http.ResponseWriter, items []batchItem) {
	refuse := func(code string) {
		answer(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#" + code})
	}
	size, ids := 0, map[string]bool{}
	for _, item := range items {
		size += len(item.Body)
		ids[item.ID] = true
	}
	switch {
	case len(items) == 0:
		refuse("EmptyBatchRequest")
		return
	case len(items) > 10:
		refuse("TooManyEntriesInBatchRequest")
		return
	case len(ids) != len(items):
		refuse("BatchEntryIdsNotDistinct")
		return
	case size > s.maxBytes:
		refuse("BatchRequestTooLong")
		return
	}
	s.batches = append(s.batches, len(items))
	s.billed += (size + 64<<10 - 1) / (64 << 10)
	successful, failed := []map[string]any{}, []map[string]any{}
	for _, item := range items {
		code, sender := s.judge(item)
		if code == unmentioned {
			continue
		}
		if code != "" {
			failed = append(failed, map[string]any{"Id": item.ID, "Code": code, "SenderFault": sender})
			continue
		}
		s.bodies, s.delays = append(s.bodies, item.Body), append(s.delays, item.Delay)
		sum := md5.Sum([]byte(item.Body))
		successful = append(successful, map[string]any{"Id": item.ID, "MessageId": item.ID, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
	}
	answer(w, http.StatusOK, map[string]any{"Successful": successful, "Failed": failed})
}

func (s *strict) judge(item batchItem) (code string, senderFault bool) {
	body := item.Body
	s.tries[body]++
	if item.Delay < 0 || item.Delay > 900 {
		return "InvalidParameterValue", true
	}
	if body == "" || strings.ContainsFunc(body, func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
	}) {
		return "InvalidMessageContents", true
	}
	if s.fail == nil {
		return "", false
	}
	return s.fail(body, s.tries[body])
}

func answer(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone is no concern
}

// newStrict returns a queue whose service is s.
func newStrict(t *testing.T, s *strict, o sqsqueue.Options) *sqsqueue.Queue {
	t.Helper()
	if s.maxBytes == 0 {
		s.maxBytes = 1 << 20
	}
	s.tries = map[string]int{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return sqsqueue.New(clientOf(server.URL), "q", o)
}

// clientOf returns a client of the service at the endpoint, which takes any credentials.
func clientOf(endpoint string) *sqs.Client {
	return sqsqueue.NewClient(aws.Config{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}
