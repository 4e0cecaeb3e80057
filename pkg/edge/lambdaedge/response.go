package lambdaedge

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// responseRecorder is an http.ResponseWriter that records the response.
type responseRecorder struct {
	header http.Header
	sent   http.Header // the header when the status was written
	status int
	body   bytes.Buffer
}

func newRecorder() *responseRecorder { return &responseRecorder{header: make(http.Header)} }

func (r *responseRecorder) Header() http.Header { return r.header }

// WriteHeader records the first final status. Informational statuses are dropped: a
// Lambda cannot send them.
func (r *responseRecorder) WriteHeader(status int) {
	if r.status != 0 || status < 200 {
		return
	}
	r.status = status
	r.sent = r.header.Clone()
}

func (r *responseRecorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return r.body.Write(b)
}

// response returns the recorded response in the gateway's form. The body becomes
// base64 if it is not text (gzip) or if base64 is shorter than the escaped text. A page
// of 4 MiB therefore always fits into the 6 MB of a Lambda's response.
func (r *responseRecorder) response(method string) events.APIGatewayProxyResponse {
	r.WriteHeader(http.StatusOK)
	body := r.body.Bytes()
	if r.sent.Get("Content-Type") == "" && r.sent.Get("Content-Encoding") == "" && len(body) > 0 {
		r.sent.Set("Content-Type", http.DetectContentType(body))
	}
	response := events.APIGatewayProxyResponse{StatusCode: r.status, MultiValueHeaders: r.sent}
	switch {
	case method == http.MethodHead:
		// The headers of a GET without its body (RFC 9110, section 9.3.2).
	case r.sent.Get("Content-Encoding") != "" || !utf8.Valid(body) || escapedLen(body) > base64.StdEncoding.EncodedLen(len(body)):
		response.Body = base64.StdEncoding.EncodeToString(body)
		response.IsBase64Encoded = true
	default:
		response.Body = string(body)
	}
	return response
}

// responseSize returns the length of the response's JSON, without the names of its fields.
func responseSize(r events.APIGatewayProxyResponse) int {
	size := escapedLen([]byte(r.Body))
	for name, values := range r.MultiValueHeaders {
		size += len(name) + len(`"":[],`)
		for _, value := range values {
			size += escapedLen([]byte(value)) + len(`"",`)
		}
	}
	return size
}

// escapedLen returns the length of text inside a JSON string, as encoding/json writes
// it without HTML escapes.
func escapedLen(text []byte) int {
	n := len(text)
	for i, c := range text {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		case c == 0xe2 && i+2 < len(text) && text[i+1] == 0x80 && text[i+2]&^1 == 0xa8: // U+2028, U+2029
			n += len(`\u2028`) - 3
		}
	}
	return n
}
