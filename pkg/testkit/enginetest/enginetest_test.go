package enginetest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func TestNothingIsStartedUnasked(t *testing.T) {
	t.Setenv("OCELOT_TEST_ENGINES", "")
	for variable := range urlsOf {
		t.Setenv(variable, "")
	}
	wants := map[string]func(testing.TB){
		"own mongo": func(t testing.TB) { enginetest.StartMongo(t) },
		"own s3":    func(t testing.TB) { enginetest.StartS3(t) },
		"own aws":   func(t testing.TB) { enginetest.StartAWS(t) },
		"aws":       func(t testing.TB) { enginetest.AWS(t) },
		"parquet":   func(t testing.TB) { enginetest.ParquetReaders(t) },
	}
	for variable, url := range urlsOf {
		wants[variable] = func(t testing.TB) { url(t) }
	}
	for name, want := range wants {
		recorder := &skipRecorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			want(recorder)
		}()
		<-done
		if !strings.Contains(recorder.message, "make test-engines") {
			t.Errorf("%s: got the message %q, want it to contain %q", name, recorder.message, "make test-engines")
		}
	}
}

// skipRecorder keeps the reason of a skip.
type skipRecorder struct {
	testing.TB
	message string
}

func (r *skipRecorder) Skipf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit() // as testing does
}

// urlsOf are the engines that an environment variable can name.
var urlsOf = map[string]func(testing.TB) string{
	"MONGODB_URI":                      enginetest.Mongo,
	"OPENSEARCH_URL":                   enginetest.OpenSearch,
	"AWS_ENDPOINT_URL_SQS":             enginetest.SQS,
	"AWS_ENDPOINT_URL_S3":              enginetest.S3,
	"AWS_ENDPOINT_URL_KMS":             enginetest.KMS,
	"AWS_ENDPOINT_URL_SECRETS_MANAGER": enginetest.SecretsManager,
}

func TestAnEngineThatRunsIsUsed(t *testing.T) {
	t.Setenv("OCELOT_TEST_ENGINES", "1") // the named one comes first
	for variable := range urlsOf {
		t.Setenv(variable, "http://"+variable)
	}
	for variable, url := range urlsOf {
		if got := url(t); got != "http://"+variable {
			t.Errorf("%s: got %q, want %q", variable, got, "http://"+variable)
		}
	}
}

func TestFetchRefusesUnknownEngines(t *testing.T) {
	if err := enginetest.Fetch(t.Context(), "mongo", "oracle"); err == nil || !strings.Contains(err.Error(), "oracle") {
		t.Errorf("got error %v, want one with %q", err, "oracle")
	}
}

// enginesOf returns engines, each with functions that store one thing and count the stored things.
// An engine that loses everything when it ends has no such functions.
var enginesOf = map[string]struct {
	start func(testing.TB) *enginetest.Engine
	store func(url string, i int) error
	count func(url string) (int, error)
}{
	"mongo":      {enginetest.StartMongo, storeInMongo, countInMongo},
	"opensearch": {enginetest.StartOpenSearch, storeInOpenSearch, countInOpenSearch},
	"sqs":        {enginetest.StartSQS, storeInSQS, countInSQS},
	"s3":         {enginetest.StartS3, storeInS3, countInS3},
	"aws":        {enginetest.StartAWS, nil, nil},
}

func TestEnginesKeepWhatTheyAcknowledged(t *testing.T) {
	for name, test := range enginesOf {
		if test.store == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			engine := test.start(t)
			url := engine.URL()
			stored := 0
			for round, end := range []func() error{engine.Kill, engine.Stop, engine.Kill} {
				for range 20 {
					if err := test.store(url, stored); err != nil {
						t.Fatal(err)
					}
					stored++
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
				if err := test.store(url, stored); err == nil {
					t.Fatal("an engine that is down answered, want an error")
				}
				if err := engine.Start(); err != nil {
					t.Fatal(err)
				}
				if got, err := test.count(engine.URL()); err != nil {
					t.Fatal(err)
				} else if got != stored {
					t.Fatalf("round %d: got %d stored things, want %d", round, got, stored)
				}
			}
		})
	}
}

