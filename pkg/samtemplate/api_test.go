package samtemplate_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/samtemplate"
)

// TestMethodsAreThoseOfTheRoutes: SAM takes the name NONE of no authorizer only
// where the API has one by default, which ours has not.
func TestMethodsAreThoseOfTheRoutes(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	type event struct {
		Type       string
		Properties struct {
			Method, Path string
			Auth         *struct{ Authorizer string }
		}
	}
	var template struct {
		Resources map[string]struct {
			Properties struct{ Events map[string]event }
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for _, f := range manifest.Functions() {
		r := f.Trigger.Route
		if r == nil {
			continue
		}
		methods := map[string]string{"Http": r.Method}
		if r.Method == http.MethodGet {
			methods["Head"] = http.MethodHead
		}
		events := template.Resources[manifest.CamelCase(f.Name)+"Function"].Properties.Events
		if len(events) != len(methods) {
			t.Errorf("%s has %d events, want %d", f.Name, len(events), len(methods))
		}
		for name, method := range methods {
			got := events[name]
			if got.Type != "Api" {
				t.Errorf("%s: %s: got type %q, want %q", f.Name, name, got.Type, "Api")
			}
			if got.Properties.Method != strings.ToLower(method) {
				t.Errorf("%s: %s: got method %q, want %q", f.Name, name, got.Properties.Method, strings.ToLower(method))
			}
			if got.Properties.Path != manifest.BasePath+r.Path {
				t.Errorf("%s: %s: got path %q, want %q", f.Name, name, got.Properties.Path, manifest.BasePath+r.Path)
			}
			switch auth := got.Properties.Auth; {
			case r.Permission == "" && auth != nil:
				t.Errorf("%s is public and has the authorizer %q", f.Name, auth.Authorizer)
			case r.Permission != "" && (auth == nil || auth.Authorizer != map[bool]string{true: "CallerInTenant", false: "Caller"}[r.TenantFrom == manifest.TenantFromHeader]):
				t.Errorf("%s has the authorizer %+v", f.Name, auth)
			}
		}
	}
}

// TestTheAPIAnswersByItselfWithProblemDocuments as the functions do.
func TestTheAPIAnswersByItselfWithProblemDocuments(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources struct {
			API struct {
				Properties struct {
					GatewayResponses map[string]struct {
						StatusCode         int
						ResponseParameters struct{ Headers map[string]string }
						ResponseTemplates  map[string]string
					}
				}
			} `json:"Api"`
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	responses := template.Resources.API.Properties.GatewayResponses
	for of, want := range map[string]struct {
		status            int
		code, retry, says string
	}{
		"ACCESS_DENIED":                  {403, "forbidden", "", ""},
		"API_CONFIGURATION_ERROR":        {500, "internal", "", ""},
		"AUTHORIZER_CONFIGURATION_ERROR": {503, "unavailable", "'1'", ""},
		"AUTHORIZER_FAILURE":             {503, "unavailable", "'1'", ""},
		"BAD_REQUEST_BODY":               {400, "malformed_request", "", ""},
		"BAD_REQUEST_PARAMETERS":         {400, "malformed_request", "", ""},
		"DEFAULT_4XX":                    {404, "not_found", "", "/api/v1/docs"},
		"DEFAULT_5XX":                    {503, "unavailable", "'1'", ""},
		"EXPIRED_TOKEN":                  {404, "not_found", "", ""},
		"INTEGRATION_FAILURE":            {503, "unavailable", "'1'", ""},
		"INTEGRATION_TIMEOUT":            {504, "timeout", "", ""},
		"INVALID_API_KEY":                {403, "forbidden", "", ""},
		"INVALID_SIGNATURE":              {404, "not_found", "", ""},
		"MISSING_AUTHENTICATION_TOKEN":   {404, "not_found", "", "/api/v1/docs"},
		"QUOTA_EXCEEDED":                 {429, "too_many_requests", "'3600'", ""},
		"REQUEST_TOO_LARGE":              {413, "too_large", "", ""},
		"RESOURCE_NOT_FOUND":             {404, "not_found", "", ""},
		"THROTTLED":                      {429, "too_many_requests", "'1'", ""},
		"UNAUTHORIZED":                   {401, "unauthenticated", "", "X-Tenant-ID"},
		"UNSUPPORTED_MEDIA_TYPE":         {415, "unsupported_media_type", "", ""},
		"WAF_FILTERED":                   {403, "forbidden", "", ""},
	} {
		got, has := responses[of]
		if !has {
			t.Errorf("no response for %s", of)
			continue
		}
		delete(responses, of)
		var problem struct {
			Type, Title, Detail string
			Status              int
			RequestID           string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(got.ResponseTemplates["application/json"]), &problem); err != nil {
			t.Errorf("%s: %v", of, err)
		}
		if got.StatusCode != want.status {
			t.Errorf("%s: got status code %d, want %d", of, got.StatusCode, want.status)
		}
		if problem.Status != want.status {
			t.Errorf("%s: got status %d, want %d", of, problem.Status, want.status)
		}
		if problem.Type != "urn:ocelot:problem:"+want.code {
			t.Errorf("%s: got type %q, want %q", of, problem.Type, "urn:ocelot:problem:"+want.code)
		}
		if problem.Title == "" {
			t.Errorf("%s: got an empty title, want a value", of)
		}
		if problem.Detail == "" {
			t.Errorf("%s: got an empty detail, want a value", of)
		}
		if !strings.Contains(problem.Detail, want.says) {
			t.Errorf("%s: got detail %q, want it to contain %q", of, problem.Detail, want.says)
		}
		if problem.RequestID != "$context.requestId" {
			t.Errorf("%s: got request ID %q, want %q", of, problem.RequestID, "$context.requestId")
		}
		headers := got.ResponseParameters.Headers
		if headers["Content-Type"] != "'application/problem+json'" {
			t.Errorf("%s: got Content-Type %q, want %q", of, headers["Content-Type"], "'application/problem+json'")
		}
		if headers["X-Request-Id"] != "context.requestId" {
			t.Errorf("%s: got X-Request-Id %q, want %q", of, headers["X-Request-Id"], "context.requestId")
		}
		if headers["Retry-After"] != want.retry {
			t.Errorf("%s: got Retry-After %q, want %q", of, headers["Retry-After"], want.retry)
		}
		for name, value := range headers {
			if quoted := strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'"); strings.Contains(quoted, "'") {
				t.Errorf("%s: %s has the value %s, which ends early", of, name, value)
			}
		}
	}
	for of := range responses {
		t.Errorf("%s is not known to this test", of)
	}
}
