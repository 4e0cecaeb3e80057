package s3blob_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
)

func configIn(region, endpoint string) aws.Config {
	cfg := aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "session")}
	if endpoint != "" {
		cfg.BaseEndpoint = &endpoint
	}
	return cfg
}

func TestAddresses(t *testing.T) {
	for name, test := range map[string]struct{ region, endpoint, bucket, want string }{
		"AWS":                     {"eu-central-1", "", "blobs", "https://blobs.s3.eu-central-1.amazonaws.com/tenant%3Da/b%20c"},
		"AWS, a bucket with dots": {"eu-central-1", "", "blobs.example", "https://s3.eu-central-1.amazonaws.com/blobs.example/tenant%3Da/b%20c"},
		"AWS in China":            {"cn-north-1", "", "blobs", "https://blobs.s3.cn-north-1.amazonaws.com.cn/tenant%3Da/b%20c"},
		"AWS, an isolated region": {"us-isob-east-1", "", "blobs", "https://blobs.s3.us-isob-east-1.sc2s.sgov.gov/tenant%3Da/b%20c"},
		"another service":         {"r", "http://127.0.0.1:7070", "blobs", "http://127.0.0.1:7070/blobs/tenant%3Da/b%20c"},
		"below a path":            {"r", "http://127.0.0.1:7070/s3/", "blobs", "http://127.0.0.1:7070/s3/blobs/tenant%3Da/b%20c"},
	} {
		client, err := s3blob.NewClient(configIn(test.region, test.endpoint))
		if err != nil {
			t.Fatal(err)
		}
		text, err := s3blob.New(client, test.bucket).Presign(t.Context(), "a", "b c", "file.csv", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		query := got.Query()
		got.RawQuery = ""
		if got.String() != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
		for parameter, want := range map[string]string{"X-Amz-Expires": "60", "X-Amz-Security-Token": "session", "response-content-disposition": "attachment; filename=file.csv"} {
			if got := query.Get(parameter); got != want {
				t.Errorf("%s: got %s %q, want %q", name, parameter, got, want)
			}
		}
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:7070", "ftp://127.0.0.1", "http://", "http://host?secret", "http://a b"} {
		if _, err := s3blob.NewClient(configIn("r", endpoint)); err == nil {
			t.Errorf("%s: got no error, want one", endpoint)
		}
	}
}
