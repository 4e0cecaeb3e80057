package lambdaedge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
)

// load reads a sample event, as the Lambda runtime would.
func load[T any](t *testing.T, name string) T {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var event T
	if err := json.Unmarshal(text, &event); err != nil {
		t.Fatal(err)
	}
	return event
}

// captureLog returns what slog.Default writes until the test's end.
func captureLog(t *testing.T) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

func invoke(t *testing.T, h http.Handler, event events.APIGatewayProxyRequest) events.APIGatewayProxyResponse {
	t.Helper()
	response, err := lambdaedge.HTTP(h)(t.Context(), event)
	if err != nil {
		t.Fatalf("the function failed: %v", err)
	}
	return response
}

func TestHTTPHandsOnTheWholeRequest(t *testing.T) {
	var got *http.Request
	response := invoke(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusAccepted)
		w.Header().Set("Late", "is not sent")
		_, _ = w.Write([]byte(`{"a":"ü"}`))
	}), load[events.APIGatewayProxyRequest](t, "proxy.json"))

	const id = "0190163d-8694-739b-aea5-966c26f8ad90"
	for what, pair := range map[string][2]string{
		"path":           {got.URL.Path, "/api/v1/logs/" + id}, // without the base path of the custom domain
		"path parameter": {got.PathValue("id"), id},
		"method":         {got.Method, "GET"},
		"host":           {got.Host, "api.example.com"},
		"address":        {got.RemoteAddr, "203.0.113.7:0"},
		"request id":     {got.Header.Get("X-Request-Id"), "deef4878-7910-11e6-8f14-25afc3e9ae33"},
		"tenant":         {got.Header.Get("X-Tenant-ID"), "acme"},
		"host header":    {got.Header.Get("Host"), ""},
		"request URI":    {got.RequestURI, "/api/v1/logs/" + id + "?action=CREATE&action=DELETE&q=a+b%26c%3D%C3%BC"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if diff := cmp.Diff(url.Values{"action": {"CREATE", "DELETE"}, "q": {"a b&c=ü"}}, got.URL.Query()); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	if got, want := got.Header["Cookie"], []string{"a=1", "b=2"}; !slices.Equal(got, want) {
		t.Errorf("got cookies %q, want %q", got, want)
	}
	principal, known := access.PrincipalFrom(got.Context())
	want := access.Principal{Subject: "u1", Grants: map[audit.TenantID][]access.Permission{"acme": {"logs:read"}},
		Resources: []access.Resource{{Type: "order"}, {Type: "user", ID: "42"}}}
	if diff := cmp.Diff(want, principal); !known {
		t.Error("known is false, want true")
	} else if diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if response.StatusCode != http.StatusAccepted {
		t.Errorf("got status code %d, want %d: %s", response.StatusCode, http.StatusAccepted, response.Body)
	}
	if response.Body != `{"a":"ü"}` {
		t.Errorf("got body %q, want %q", response.Body, `{"a":"ü"}`)
	}
	if response.IsBase64Encoded {
		t.Error("base64 encoded is true, want false")
	}
	if !slices.Equal(response.MultiValueHeaders["Set-Cookie"], []string{"a=1", "b=2"}) {
		t.Errorf("got Set-Cookie %q, want %q", response.MultiValueHeaders["Set-Cookie"], []string{"a=1", "b=2"})
	}
	if response.MultiValueHeaders["Late"] != nil {
		t.Errorf("got Late %q, want none", response.MultiValueHeaders["Late"])
	}
}

// TestNothingIsCompressedWithoutAccept: API Gateway would pass a compressed body on as base64.
func TestNothingIsCompressedWithoutAccept(t *testing.T) {
	for accept, want := range map[string]string{"*/*": "gzip", "": ""} {
		event := events.APIGatewayProxyRequest{HTTPMethod: "GET", Resource: "/", Headers: map[string]string{"Accept-Encoding": "gzip"}}
		if accept != "" {
			event.Headers["Accept"] = accept
		}
		var got string
		invoke(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Accept-Encoding") }), event)
		if got != want {
			t.Errorf("Accept %q: got Accept-Encoding %q, want %q", accept, got, want)
		}
	}
}

func TestHTTPKeepsTheClientsRequestID(t *testing.T) {
	event := load[events.APIGatewayProxyRequest](t, "proxy.json")
	event.MultiValueHeaders["x-request-id"] = []string{"mine"}
	invoke(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values("X-Request-Id"); !slices.Equal(got, []string{"mine"}) {
			t.Errorf("got request id %q, want only %q", got, "mine")
		}
	}), event)
}

