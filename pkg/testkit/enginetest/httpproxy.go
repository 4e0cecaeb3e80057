package enginetest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// HTTPProxy is a proxy in front of an engine with an HTTP API that injects faults. It is safe
// for concurrent use.
type HTTPProxy struct {
	server *httptest.Server
	choose atomic.Pointer[func(*http.Request) HTTPFault]
}

// HTTPFault handles a request in the place of the engine. It can forward the request to
// engine.
type HTTPFault func(w http.ResponseWriter, r *http.Request, engine http.Handler)

// NewHTTPProxy returns a proxy in front of the engine at target, a URL. It ends with the test.
func NewHTTPProxy(t testing.TB, target string) *HTTPProxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	engine := &httputil.ReverseProxy{
		// Keep the client's Host header: signatures cover it.
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		// A stopped engine must look like a lost connection, and not like an answer of the
		// proxy.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	p := &HTTPProxy{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if choose := p.choose.Load(); choose != nil {
			if fault := (*choose)(r); fault != nil {
				fault(w, r, engine)
				return
			}
		}
		engine.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// URL returns the URL of the proxy.
func (p *HTTPProxy) URL() string { return p.server.URL }

// Inject calls choose for every further request. If choose is nil or returns nil, the request
// goes to the engine. choose may be called concurrently.
func (p *HTTPProxy) Inject(choose func(*http.Request) HTTPFault) {
	if choose == nil {
		p.choose.Store(nil)
		return
	}
	p.choose.Store(&choose)
}

// Answer returns a fault that answers with the status and body without the engine.
func Answer(status int, body string) HTTPFault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // a client that is gone does not matter
	}
}

// Cut is the fault that cuts the connection before the engine sees the request.
func Cut() HTTPFault {
	return func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
}

// LoseAnswer is the fault that cuts the connection after the engine has handled the request.
func LoseAnswer() HTTPFault {
	return func(_ http.ResponseWriter, r *http.Request, engine http.Handler) {
		engine.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

// Delay returns a fault that forwards the request after a delay.
func Delay(d time.Duration) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		select {
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-time.After(d):
			engine.ServeHTTP(w, r)
		}
	}
}
