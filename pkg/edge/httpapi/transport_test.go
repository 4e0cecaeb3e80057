package httpapi_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// Over HTTPS every answer has Strict-Transport-Security, and over plain HTTP none has it.
func TestAnswersOverHTTPSForbidPlainHTTP(t *testing.T) {
	w := newWorld(t)
	for _, target := range []string{"/health", "/no-such-path", "/logs"} { // 200, 404, 401
		for proto, want := range map[string]string{"https": httpapi.HTTPSOnly, "http": "", "": ""} {
			header := map[string]string{}
			if proto != "" {
				header["X-Forwarded-Proto"] = proto
			}
			got := w.call("", "GET", target, "", header).header.Get("Strict-Transport-Security")
			if got != want {
				t.Errorf("%s over %q: got Strict-Transport-Security %q, want %q", target, proto, got, want)
			}
		}
	}
}

func TestAnswersOfTheGatewayForbidPlainHTTP(t *testing.T) {
	for _, answer := range httpapi.GatewayAnswers("id") {
		if got := answer.Header.Get("Strict-Transport-Security"); got != httpapi.HTTPSOnly {
			t.Errorf("%s: got Strict-Transport-Security %q, want %q", answer.Type, got, httpapi.HTTPSOnly)
		}
	}
}
