package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// cloud is the emulator of AWS with the stores and the issuer of tokens beside it.
type cloud struct {
	t      *testing.T
	url    string // the emulator's address
	mongo  string
	cli    string // the program cdk
	signer ed25519.PrivateKey
}

// The variables of this test.
const (
	deployVariable = "OCELOT_TEST_DEPLOY" // 1: run it
	cliVariable    = "OCELOT_CDK_CLI"     // the program cdk of the npm package aws-cdk
)

func newCloud(t *testing.T) *cloud {
	t.Helper()
	if os.Getenv(deployVariable) != "1" {
		t.Skip("wants an emulator of AWS and the CDK's command line: run `make test-deploy`")
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","use":"sig","alg":"EdDSA","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	t.Cleanup(keys.Close)
	c := &cloud{t: t, mongo: enginetest.Mongo(t), cli: os.Getenv(cliVariable), signer: private}
	engine := enginetest.StartCloud(t, map[string]string{
		"OPENSEARCH_URL": enginetest.OpenSearch(t), "OPENSEARCH_AUTH": "none", "OPENSEARCH_REPLICAS": "0", "OIDC_JWKS_URL": keys.URL,
	})
	c.url = engine.URL()
	return c
}

// token returns a bearer token of the environment's issuer.
func (c *cloud) token(issuer Issuer, tenants any, role string) string {
	c.t.Helper()
	return c.tokenOf("tester", issuer, tenants, role)
}

func (c *cloud) tokenOf(subject string, issuer Issuer, tenants any, role string) string {
	c.t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer.Issuer, "aud": issuer.Audience, "sub": subject, "tenants": tenants, "role": role, "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = "1"
	text, err := token.SignedString(c.signer)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// cdk runs the CDK's command line against the emulator.
func (c *cloud) cdk(args ...string) {
	c.t.Helper()
	began := time.Now()
	command := exec.CommandContext(c.t.Context(), c.cli, args...)
	command.Dir = c.t.TempDir()
	command.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+c.url, "AWS_ACCESS_KEY_ID="+enginetest.AccessKey, "AWS_SECRET_ACCESS_KEY="+enginetest.SecretKey,
		"AWS_REGION="+enginetest.Region, "AWS_DEFAULT_REGION="+enginetest.Region, "CDK_DISABLE_CLI_TELEMETRY=true", "AWS_EC2_METADATA_DISABLED=true",
		"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20", "HOME="+c.t.TempDir())
	if out, err := command.CombinedOutput(); err != nil {
		c.t.Fatalf("cdk %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	c.t.Logf("cdk %s: %.0f s", args[0], time.Since(began).Seconds())
}

// call sends a signed request to a service of the emulator and returns the answer's body.
func (c *cloud) call(service, method, path string, header http.Header, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	request.Header.Set("X-Amz-Content-Sha256", hash)
	credentials := aws.Credentials{AccessKeyID: enginetest.AccessKey, SecretAccessKey: enginetest.SecretKey}
	if err := v4.NewSigner().SignHTTP(c.t.Context(), credentials, request, hash, service, enginetest.Region, time.Now()); err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %s", service, path, response.Status, answer)
	}
	return answer, err
}

// must is call for what may not fail. Its answer is JSON if there is a place for it.
func (c *cloud) must(answer any, service, method, path string, header http.Header, body []byte) {
	c.t.Helper()
	text, err := c.call(service, method, path, header, body)
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// target calls an operation of a service that speaks JSON.
func (c *cloud) target(answer any, service, target string, body any) {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	kind := "application/x-amz-json-1.1"
	if service == "sqs" {
		kind = "application/x-amz-json-1.0"
	}
	c.must(answer, service, http.MethodPost, "/", http.Header{"Content-Type": {kind}, "X-Amz-Target": {target}}, text)
}

// query calls an operation of a service that speaks forms and XML.
func (c *cloud) query(answer any, service, action, version string, values url.Values) {
	c.t.Helper()
	values.Set("Action", action)
	values.Set("Version", version)
	text, err := c.call(service, http.MethodPost, "/", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(values.Encode()))
	if err == nil && answer != nil {
		err = xml.Unmarshal(text, answer)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// outputs returns the outputs of a stack.
func (c *cloud) outputs(stack string) map[string]string {
	c.t.Helper()
	var answer struct {
		Status  string                                    `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
		Outputs []struct{ OutputKey, OutputValue string } `xml:"DescribeStacksResult>Stacks>member>Outputs>member"`
	}
	c.query(&answer, "cloudformation", "DescribeStacks", "2010-05-15", url.Values{"StackName": {stack}})
	outputs := map[string]string{"status": answer.Status}
	for _, o := range answer.Outputs {
		outputs[o.OutputKey] = o.OutputValue
	}
	return outputs
}

// here returns where the emulator serves an address of API Gateway such as
// https://id.execute-api.region.amazonaws.com/live/path.
func (c *cloud) here(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		c.t.Fatal(err)
	}
	id, _, _ := strings.Cut(parsed.Host, ".")
	base := c.url
	if parsed.Scheme == "wss" {
		base = strings.Replace(base, "http://", "ws://", 1)
	}
	return base + "/_aws/execute-api/" + id + parsed.Path
}

// eventually repeats until there is no error. It returns the last one.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// bootstraps returns the folder of the functions' binaries for this machine.
func bootstraps(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../bin/lambdas/" + runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}
