package httpapi_test

import "testing"

// A browser shows a page's script an answer only if the answer names the page's origin.
func TestAnswersNameTheOriginOfKnownPagesOnly(t *testing.T) {
	const known = "https://console.example.com"
	w := newWorld(t)
	for _, test := range []struct {
		origins []string // that the gate knows
		origin  string   // of the request
		target  string
		want    string
	}{
		{[]string{"https://other.example.com", known}, known, "/health", known},
		{[]string{known}, known, "/no-such-path", known},
		{[]string{known}, known, "/logs", known}, // no credential: 401
		{[]string{known}, "https://console.example.com.evil.test", "/health", ""},
		{[]string{known}, "null", "/health", ""},
		{nil, known, "/health", ""},
	} {
		w.gate.Origins = test.origins
		got := w.call("", "GET", test.target, "", map[string]string{"Origin": test.origin})
		if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != test.want {
			t.Errorf("%s for %s with %v: got the allowed origin %q, want %q", test.target, test.origin, test.origins, allowed, test.want)
		}
		if vary, want := got.header.Get("Vary") == "Origin", len(test.origins) > 0; vary != want {
			t.Errorf("%s with %v: the answer varies by origin: got %t, want %t", test.target, test.origins, vary, want)
		}
		if got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: got an answer that allows cookies, want none", test.target)
		}
	}
}