func TestHTTPTakesNoPrincipalFromAHeader(t *testing.T) {
	event := load[events.APIGatewayProxyRequest](t, "proxy.json")
	event.RequestContext.Authorizer = nil
	event.MultiValueHeaders["principal"] = []string{`{"sub":"root","grants":{"*":["logs:read"]}}`}
	invoke(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if p, known := access.PrincipalFrom(r.Context()); known {
			t.Errorf("got principal %+v, want none", p)
		}
	}), event)
}

func TestHTTPAnswers(t *testing.T) {
	const gzipped = "\x1f\x8b\x08\x00\xff"
	for _, c := range []struct {
		name, method string
		handler      http.HandlerFunc
		status       int
		contentType  string
		body         string // decoded
		base64       bool
	}{
		{"nothing written", "GET", func(http.ResponseWriter, *http.Request) {}, 200, "", "", false},
		{"a text without a type", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, 200, "text/plain; charset=utf-8", "hello", false},
		{"gzip", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, gzipped)
		}, 200, "", gzipped, true},
		{"bytes that are no text", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			_, _ = io.WriteString(w, "\xff\x00")
		}, 200, "x/y", "\xff\x00", true},
		{"mostly quotes", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			_, _ = io.WriteString(w, strings.Repeat(`"\`, 99))
		}, 200, "x/y", strings.Repeat(`"\`, 99), true},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "x/y")
			_, _ = io.WriteString(w, "body")
		}, 200, "x/y", "", false},
		{"no content", "DELETE", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "body"); err == nil {
				t.Error("a 204 took a body, want an error")
			}
		}, 204, "", "", false},
		{"the first status counts", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}, 418, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			event := load[events.APIGatewayProxyRequest](t, "proxy.json")
			event.HTTPMethod = c.method
			response := invoke(t, c.handler, event)
			body := response.Body
			if response.IsBase64Encoded {
				decoded, err := base64.StdEncoding.DecodeString(body)
				if err != nil {
					t.Fatal(err)
				}
				body = string(decoded)
			}
			switch got := http.Header(response.MultiValueHeaders).Get("Content-Type"); {
			case got != c.contentType:
				t.Errorf("got %q, want %q", got, c.contentType)
			case response.StatusCode != c.status:
				t.Errorf("got status code %d, want %d: %s", response.StatusCode, c.status, response.Body)
			case body != c.body:
				t.Errorf("got body %q, want %q", body, c.body)
			case response.IsBase64Encoded != c.base64:
				t.Errorf("base64 encoded is %v, want %v", response.IsBase64Encoded, c.base64)
			}
		})
	}
}

func problemOf(t *testing.T, response events.APIGatewayProxyResponse) map[string]any {
	t.Helper()
	if got, want := http.Header(response.MultiValueHeaders).Get("Content-Type"), "application/problem+json"; got != want {
		t.Errorf("got content type %q, want %q", got, want)
	}
	var problem map[string]any
	if err := json.Unmarshal([]byte(response.Body), &problem); err != nil {
		t.Fatal(err)
	}
	if problem["status"] != float64(response.StatusCode) {
		t.Errorf("got status %v, want %v", problem["status"], float64(response.StatusCode))
	}
	if problem["request_id"] != "deef4878-7910-11e6-8f14-25afc3e9ae33" {
		t.Errorf("got request_id %v, want %v", problem["request_id"], "deef4878-7910-11e6-8f14-25afc3e9ae33")
	}
	return problem
}

