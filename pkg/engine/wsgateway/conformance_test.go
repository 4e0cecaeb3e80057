package wsgateway_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

func TestConformance(t *testing.T) {
	api := newAPI(t)
	gateway := api.gateway(t, api.sender)
	conformance.Sender(t, func(*testing.T) conformance.SenderUnderTest {
		return conformance.SenderUnderTest{Sender: gateway, Connect: api.connect}
	})
}

func TestConformanceOfCredentials(t *testing.T) {
	api := newAPI(t)
	c := api.connect(t)
	for name, account := range map[string]aws.Credentials{
		"another secret": {AccessKeyID: api.sender.AccessKeyID, SecretAccessKey: "another secret"},
		"no permission":  newUser(t, api.endpoint, ""),
	} {
		refused := api.gateway(t, account)
		err := errors.Join(refused.Send(t.Context(), c.ID(), []byte("forged")), refused.Cut(t.Context(), c.ID()))
		wantPlain(t, name, err)
		if err == nil {
			continue
		}
		if n := strings.Count(err.Error(), "403"); n != 2 {
			t.Errorf("%s: got %d refusals with 403, want 2: %v", name, n, err)
		}
		for _, told := range []string{account.AccessKeyID, account.SecretAccessKey, "forged"} {
			if strings.Contains(err.Error(), told) {
				t.Errorf("%s: got error %v, want it without %q", name, err, told)
			}
		}
	}
	if err := api.gateway(t, api.sender).Send(t.Context(), c.ID(), []byte("sound")); err != nil {
		t.Fatal(err)
	}
	if text, err := c.Read(t.Context()); err != nil {
		t.Error(err)
	} else if string(text) != "sound" {
		t.Errorf("the client got %q, want %q", text, "sound")
	}
}

// api is a WebSocket API of the engine, whose only route answers each message
// with the id of its connection.
type api struct {
	endpoint, path string
	sender         aws.Credentials // of a user who may send, and nothing else
}

const stage = "live"

func newAPI(t *testing.T) api {
	t.Helper()
	endpoint := enginetest.AWS(t)
	call := func(service, path string, body any, answer any) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(signed(t, service, endpoint+path, "application/json", text), answer); err != nil {
			t.Fatal(err)
		}
	}
	name := "whoami-" + uuid.NewString()[:8]
	iam(t, endpoint, "CreateRole", url.Values{
		"RoleName":                 {name},
		"AssumeRolePolicyDocument": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`},
	})
	var function struct{ FunctionArn string }
	call("lambda", "/2015-03-31/functions", map[string]any{
		"FunctionName": name, "Runtime": "python3.12", "Role": "arn:aws:iam::000000000000:role/" + name, "Handler": "main.answer",
		"Code": map[string]any{"ZipFile": zipped(t, "main.py", `def answer(event, context):
    return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
`)},
	}, &function)
	var made struct {
		ID            string `json:"apiId"`
		IntegrationID string `json:"integrationId"`
	}
	call("apigateway", "/v2/apis", map[string]string{
		"name": "test", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action",
	}, &made)
	call("apigateway", "/v2/apis/"+made.ID+"/integrations", map[string]string{
		"integrationType": "AWS_PROXY", "integrationUri": "arn:aws:apigateway:" + enginetest.Region + ":lambda:path/2015-03-31/functions/" + function.FunctionArn + "/invocations",
	}, &made)
	var nothing any
	call("apigateway", "/v2/apis/"+made.ID+"/routes", map[string]string{"routeKey": "$default", "target": "integrations/" + made.IntegrationID}, &nothing)
	call("apigateway", "/v2/apis/"+made.ID+"/stages", map[string]any{"stageName": stage, "autoDeploy": true}, &nothing)
	return api{endpoint: endpoint, path: "/_aws/execute-api/" + made.ID + "/" + stage, sender: newUser(t, endpoint, "execute-api:ManageConnections")}
}

// newUser makes a user who may do what the action says; "": nothing.
func newUser(t *testing.T, endpoint, action string) aws.Credentials {
	t.Helper()
	name := "user-" + uuid.NewString()[:8]
	iam(t, endpoint, "CreateUser", url.Values{"UserName": {name}})
	if action != "" {
		iam(t, endpoint, "PutUserPolicy", url.Values{
			"UserName": {name}, "PolicyName": {"may"},
			"PolicyDocument": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*"}]}`},
		})
	}
	var created struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	if err := xml.Unmarshal(iam(t, endpoint, "CreateAccessKey", url.Values{"UserName": {name}}), &created); err != nil {
		t.Fatal(err)
	} else if created.Secret == "" {
		t.Fatalf("got no key for %s, want one", name)
	}
	return aws.Credentials{AccessKeyID: created.ID, SecretAccessKey: created.Secret}
}

func iam(t *testing.T, endpoint, action string, parameters url.Values) []byte {
	t.Helper()
	parameters.Set("Action", action)
	parameters.Set("Version", "2010-05-08")
	return signed(t, "iam", endpoint+"/", "application/x-www-form-urlencoded", []byte(parameters.Encode()))
}

// signed makes a call with the administrator's credentials.
func signed(t *testing.T, service, url, contentType string, body []byte) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	administrator := aws.Credentials{AccessKeyID: enginetest.AccessKey, SecretAccessKey: enginetest.SecretKey}
	if err := v4.NewSigner().SignHTTP(t.Context(), administrator, request, digest(body), service, enginetest.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode/100 != 2 {
		t.Fatalf("%s: got %d %s, want success", url, response.StatusCode, text)
	}
	return text
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func zipped(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	file, err := w.Create(name)
	if err == nil {
		_, err = io.WriteString(file, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (a api) gateway(t *testing.T, account aws.Credentials) *wsgateway.Gateway {
	t.Helper()
	gateway, err := wsgateway.New(a.endpoint+a.path, configOf(account))
	if err != nil {
		t.Fatal(err)
	}
	return gateway
}

func configOf(account aws.Credentials) aws.Config {
	return aws.Config{Region: enginetest.Region, Credentials: credentials.StaticCredentialsProvider{Value: account}}
}

func (a api) connect(t *testing.T) conformance.SenderClient {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(a.endpoint, "http")+a.path, nil) //nolint:bodyclose // Dial closes it
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() }) // it may have been closed
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	c := &client{Conn: conn}
	id, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.id = string(id)
	return c
}

// client is a client of the WebSocket API.
type client struct {
	*websocket.Conn
	id string
}

func (c *client) ID() string { return c.id }

func (c *client) Read(ctx context.Context) ([]byte, error) {
	_, text, err := c.Conn.Read(ctx)
	return text, err
}

func (c *client) Leave() error { return c.Close(websocket.StatusNormalClosure, "") }
