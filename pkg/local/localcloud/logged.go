package localcloud

import (
	"cmp"
	"net/http"
	"time"
)

// Request describes an answered request. It has no content, no query and no credential.
type Request struct {
	Method   string
	Path     string // as escaped in the request
	Status   int
	Bytes    int64 // of the answer's body
	Duration time.Duration
}

// logged calls report with each request once it is answered. A nil report gets none.
func logged(next http.Handler, report func(Request)) http.Handler {
	if report == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answer := &countingWriter{ResponseWriter: w}
		unwritten := http.StatusInternalServerError // of a handler that panics
		defer func() {
			report(Request{Method: r.Method, Path: r.URL.EscapedPath(), Status: cmp.Or(answer.status, unwritten), Bytes: answer.bytes, Duration: time.Since(began)})
		}()
		next.ServeHTTP(answer, r)
		unwritten = http.StatusOK
	})
}

// countingWriter knows what was answered.
type countingWriter struct {
	http.ResponseWriter
	status int // 0 until it is known
	bytes  int64
}

// Unwrap lets http.ResponseController take over the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter. A status of 1xx is not the answer, except 101.
func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *countingWriter) Write(b []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}