func TestHTTPRefusesAlienEvents(t *testing.T) {
	captureLog(t)
	for name, alter := range map[string]func(*events.APIGatewayProxyRequest){
		"no resource":        func(e *events.APIGatewayProxyRequest) { e.Resource = "" },
		"no method":          func(e *events.APIGatewayProxyRequest) { e.HTTPMethod = "" },
		"odd method":         func(e *events.APIGatewayProxyRequest) { e.HTTPMethod = "GET /x" },
		"no path parameters": func(e *events.APIGatewayProxyRequest) { e.PathParameters = nil },
		"no base64":          func(e *events.APIGatewayProxyRequest) { e.Body, e.IsBase64Encoded = "???", true },
	} {
		t.Run(name, func(t *testing.T) {
			event := load[events.APIGatewayProxyRequest](t, "proxy.json")
			alter(&event)
			response := invoke(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called, want no call") }), event)
			if problem := problemOf(t, response); response.StatusCode != http.StatusBadRequest {
				t.Errorf("got status code %d, want %d: %s", response.StatusCode, http.StatusBadRequest, response.Body)
			} else if problem["type"] != "urn:ocelot:problem:invalid_event" {
				t.Errorf("got type %v, want %v", problem["type"], "urn:ocelot:problem:invalid_event")
			}
		})
	}
}

func TestHTTPRefusesABrokenPrincipal(t *testing.T) {
	captureLog(t)
	for _, principal := range []any{"{", 7, "", `{"grants":{"acme":["logs:read"]}}`, nil} {
		event := load[events.APIGatewayProxyRequest](t, "proxy.json")
		event.RequestContext.Authorizer["principal"] = principal
		response := invoke(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called, want no call") }), event)
		if problemOf(t, response); response.StatusCode != http.StatusInternalServerError {
			t.Errorf("%v: got status %d, want %d", principal, response.StatusCode, http.StatusInternalServerError)
		}
	}
}

func TestHTTPSurvivesAPanic(t *testing.T) {
	log := captureLog(t)
	response := invoke(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an answer")
		panic("entry content")
	}), load[events.APIGatewayProxyRequest](t, "proxy.json"))
	if problemOf(t, response); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("got status %d, want %d", response.StatusCode, http.StatusInternalServerError)
	}
	if text := log.String(); !strings.Contains(text, "panicked") {
		t.Errorf("log: got text %q, want it to contain %q", text, "panicked")
	} else if strings.Contains(text, "entry content") {
		t.Errorf("log: got text %q, want it without %q", text, "entry content")
	}
}

func TestHTTPBoundsTheAnswer(t *testing.T) {
	log := captureLog(t)
	for _, c := range []struct {
		name, unit string
		size       int
		status     int
	}{
		{"a page's most, of nothing but quotes", `"`, audit.MaxPageBytes, 200},
		{"plain text", "x", 6<<20 - 70<<10, 200},
		{"too much", "x", 6 << 20, 500},
		{"too much as base64", "\xff", 5 << 20, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := invoke(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, strings.Repeat(c.unit, c.size))
			}), load[events.APIGatewayProxyRequest](t, "proxy.json"))
			if response.StatusCode != c.status {
				t.Errorf("status %d, want %d", response.StatusCode, c.status)
			}
			text, err := json.Marshal(response)
			if err != nil {
				t.Fatal(err)
			}
			if most := 6 << 20; len(text) > most { // Lambda's limit
				t.Errorf("the answer's event has %d bytes, want at most %d", len(text), most)
			}
		})
	}
	if want := "too large for Lambda"; !strings.Contains(log.String(), want) {
		t.Errorf("got log %s, want it to contain %q", log, want)
	}
}

func TestHTTPLeavesTheHandlerTimeToAnswer(t *testing.T) {
	deadline := time.Now().Add(10 * time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	_, err := lambdaedge.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got, has := r.Context().Deadline(); !has {
			t.Error("the handler has no deadline, want one")
		} else if deadline.Sub(got) < 100*time.Millisecond {
			t.Errorf("the deadline is %v before the function's, want at least %v", deadline.Sub(got), 100*time.Millisecond)
		}
	}))(ctx, load[events.APIGatewayProxyRequest](t, "proxy.json"))
	if err != nil {
		t.Fatal(err)
	}
}

