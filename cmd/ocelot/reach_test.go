package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A host that does not exist, or is no trusted HTTPS server, is reported before any attempt.
func TestUnreachable(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, tt := range []struct{ url, want string }{
		{untrusted.URL, "is not trusted (x509: certificate signed by unknown authority)"},
		{strings.Replace(plain.URL, "http:", "https:", 1), "does not speak HTTPS, perhaps HTTP"},
		{"http://127.0.0.1:1", "no service listens at http://127.0.0.1:1. Start one with ocelot dev"},
	} {
		got := command(t.Context(), strings.NewReader(""), 0, "certificate", "keys", "--url", tt.url)
		if got.code != exitFailure {
			t.Errorf("%s: got exit code %d, want %d", tt.url, got.code, exitFailure)
		}
		if !strings.Contains(got.err, tt.want) {
			t.Errorf("%s: got %q, want %q in it", tt.url, got.err, tt.want)
		}
	}
}
