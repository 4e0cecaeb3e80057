package httpapi

import (
	"bytes"
	"io"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Refuse answers a request to the route with the problem document of err. Callers
// that refuse requests before the function use it.
func Refuse(gate *Gate, route manifest.Route, err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gate.serve(w, r, route, func(*request) (*response, error) { return nil, err })
	})
}

// Malformed returns the error of a malformed request: a 400 with this detail, a sentence.
func Malformed(detail string) error { return ProblemMalformed.problem(detail) }

// RefuseUnread returns the whole HTTP/1.1 response to what a server could not read as a request,
// and logs it. status is what the server would answer, and reason its words for the fault, "" if
// it has none. The connection ends with the response.
func RefuseUnread(gate *Gate, status int, reason string) []byte {
	err := ProblemMalformed.problem("The server cannot read this as a request of HTTP/1.1" + optional(": ", reason) + ".")
	if status == http.StatusRequestHeaderFieldsTooLarge {
		err = ProblemHeaders.problem("The request's line and header fields are too large. Send long filters as the body of POST " + manifest.BasePath + "/logs/search.")
	}
	w := &unreadResponse{header: http.Header{}}
	Refuse(gate, manifest.Route{}, err).ServeHTTP(w, &http.Request{})
	return w.bytes()
}

func optional(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// unreadResponse collects a response that no server sends.
type unreadResponse struct {
	header http.Header
	status int
	body   []byte
}

func (w *unreadResponse) Header() http.Header { return w.header }

func (w *unreadResponse) WriteHeader(status int) { w.status = status }

func (w *unreadResponse) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return len(p), nil
}

// bytes returns the response as it stands on the wire.
func (w *unreadResponse) bytes() []byte {
	response := http.Response{
		ProtoMajor: 1, ProtoMinor: 1, StatusCode: w.status, Header: w.header, Close: true,
		ContentLength: int64(len(w.body)), Body: io.NopCloser(bytes.NewReader(w.body)),
	}
	var out bytes.Buffer
	_ = response.Write(&out) // a buffer never fails
	return out.Bytes()
}