// A request that goes through the gateway's event arrives as it was sent.
// receivedRequest is what a handler must receive of a request as it was sent.
type receivedRequest struct {
	method, host, id, remoteAddr, path string
	contentLength                      int64
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 40, -1).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		query := url.Values(rapid.MapOf(rapid.String(), rapid.SliceOfN(rapid.String(), 1, 3)).Draw(t, "query"))
		values := rapid.SliceOfN(rapid.StringMatching(`[!-~]{1,20}`), 1, 3).Draw(t, "header values")
		sent := httptest.NewRequest(rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"}).Draw(t, "method"),
			"http://api.example.com/api/v1/tenants/"+url.PathEscape(id)+"?"+query.Encode(), bytes.NewReader(body))
		sent.Header["X-Odd"] = values
		sent.Header.Set("X-Request-Id", "r1")
		sent.RemoteAddr = "[2001:db8::1]:4711"

		event, err := lambdaedge.EventFromRequest(sent, "/api/v1/tenants/{id}", map[string]string{"id": id})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var again events.APIGatewayProxyRequest
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		called := false
		response, err := lambdaedge.HTTP(http.HandlerFunc(func(w http.ResponseWriter, got *http.Request) {
			called = true
			gotBody, err := io.ReadAll(got.Body)
			if err != nil {
				t.Fatal(err)
			}
			want := receivedRequest{sent.Method, sent.Host, id, "[2001:db8::1]:0", "/api/v1/tenants/" + id, int64(len(body))}
			if got := (receivedRequest{got.Method, got.Host, got.PathValue("id"), got.RemoteAddr, got.URL.Path, got.ContentLength}); got != want {
				t.Fatalf("got request %+v, want %+v", got, want)
			}
			if !bytes.Equal(gotBody, body) {
				t.Fatalf("got body %q, want %q", gotBody, body)
			}
			if len(query) > 0 {
				if diff := cmp.Diff(sent.Header, got.Header); diff != "" {
					t.Fatalf("header (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(query, got.URL.Query()); diff != "" {
					t.Fatalf("query (-want +got):\n%s", diff)
				}
			}
			w.Header()["X-Odd"] = values
			w.Header().Set("Content-Type", "application/octet-stream")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(body)
		}))(context.Background(), again)
		if err != nil {
			t.Fatal(err)
		}
		if !called {
			t.Fatalf("got response %+v without a call of the handler, want one", response)
		}
		recorder := httptest.NewRecorder()
		if err := lambdaedge.WriteResponse(recorder, response); err != nil {
			t.Fatal(err)
		}
		want := body
		if sent.Method == http.MethodHead {
			want = nil
		}
		if recorder.Code != 201 {
			t.Fatalf("got code %d, want 201: %s", recorder.Code, recorder.Body)
		}
		if !bytes.Equal(recorder.Body.Bytes(), want) {
			t.Fatalf("got body %q, want %q", recorder.Body.Bytes(), want)
		}
		if !slices.Equal(recorder.Header()["X-Odd"], values) {
			t.Fatalf("got X-Odd %q, want %q", recorder.Header()["X-Odd"], values)
		}
	})
}

func TestEventFromRequestBoundsTheBody(t *testing.T) {
	for size, fits := range map[int]bool{lambdaedge.MaxEventBody: true, lambdaedge.MaxEventBody + 1: false} {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/logs/bulk", bytes.NewReader(make([]byte, size)))
		if _, err := lambdaedge.EventFromRequest(r, "/api/v1/logs/bulk", nil); (err == nil) != fits {
			t.Errorf("%d bytes: got error %v, want good %v", size, err, fits)
		}
	}
}

func TestWriteResponseRefusesMalformedAnswers(t *testing.T) {
	for _, response := range []events.APIGatewayProxyResponse{{}, {StatusCode: 99}, {StatusCode: 200, Body: "?", IsBase64Encoded: true}} {
		recorder := httptest.NewRecorder()
		if err := lambdaedge.WriteResponse(recorder, response); err == nil {
			t.Errorf("%+v: got no error, want one", response)
		} else if recorder.Body.Len() > 0 {
			t.Errorf("%+v: got length of body %d, want 0", response, recorder.Body.Len())
		}
	}
}
