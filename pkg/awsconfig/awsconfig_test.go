package awsconfig_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
)

func TestNewHasEndpointRegionAndCredentials(t *testing.T) {
	var request *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request = r
		_, _ = io.WriteString(w, `{"QueueUrl":"http://x/1/q"}`)
	}))
	defer server.Close()
	for name, endpoints := range map[string]map[string]string{
		"of the service": {"SQS": server.URL, "": "http://127.0.0.1:1"}, "of all services": {"": server.URL},
	} {
		cfg := awsconfig.New(config.AWS{Region: "eu-north-1", AccessKeyID: "KEYID", SecretAccessKey: config.Secret("secret"), Endpoints: endpoints})
		if _, err := sqs.NewFromConfig(cfg).GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("q")}); err != nil {
			t.Fatalf("the endpoint %s: %v", name, err)
		}
		if got := request.Header.Get("Authorization"); !strings.Contains(got, "KEYID/") {
			t.Errorf("got %q, want it to contain %q", got, "KEYID/")
		} else if !strings.Contains(got, "/eu-north-1/sqs/") {
			t.Errorf("got %q, want it to contain %q", got, "/eu-north-1/sqs/")
		}
	}
}

func TestWithClientHidesWhatABodyCanDo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") }))
	defer server.Close()
	cfg := awsconfig.WithClient(aws.Config{})
	if again := awsconfig.WithClient(cfg); again.HTTPClient != cfg.HTTPClient {
		t.Errorf("a configuration that has the client: got client %v, want %v", again.HTTPClient, cfg.HTTPClient)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := cfg.HTTPClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, writes := response.Body.(io.WriterTo); writes {
		t.Errorf("the body has type %T, want one that is no io.WriterTo", response.Body)
	}
	if _, writes := response.Body.(io.Writer); writes {
		t.Errorf("the body has type %T, want one that is no io.Writer", response.Body)
	}
	if text, err := bufio.NewReader(response.Body).ReadString(0); text != "text" {
		t.Errorf("got text %q, want %q", text, "text")
	} else if err != io.EOF {
		t.Errorf("got error %v, want %v", err, io.EOF)
	}
}
