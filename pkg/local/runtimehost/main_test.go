package runtimehost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// modeVariable makes this test binary a bootstrap.
const modeVariable = "OCELOT_TEST_BOOTSTRAP"

func TestMain(m *testing.M) {
	switch os.Getenv(modeVariable) {
	case "":
		os.Exit(m.Run())
	case "commands":
		lambda.Start((&commander{}).handle)
	case "echo":
		lambda.Start(func(event json.RawMessage) (json.RawMessage, error) { return event, nil })
	case "exits":
		os.Exit(7)
	case "never-polls":
		time.Sleep(time.Hour)
	case "init-error":
		post("/init/error", `{"errorType":"Config.Missing","errorMessage":"no engine"}`)
		os.Exit(1)
	case "breaks-rules":
		breakRules()
	case "host":
		hostUntilKilled()
	}
}

// command is what the function must do. Its fields can be combined.
type command struct {
	Text, Print, Fail, Panic string
	Sleep                    time.Duration
	Exit, Kill               bool
	Answer                   int // bytes
}

// report is what the function observed of its invocation.
type report struct {
	Text, RequestID, ARN, Trace string
	PID, Concurrent             int
	Deadline                    time.Time
	Environment                 map[string]string
}

type commander struct{ running atomic.Int32 }

func (c *commander) handle(ctx context.Context, do command) (any, error) {
	concurrent := c.running.Add(1)
	defer c.running.Add(-1)
	fmt.Print(do.Print)
	time.Sleep(do.Sleep)
	switch {
	case do.Exit:
		os.Exit(3)
	case do.Kill:
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return nil, err
		}
		if err := self.Kill(); err != nil {
			return nil, err
		}
		time.Sleep(time.Hour)
	case do.Panic != "":
		panic(do.Panic)
	case do.Fail != "":
		return nil, errors.New(do.Fail)
	case do.Answer > 0:
		return strings.Repeat("x", do.Answer), nil
	}
	r := report{Text: do.Text, PID: os.Getpid(), Concurrent: int(concurrent), Environment: map[string]string{}}
	r.Deadline, _ = ctx.Deadline()
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.RequestID, r.ARN = lc.AwsRequestID, lc.InvokedFunctionArn
	}
	r.Trace = os.Getenv("_X_AMZN_TRACE_ID")
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		r.Environment[name] = value
	}
	return r, nil
}

func apiURL(path string) string {
	return "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime" + path
}

// post returns the status.
func post(path, body string) int {
	response, err := http.Post(apiURL(path), "application/json", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func get(path string) (status int, header http.Header) {
	response, err := http.Get(apiURL(path))
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, response.Header
}

func breakRules() {
	_, header := get("/invocation/next")
	id := header.Get("Lambda-Runtime-Aws-Request-Id")
	wrong := post("/invocation/another/response", "wrong")
	again, _ := get("/invocation/next")
	answer := post("/invocation/"+id+"/response", "done")
	answerAgain := post("/invocation/"+id+"/response", "twice")
	unknown, _ := get("/nothing")
	fmt.Printf("wrong id %d, next again %d, answer %d, answer again %d, unknown path %d\n", wrong, again, answer, answerAgain, unknown)
	time.Sleep(time.Hour)
}
