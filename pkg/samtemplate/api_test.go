package samtemplate_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// TestMethodsAreThoseOfTheRoutes: SAM takes the name NONE of no authorizer only
// where the API has one by default, which ours has not.
func TestMethodsAreThoseOfTheRoutes(t *testing.T) {
	type event struct {
		Type       string
		Properties struct {
			Method, Path string
			Auth         *struct {
				Authorizer     string
				APIKeyRequired bool `json:"ApiKeyRequired"`
			}
		}
	}
	var template struct {
		Resources map[string]struct {
			Properties struct{ Events map[string]event }
		}
	}
	parse(t, &template)
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
		if _, answers := events["Options"]; answers {
			methods["Options"] = http.MethodOptions
		}
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
			case method == http.MethodOptions && auth != nil:
				t.Errorf("%s: a preflight request, which has no credential: got authorizer %q, want none", f.Name, auth.Authorizer)
			case method == http.MethodOptions:
			case r.Permission == "" && auth != nil:
				t.Errorf("%s is public: got authorizer %q, want none", f.Name, auth.Authorizer)
			case r.Permission == "":
			case auth == nil:
				t.Errorf("%s: got no authorizer, want %q", f.Name, "Caller")
			case auth.Authorizer != "Caller":
				t.Errorf("%s: got authorizer %q, want %q", f.Name, auth.Authorizer, "Caller")
			case !auth.APIKeyRequired:
				t.Errorf("%s: %s is not counted by a usage plan, want it counted", f.Name, name)
			}
		}
	}
}

// TestBrowsersMayCallFromTheOrigins: each path answers preflight requests by one function, every
// function of a route reads the origins, and API Gateway's own answers name the first.
func TestBrowsersMayCallFromTheOrigins(t *testing.T) {
	var template struct {
		Resources map[string]struct {
			Properties struct {
				Environment struct{ Variables map[string]any }
				Events      map[string]struct {
					Properties struct{ Method, Path string }
				}
				GatewayResponses map[string]struct {
					ResponseParameters struct{ Headers map[string]any }
				}
			}
		}
	}
	parse(t, &template)
	preflights, paths := map[string]int{}, map[string]bool{}
	for _, f := range manifest.Functions() {
		if f.Trigger.Route == nil {
			continue
		}
		paths[manifest.BasePath+f.Trigger.Route.Path] = true
		of := template.Resources[manifest.CamelCase(f.Name)+"Function"].Properties
		if got, want := of.Environment.Variables["OCELOT_ORIGINS"], (map[string]any{"Ref": "Origins"}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got the origins %v, want %v", f.Name, got, want)
		}
		if event, is := of.Events["Options"]; is && event.Properties.Method == "options" {
			preflights[event.Properties.Path]++
		}
	}
	for path := range paths {
		if preflights[path] != 1 {
			t.Errorf("%s: %d functions answer preflight requests, want 1", path, preflights[path])
		}
	}
	got := template.Resources["Api"].Properties.GatewayResponses["UNAUTHORIZED"].ResponseParameters.Headers["Access-Control-Allow-Origin"]
	if choice, is := got.(map[string]any); !is || choice["Fn::If"] == nil {
		t.Errorf("a refusal allows the origin %v, want the first one if there is one", got)
	}
}

// TestTiersHaveUsagePlans: each tier has a plan with one key, which the authorizer returns. API
// Gateway takes it from no client.
func TestTiersHaveUsagePlans(t *testing.T) {
	type reference struct{ Ref string }
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				APIKeySourceType string `json:"ApiKeySourceType"`
				Value            any
				KeyID            reference `json:"KeyId"`
				UsagePlanID      reference `json:"UsagePlanId"`
				APIStages        []any     `json:"ApiStages"`
				Throttle         struct{ RateLimit, BurstLimit reference }
				Environment      struct{ Variables map[string]any }
			}
		}
	}
	parse(t, &template)
	if got := template.Resources["Api"].Properties.APIKeySourceType; got != "AUTHORIZER" {
		t.Errorf("got the source of keys %q, want AUTHORIZER", got)
	}
	for tier, variable := range map[string]string{"Standard": "OCELOT_USAGE_KEY_STANDARD", "Priority": "OCELOT_USAGE_KEY_PRIORITY"} {
		key, returned := template.Resources[tier+"Key"].Properties.Value, template.Resources["AuthorizeRequestFunction"].Properties.Environment.Variables[variable]
		if key == nil || !reflect.DeepEqual(key, returned) {
			t.Errorf("%s: the authorizer returns %v, want the key %v", tier, returned, key)
		}
		of := template.Resources[tier+"PlanKey"].Properties
		if of.KeyID.Ref != tier+"Key" {
			t.Errorf("%s: the plan has the key %q, want %q", tier, of.KeyID.Ref, tier+"Key")
		}
		if of.UsagePlanID.Ref != tier+"Plan" {
			t.Errorf("%s: the key has the plan %q, want %q", tier, of.UsagePlanID.Ref, tier+"Plan")
		}
		plan := template.Resources[tier+"Plan"].Properties
		if got := plan.Throttle.RateLimit.Ref; got != "Requests"+tier {
			t.Errorf("%s: the plan's rate is %q, want %q", tier, got, "Requests"+tier)
		}
		if len(plan.APIStages) != 1 {
			t.Errorf("%s: the plan has %d stages, want 1", tier, len(plan.APIStages))
		}
	}
}

