package localcloud

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// The authorizer function of a whole service cannot be made to fail from outside.

func TestGatewayAnswersWhatTheAuthorizerSays(t *testing.T) {
	type answer = events.APIGatewayCustomAuthorizerResponse
	denied := answer{PrincipalID: "u1", PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17", Statement: []events.IAMPolicyStatement{
		{Action: []string{"execute-api:Invoke"}, Effect: "Deny", Resource: []string{"*"}},
	}}}
	for _, test := range []struct {
		name   string
		answer answer
		err    error
		status int
		retry  string
	}{
		{"it cannot be found out", answer{}, &runtimehost.FunctionError{Type: "wrapError", Message: "authenticate request r: the store is down"}, 503, "1"},
		{"it was cut off", answer{}, &runtimehost.FunctionError{Type: runtimehost.TypeTimeout, Message: "after 5 s"}, 503, "1"},
		{"it has ended", answer{}, runtimehost.ErrClosed, 503, "1"},
		{"its answer has not the form", answer{}, errors.New("the function's answer has not the form of its trigger"), 503, "1"},
		{"its answer is no policy", answer{PrincipalID: "u1"}, nil, 503, "1"},
		{"unknown credential", answer{}, &runtimehost.FunctionError{Type: "errorString", Message: "Unauthorized"}, 401, ""},
		{"denied", denied, nil, 403, ""},
	} {
		ask := func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (answer, error) {
			return test.answer, test.err
		}
		gate := &httpapi.Gate{Log: slog.New(slog.DiscardHandler), Now: time.Now, NewRequestID: func() string { return "r" }}
		i := &integration{
			gateway: &gateway{gate: gate, authorizer: newAuthorizer(ask, time.Now)},
			route:   manifest.Route{Method: http.MethodGet, Path: "/logs", Permission: access.LogsSearch},
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://ocelot"+manifest.BasePath+"/logs", nil)
		r.Header.Set("Authorization", "Bearer e30")
		r.Header.Set("X-Tenant-ID", "acme")
		w := httptest.NewRecorder()
		i.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: got code %d, want %d: %s", test.name, w.Code, test.status, w.Body)
		}
		if w.Header().Get("Retry-After") != test.retry {
			t.Errorf("%s: got Retry-After %q, want %q", test.name, w.Header().Get("Retry-After"), test.retry)
		}
		if w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got Content-Type %q, want %q", test.name, w.Header().Get("Content-Type"), "application/problem+json")
		}
		if strings.Contains(w.Body.String(), "store") {
			t.Errorf("%s: got body %s, want it without the cause", test.name, w.Body)
		}
	}
}
