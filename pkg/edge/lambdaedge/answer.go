package lambdaedge

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	sent   http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: make(http.Header)} }

func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the first final status; informational ones cannot be passed on.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	a.sent = a.header.Clone()
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return a.body.Write(b)
}

// response is what was written, as the gateway takes it. A body is sent as
// base64 where it is no text (gzip) or where that is the shorter way through
// JSON, so that a page of 4 MiB always fits into the 6 MB of a Lambda's answer.
func (a *answer) response(method string) events.APIGatewayProxyResponse {
	a.WriteHeader(http.StatusOK)
	body := a.body.Bytes()
	if a.sent.Get("Content-Type") == "" && a.sent.Get("Content-Encoding") == "" && len(body) > 0 {
		a.sent.Set("Content-Type", http.DetectContentType(body))
	}
	response := events.APIGatewayProxyResponse{StatusCode: a.status, MultiValueHeaders: a.sent}
	switch {
	case method == http.MethodHead:
		// The headers of a GET without its body (RFC 9110, section 9.3.2).
	case a.sent.Get("Content-Encoding") != "" || !utf8.Valid(body) || escapedLen(body) > base64.StdEncoding.EncodedLen(len(body)):
		response.Body = base64.StdEncoding.EncodeToString(body)
		response.IsBase64Encoded = true
	default:
		response.Body = string(body)
	}
	return response
}

// responseSize is the length of the response's JSON, to within the spelling of the fields' names.
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

// escapedLen is the length of text as a JSON string's content, as encoding/json
// writes it without HTML escapes.
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
