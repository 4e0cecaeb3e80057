package localcloud

import (
	"crypto/rand"
	"net/http"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// traced gives each request a trace, as API Gateway does: that which the client names by
// X-Amzn-Trace-Id or traceparent, or a new one. The answer names it.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, named := trace.ParseHeader(r.Header.Get(trace.Header))
		if !named {
			t, named = trace.Parse(r.Header.Get(trace.W3CHeader))
		}
		if !named {
			t = trace.New(time.Now(), func(b []byte) { _, _ = rand.Read(b) }) // never fails, see crypto/rand
		}
		w.Header().Set(trace.Header, "Root="+t.ID.String())
		next.ServeHTTP(w, r.WithContext(trace.With(r.Context(), t)))
	})
}
