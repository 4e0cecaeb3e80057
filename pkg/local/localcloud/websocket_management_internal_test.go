package localcloud

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func TestGatewaySenderConformance(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	remote := remoteSender(t, api.url)
	for name, sender := range map[string]stream.Sender{"in process": s.gateway, "through the connections API": remote} {
		t.Run(name, func(t *testing.T) {
			conformance.Sender(t, func(*testing.T) conformance.SenderUnderTest {
				return conformance.SenderUnderTest{Sender: sender, Connect: func(t *testing.T) conformance.SenderClient {
					t.Helper()
					return s.connect()
				}}
			})
		})
	}
	c := s.connect()
	if err := remote.Send(t.Context(), c.id+"/", []byte("text")); !errors.Is(err, stream.ErrGone) {
		t.Errorf("an id with a slash: got error %v, want %v", err, stream.ErrGone)
	}
}

func remoteSender(t *testing.T, url string) *wsgateway.Gateway {
	t.Helper()
	sender, err := wsgateway.New(url, aws.Config{Region: "local", Credentials: credentials.NewStaticCredentialsProvider("local", "local", "")})
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

func TestConnectionsAPIAnswersLikeAPIGateway(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api, err := serveManagementAPI(s.gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.close)
	c := s.connect()
	server := strings.TrimSuffix(api.url, "/"+api.stage)
	escaped := strings.ReplaceAll(c.id, "=", "%3D")
	for _, test := range []struct {
		method, url, body string
		status            int
	}{
		{"POST", api.url + "/@connections/" + c.id, "plain", 200},
		{"POST", api.url + "/%40connections/" + escaped, "escaped", 200},
		{"POST", api.url + "/@connections/" + escaped, strings.Repeat("x", stream.MaxMessageSize), 200},
		{"POST", api.url + "/@connections/" + escaped, strings.Repeat("x", stream.MaxMessageSize+1), 413},
		{"POST", api.url + "/@connections/" + escaped, "\xff", 200},
		{"POST", api.url + "/@connections/unknown", "text", 410},
		{"GET", api.url + "/@connections/unknown", "", 410},
		{"DELETE", api.url + "/@connections/unknown", "", 410},
		{"PUT", api.url + "/@connections/" + escaped, "", 403},
		{"POST", api.url + "/@connections/" + escaped + "/x", "text", 403},
		{"POST", api.url + "/connections/" + escaped, "text", 403},
		{"POST", server + "/other/@connections/" + escaped, "text", 403},
		{"POST", server + "/@connections/" + escaped, "text", 403},
		{"GET", server + "/", "", 403},
		{"GET", api.url + "/@connections/" + escaped, "", 200},
		{"DELETE", api.url + "/@connections/" + escaped, "", 204},
		{"DELETE", api.url + "/@connections/" + escaped, "", 410},
	} {
		if got := signedCall(t, test.method, test.url, test.body); got != test.status {
			t.Errorf("%s %s: got status %d, want %d", test.method, test.url, got, test.status)
		}
	}
	for _, want := range []string{"plain", "escaped", strings.Repeat("x", stream.MaxMessageSize), "\uFFFD"} {
		c.wantText(want)
	}
	c.wantClosed(1000)
	response, err := http.Post(api.url+"/@connections/unknown", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	} else if response.StatusCode != http.StatusForbidden {
		t.Errorf("unsigned: got status %d, want %d", response.StatusCode, http.StatusForbidden)
	}
}

func TestConnectionsAPIDescribesConnections(t *testing.T) {
	s := newSocketTest(t, nil, allRoutes...)
	api := &managementAPI{gateway: s.gateway}
	c := s.connect()
	recorder := httptest.NewRecorder()
	api.describe(recorder, c.id)
	var description struct {
		ConnectedAt, LastActiveAt time.Time
		Identity                  struct{ SourceIP, UserAgent string }
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &description); err != nil {
		t.Fatal(err)
	}
	if time.Since(description.ConnectedAt) > socketTimeout {
		t.Errorf("connected %v ago, want at most %v", time.Since(description.ConnectedAt), socketTimeout)
	}
	if description.LastActiveAt.Before(description.ConnectedAt) {
		t.Errorf("got last active at %v, want none before %v", description.LastActiveAt, description.ConnectedAt)
	}
	if description.Identity.SourceIP != "127.0.0.1" {
		t.Errorf("got source IP %q, want %q", description.Identity.SourceIP, "127.0.0.1")
	}
	if description.Identity.UserAgent == "" {
		t.Error("got an empty user agent, want a value")
	}
}

// signedCall sends a request with an Authorization header of the form of a signature, and returns
// the status.
func signedCall(t *testing.T, method, url, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260301/local/execute-api/aws4_request, SignedHeaders=host, Signature=00")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}
