package lambdaedge_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

const sampleConnection = "JaWwEeHxIAMCFZA="

func connectBy(t *testing.T, h http.HandlerFunc, alter func(*events.APIGatewayWebsocketProxyRequest)) events.APIGatewayProxyResponse {
	t.Helper()
	event := load[events.APIGatewayWebsocketProxyRequest](t, "connect.json")
	if alter != nil {
		alter(&event)
	}
	response, err := lambdaedge.Connect(h)(t.Context(), event)
	if err != nil {
		t.Fatalf("the function failed: %v", err)
	}
	return response
}

func TestConnectHandsOnTheHandshake(t *testing.T) {
	var got *http.Request
	response := connectBy(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"status":403}`)
	}, nil)
	for what, pair := range map[string][2]string{
		"method":        {got.Method, "GET"},
		"path":          {got.URL.Path, "/api/v1/logs/stream"},
		"query":         {strings.Join(got.URL.Query()["ticket"], ","), "first,a b&c=ü"},
		"host":          {got.Host, "stream.example.com"},
		"address":       {got.RemoteAddr, "203.0.113.7:0"},
		"request id":    {got.Header.Get("X-Request-Id"), "JaWwFHgGoAMFhzg="},
		"authorization": {got.Header.Get("Authorization"), "Bearer e30"},
		"tenant":        {got.Header.Get("X-Tenant-ID"), "acme"},
		"encoding":      {got.Header.Get("Accept-Encoding"), ""},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if id, known := stream.ConnectionFrom(got.Context()); !known {
		t.Error("the connection: known is false, want true")
	} else if id != sampleConnection {
		t.Errorf("the connection: got id %q, want %q", id, sampleConnection)
	}
	if p, known := access.PrincipalFrom(got.Context()); known {
		t.Errorf("got principal %+v, want none", p)
	}
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("got status code %d, want %d: %s", response.StatusCode, http.StatusForbidden, response.Body)
	}
	if response.Body != `{"status":403}` {
		t.Errorf("got body %q, want %q", response.Body, `{"status":403}`)
	}
	if response.IsBase64Encoded {
		t.Error("base64 encoded is true, want false")
	}
	if response.Headers["Content-Type"] != "application/problem+json" {
		t.Errorf("got Content-Type %q, want %q", response.Headers["Content-Type"], "application/problem+json")
	}
	if response.MultiValueHeaders != nil {
		t.Errorf("got multi value headers %v, want none", response.MultiValueHeaders)
	}
}

func TestConnectTakesNoPrincipalFromTheEvent(t *testing.T) {
	connectBy(t, func(_ http.ResponseWriter, r *http.Request) {
		if p, known := access.PrincipalFrom(r.Context()); known {
			t.Errorf("got principal %+v, want none", p)
		}
	}, func(e *events.APIGatewayWebsocketProxyRequest) {
		e.RequestContext.Authorizer = map[string]any{"principal": `{"sub":"root","grants":{"*":["logs:stream"]}}`}
	})
}

func TestConnectRefusesAlienEvents(t *testing.T) {
	captureLog(t)
	for name, alter := range map[string]func(*events.APIGatewayWebsocketProxyRequest){
		"no connection": func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.ConnectionID = "" },
		"a message":     func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.EventType = "MESSAGE" },
		"no type":       func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.EventType = "" },
		"empty":         func(e *events.APIGatewayWebsocketProxyRequest) { *e = events.APIGatewayWebsocketProxyRequest{} },
	} {
		response := connectBy(t, func(http.ResponseWriter, *http.Request) { t.Errorf("%s: the handler was called, want no call", name) }, alter)
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got status code %d, want %d: %s", name, response.StatusCode, http.StatusBadRequest, response.Body)
		}
		if !strings.Contains(response.Body, "urn:ocelot:problem:invalid_event") {
			t.Errorf("%s: got body %q, want it to contain %q", name, response.Body, "urn:ocelot:problem:invalid_event")
		}
	}
}

func TestConnectSurvivesAPanic(t *testing.T) {
	log := captureLog(t)
	response := connectBy(t, func(http.ResponseWriter, *http.Request) { panic("a credential") }, nil)
	if response.StatusCode != http.StatusInternalServerError {
		t.Errorf("got status code %d, want %d: %s", response.StatusCode, http.StatusInternalServerError, response.Body)
	}
	if response.Headers["Content-Type"] != "application/problem+json" {
		t.Errorf("got Content-Type %q, want %q", response.Headers["Content-Type"], "application/problem+json")
	}
	if !strings.Contains(response.Body, `"request_id":"JaWwFHgGoAMFhzg="`) {
		t.Errorf("got body %q, want it to contain %q", response.Body, `"request_id":"JaWwFHgGoAMFhzg="`)
	}
	if text := log.String(); !strings.Contains(text, "panicked") {
		t.Errorf("log: got text %q, want it to contain %q", text, "panicked")
	} else if strings.Contains(text, "a credential") {
		t.Errorf("log: got text %q, want it without %q", text, "a credential")
	}
}

func TestMessageHandsOnMessagesAndEnds(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"message.json", `{"action":"subscribe","filter":{"q":"größe"}}`}, {"disconnect.json", ""},
	} {
		for _, encoded := range []bool{false, true} {
			event := load[events.APIGatewayWebsocketProxyRequest](t, c.file)
			if event.IsBase64Encoded = encoded; encoded {
				event.Body = base64.StdEncoding.EncodeToString([]byte(event.Body))
			}
			calls := 0
			response, err := lambdaedge.Message(func(_ context.Context, connection string, body []byte) error {
				calls++
				if connection != sampleConnection {
					t.Errorf("%s: got connection %q, want %q", c.file, connection, sampleConnection)
				}
				if string(body) != c.want {
					t.Errorf("%s: got body %q, want %q", c.file, string(body), c.want)
				}
				return nil
			})(t.Context(), event)
			if err != nil {
				t.Fatal(err)
			}
			if calls != 1 {
				t.Errorf("%s: got %d calls, want 1", c.file, calls)
			}
			if response.StatusCode != http.StatusOK {
				t.Errorf("%s: got status code %d, want %d: %s", c.file, response.StatusCode, http.StatusOK, response.Body)
			}
			if response.Body != "" {
				t.Errorf("%s: got body %q, want none", c.file, response.Body)
			}
			text, err := json.Marshal(response)
			if err != nil {
				t.Fatal(err)
			}
			if want := `"statusCode":200`; !strings.Contains(string(text), want) {
				t.Errorf("got response %s, want it to contain %s", text, want)
			}
		}
	}
}

func TestMessageTellsFailures(t *testing.T) {
	for name, handle := range map[string]func(context.Context, string, []byte) error{
		"error": func(context.Context, string, []byte) error { return errors.New("store is down") },
		"panic": func(context.Context, string, []byte) error { panic("größe") },
	} {
		t.Run(name, func(t *testing.T) {
			log := captureLog(t)
			response, err := lambdaedge.Message(handle)(t.Context(), load[events.APIGatewayWebsocketProxyRequest](t, "message.json"))
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusInternalServerError {
				t.Errorf("got status code %d, want %d: %s", response.StatusCode, http.StatusInternalServerError, response.Body)
			}
			if response.Body != "" {
				t.Errorf("got body %q, want none", response.Body)
			}
			for _, want := range []string{`"connection":"JaWwEeHxIAMCFZA="`, `"route":"subscribe"`, `"request_id":"JaWxRHeAIAMF5Qw="`} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("got log %s, want it to contain %s", log, want)
				}
			}
			if strings.Contains(log.String(), "größe") {
				t.Errorf("got log %s, want it without the message", log)
			}
		})
	}
}

func TestMessageRefusesAlienEvents(t *testing.T) {
	captureLog(t)
	for name, alter := range map[string]func(*events.APIGatewayWebsocketProxyRequest){
		"no connection": func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.ConnectionID = "" },
		"a handshake":   func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.EventType = "CONNECT" },
		"no type":       func(e *events.APIGatewayWebsocketProxyRequest) { e.RequestContext.EventType = "" },
		"no base64":     func(e *events.APIGatewayWebsocketProxyRequest) { e.Body, e.IsBase64Encoded = "???", true },
	} {
		event := load[events.APIGatewayWebsocketProxyRequest](t, "message.json")
		alter(&event)
		response, err := lambdaedge.Message(func(context.Context, string, []byte) error { t.Errorf("%s: handled, want no call", name); return nil })(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got status %d, want %d", name, response.StatusCode, http.StatusBadRequest)
		}
	}
}

func TestSocketFunctionsEndBeforeTheirDeadline(t *testing.T) {
	deadline := time.Now().Add(10 * time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	var reserves []time.Duration
	note := func(ctx context.Context) {
		got, _ := ctx.Deadline()
		reserves = append(reserves, deadline.Sub(got))
	}
	_, err := lambdaedge.Connect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { note(r.Context()) }))(
		ctx, load[events.APIGatewayWebsocketProxyRequest](t, "connect.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = lambdaedge.Message(func(ctx context.Context, _ string, _ []byte) error { note(ctx); return nil })(
		ctx, load[events.APIGatewayWebsocketProxyRequest](t, "message.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(reserves) != 2 {
		t.Errorf("got %d reserves, want 2", len(reserves))
	}
	if slices.Min(reserves) < 100*time.Millisecond {
		t.Errorf("got smallest of reserves %v, want at least %v", slices.Min(reserves), 100*time.Millisecond)
	}
	if slices.Max(reserves) > time.Second {
		t.Errorf("got largest of reserves %v, want at most %v", slices.Max(reserves), time.Second)
	}
}