// gatewayResponse is an answer that API Gateway gives without a function.
type gatewayResponse struct {
	StatusCode         int
	ResponseParameters struct{ Headers map[string]any }
	ResponseTemplates  map[string]string
}

func gatewayResponses(t *testing.T) map[string]gatewayResponse {
	t.Helper()
	var template struct {
		Resources struct {
			API struct {
				Properties struct {
					GatewayResponses map[string]gatewayResponse
				}
			} `json:"Api"`
		}
	}
	parse(t, &template)
	return template.Resources.API.Properties.GatewayResponses
}

// wantGatewayResponse is what the caller must get. The detail must contain a text.
type wantGatewayResponse struct {
	status              int
	code, retry, detail string
}

// API Gateway's own answers must be problem documents like those of the functions.
func TestGatewayResponsesAreProblemDocuments(t *testing.T) {
	responses := gatewayResponses(t)
	for of, want := range map[string]wantGatewayResponse{
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
		"UNAUTHORIZED":                   {401, "unauthenticated", "", "ApiKey with an API key"},
		"UNSUPPORTED_MEDIA_TYPE":         {415, "unsupported_media_type", "", ""},
		"WAF_FILTERED":                   {403, "forbidden", "", ""},
	} {
		got, has := responses[of]
		if !has {
			t.Errorf("%s: got no response, want one", of)
			continue
		}
		delete(responses, of)
		want.checkProblem(t, of, got)
		want.checkHeaders(t, of, got.ResponseParameters.Headers)
	}
	for of := range responses {
		t.Errorf("got a response for %s, want it in this test's table", of)
	}
}

func (want wantGatewayResponse) checkProblem(t *testing.T, of string, response gatewayResponse) {
	t.Helper()
	var got struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(response.ResponseTemplates["application/json"]), &got); err != nil {
		t.Errorf("%s: %v", of, err)
	}
	if response.StatusCode != want.status {
		t.Errorf("%s: got status code %d, want %d", of, response.StatusCode, want.status)
	}
	if got.Status != want.status {
		t.Errorf("%s: got a problem with status %d, want %d", of, got.Status, want.status)
	}
	if got.Type != "urn:ocelot:problem:"+want.code {
		t.Errorf("%s: got type %q, want %q", of, got.Type, "urn:ocelot:problem:"+want.code)
	}
	if got.Title == "" {
		t.Errorf("%s: got no title, want one", of)
	}
	if got.Detail == "" {
		t.Errorf("%s: got no detail, want one", of)
	}
	if !strings.Contains(got.Detail, want.detail) {
		t.Errorf("%s: got detail %q, want it to contain %q", of, got.Detail, want.detail)
	}
	if got.RequestID != "$context.requestId" {
		t.Errorf("%s: got request ID %q, want %q", of, got.RequestID, "$context.requestId")
	}
}

func (want wantGatewayResponse) checkHeaders(t *testing.T, of string, headers map[string]any) {
	t.Helper()
	for name, value := range map[string]string{
		"Content-Type": "'application/problem+json'", "X-Request-Id": "context.requestId", "Retry-After": want.retry,
	} {
		if got, _ := headers[name].(string); got != value {
			t.Errorf("%s: got %s %q, want %q", of, name, got, value)
		}
	}
	for name, expression := range headers {
		value, _ := expression.(string)
		if quoted := strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'"); strings.Contains(quoted, "'") {
			t.Errorf("%s: got %s with the value %s, want no quote inside", of, name, value)
		}
	}
}