// TestMongoKeepsWhatItAcknowledgedUnderLoad is of our own commit on top of the
// server; the other engines write before they answer by themselves.
func TestMongoKeepsWhatItAcknowledgedUnderLoad(t *testing.T) {
	engine := enginetest.StartMongo(t)
	const writers, rounds = 4, 3
	acknowledged := map[int]bool{}
	for round := range rounds {
		var mu sync.Mutex
		var running sync.WaitGroup
		for writer := range writers {
			running.Go(func() {
				_ = onMongo(engine.URL(), func(ctx context.Context, c *mongo.Collection) error {
					for i := 0; ; i++ {
						id := (i*writers+writer)*rounds + round
						if _, err := c.InsertOne(ctx, bson.M{"_id": id}); err != nil {
							return err // killed
						}
						mu.Lock()
						acknowledged[id] = true
						mu.Unlock()
					}
				})
			})
		}
		time.Sleep(time.Second)
		if err := engine.Kill(); err != nil {
			t.Fatal(err)
		}
		running.Wait()
		if err := engine.Start(); err != nil {
			t.Fatal(err)
		}
	}
	err := onMongo(engine.URL(), func(ctx context.Context, c *mongo.Collection) error {
		var stored []struct {
			ID int `bson:"_id"`
		}
		found, err := c.Find(ctx, bson.M{})
		if err != nil {
			return err
		}
		if err := found.All(ctx, &stored); err != nil {
			return err
		}
		t.Logf("%d acknowledged, %d stored", len(acknowledged), len(stored))
		for _, document := range stored {
			delete(acknowledged, document.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged documents are lost, want 0", len(acknowledged))
	}
}

// childVariable makes TestEnginesEndWithTheTestBinary start the engine that it names, and wait to be killed.
const childVariable = "OCELOT_TEST_CHILD"

func TestEnginesEndWithTheTestBinary(t *testing.T) {
	if name := os.Getenv(childVariable); name != "" {
		fmt.Println("ADDR", enginesOf[name].start(t).Addr())
		time.Sleep(time.Minute)
		t.Fatal("the process still runs, want it killed")
	}
	enginetest.StartMongo(t) // skips, or has all fetched
	for name := range enginesOf {
		t.Run(name, func(t *testing.T) {
			temporary := t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEnginesEndWithTheTestBinary$")
			cmd.Env = append(os.Environ(), childVariable+"="+name, "TMPDIR="+temporary)
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			addr := awaitAddr(t, output)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // reports that it was killed
			await(t, "the engine ends", func() bool {
				conn, err := net.DialTimeout("tcp", addr, time.Second)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			await(t, "its data is gone", func() bool {
				left, err := os.ReadDir(temporary)
				return err == nil && len(left) == 0
			})
		})
	}
}

func awaitAddr(t *testing.T, output io.Reader) string {
	t.Helper()
	var printed bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(output, &printed))
	for lines.Scan() {
		if addr, found := strings.CutPrefix(lines.Text(), "ADDR "); found {
			return addr
		}
	}
	t.Fatalf("the child started no engine, want one: %s", printed.String())
	return ""
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20s in vain, want %s", what)
		}
	}
}

func onMongo(url string, do func(context.Context, *mongo.Collection) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(url).SetServerSelectionTimeout(time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(ctx) }()
	return do(ctx, client.Database("enginetest").Collection("things"))
}

func storeInMongo(url string, i int) error {
	return onMongo(url, func(ctx context.Context, c *mongo.Collection) error {
		_, err := c.InsertOne(ctx, bson.M{"_id": i})
		return err
	})
}

func countInMongo(url string) (n int, err error) {
	return n, onMongo(url, func(ctx context.Context, c *mongo.Collection) error {
		count, err := c.CountDocuments(ctx, bson.M{})
		n = int(count)
		return err
	})
}

func storeInOpenSearch(url string, i int) error {
	_, err := call(http.MethodPut, fmt.Sprintf("%s/things/_doc/%d", url, i), "", `{"a":1}`)
	return err
}

func countInOpenSearch(url string) (int, error) {
	if _, err := call(http.MethodPost, url+"/things/_refresh", "", ""); err != nil {
		return 0, err
	}
	text, err := call(http.MethodGet, url+"/things/_count", "", "")
	var answer struct{ Count int }
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	return answer.Count, err
}

func storeInSQS(url string, i int) error {
	if _, err := call(http.MethodPost, url, "CreateQueue", `{"QueueName":"things"}`); err != nil {
		return err
	}
	_, err := call(http.MethodPost, url, "SendMessage", fmt.Sprintf(`{"QueueUrl":"%s/000000000000/things","MessageBody":"%d"}`, url, i))
	return err
}

func countInSQS(url string) (n int, err error) {
	text, err := call(http.MethodPost, url, "GetQueueAttributes",
		fmt.Sprintf(`{"QueueUrl":"%s/000000000000/things","AttributeNames":["ApproximateNumberOfMessages"]}`, url))
	if err != nil {
		return 0, err
	}
	var answer struct{ Attributes map[string]string }
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(answer.Attributes["ApproximateNumberOfMessages"], &n)
	return n, err
}

// onS3 calls with what an engine takes, and without repeating anything.
func onS3(url string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &url, Region: enginetest.Region, UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(enginetest.AccessKey, enginetest.SecretKey, ""),
	})
}

func storeInS3(url string, i int) error {
	client, bucket := onS3(url), aws.String("things")
	if i == 0 {
		_, err := client.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{
			LocationConstraint: enginetest.Region,
		}})
		if err != nil {
			return err
		}
	}
	_, err := client.PutObject(context.Background(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String(fmt.Sprint(i)), Body: strings.NewReader("a")})
	return err
}

func countInS3(url string) (int, error) {
	listed, err := onS3(url).ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: aws.String("things")})
	if err != nil {
		return 0, err
	}
	return len(listed.Contents), nil
}

// call makes one HTTP request; target names the SQS action, where it is one.
func call(method, url, target, body string) ([]byte, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if target != "" {
		r.Header.Set("Content-Type", "application/x-amz-json-1.0")
		r.Header.Set("X-Amz-Target", "AmazonSQS."+target)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text)
	}
	return text, err
}
