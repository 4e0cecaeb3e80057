package localcloud_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// sendRaw sends bytes over a connection of its own and returns the answers.
func (s *service) sendRaw(text string) (answers []answer, closed bool) {
	s.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }() // the server may stop reading before its end
	reader := bufio.NewReader(conn)
	for {
		if _, err := reader.Peek(1); err != nil {
			return answers, true
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			s.t.Fatalf("read the answer %d: %v", len(answers), err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			s.t.Fatalf("read the body of the answer %d: %v", len(answers), err)
		}
		_ = response.Body.Close()
		answers = append(answers, answer{response.StatusCode, response.Header, body})
		if response.Close {
			_, err := reader.Peek(1)
			return answers, err == io.EOF
		}
	}
}

// What net/http refuses before a handler runs gets a problem document, as any other refusal.
func TestUnreadableRequestsGetProblems(t *testing.T) {
	s := start(t, t.TempDir())
	const good = "GET /api/v1/no-such-path HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, test := range []struct {
		name, request string
		status        int
		code, detail  string
	}{
		{"a long query string", "GET /api/v1/logs?q=" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
			431, "headers_too_large", "The request's line and header fields are too large. Send long filters as the body of POST /api/v1/logs/search."},
		{"a long header field", "GET /api/v1/health HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
			431, "headers_too_large", "The request's line and header fields are too large. Send long filters as the body of POST /api/v1/logs/search."},
		{"many header fields", "GET /api/v1/health HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20_000) + "\r\n",
			431, "headers_too_large", "The request's line and header fields are too large. Send long filters as the body of POST /api/v1/logs/search."},
		{"no request", "no request\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1."},
		{"a path that is not encoded", "GET /api/v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1."},
		{"no Host", "GET /api/v1/health HTTP/1.1\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1: missing required Host header."},
		{"a header field with a space", "GET /api/v1/health HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1: invalid header name."},
		{"an unknown transfer coding", "POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1."},
		{"an unknown version", "GET /api/v1/health HTTP/3.7\r\nHost: x\r\n\r\n", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1: unsupported protocol version."},
		{"an unknown expectation", "POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nExpect: the best\r\nContent-Length: 2\r\n\r\n{}", 400, "malformed_request", "The server cannot read this as a request of HTTP/1.1."},
	} {
		t.Run(test.name, func(t *testing.T) {
			answers, closed := s.sendRaw(good + test.request)
			if !closed {
				t.Errorf("the connection is still open, want it closed")
			}
			if len(answers) != 2 {
				t.Fatalf("got %d answers, want 2: one for the request before", len(answers))
			}
			if got, want := answers[0].status, http.StatusNotFound; got != want {
				t.Errorf("the request before: got status %d, want %d", got, want)
			}
			checkProblem(t, answers[1], test.status, test.code, test.detail)
		})
	}
}

// checkProblem compares the answer with the problem document that it must be.
func checkProblem(t *testing.T, got answer, status int, code, detail string) {
	t.Helper()
	if got.status != status {
		t.Errorf("got status %d, want %d: %s", got.status, status, got.body)
	}
	if media := got.header.Get("Content-Type"); media != "application/problem+json" {
		t.Errorf("got content type %q, want application/problem+json", media)
	}
	var p struct {
		Type, Detail string
		Status       int
		RequestID    string `json:"request_id"`
	}
	if err := json.Unmarshal(got.body, &p); err != nil {
		t.Fatalf("read the problem %q: %v", got.body, err)
	}
	if want := "urn:ocelot:problem:" + code; p.Type != want {
		t.Errorf("got type %s, want %s", p.Type, want)
	}
	if p.Detail != detail {
		t.Errorf("got detail %q, want %q", p.Detail, detail)
	}
	if p.Status != status {
		t.Errorf("got status %d in the document, want %d", p.Status, status)
	}
	if id := got.header.Get("X-Request-Id"); id == "" || id != p.RequestID {
		t.Errorf("got request id %q, and %q in the document, want both equal and not empty", id, p.RequestID)
	}
}

// A handler's answer goes out as it is, though it looks like a refusal of net/http.
func TestAnswersOfHandlersStayAsTheyAre(t *testing.T) {
	s := start(t, t.TempDir())
	acme := s.tenantAdmin("acme")
	const text = "HTTP/1.1 400 Bad Request\r\n\r\n"
	entry := fmt.Sprintf(`{"user_id":"u","action":"VIEW","resource_type":"page","message":%q}`, strings.Repeat(text, 200))
	acme.bulk([]string{entry})
	acme.eventually(1)
	list := acme.list(nil)
	if len(list.Items) != 1 {
		t.Fatalf("got %d entries, want 1", len(list.Items))
	}
	var message string
	if err := json.Unmarshal(list.Items[0]["message"], &message); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(text, 200); message != want {
		t.Errorf("got a message of %d bytes that differs, want the %d bytes that were sent", len(message), len(want))
	}
	answers, _ := s.sendRaw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if len(answers) != 1 {
		t.Fatalf("OPTIONS *: got %d answers, want 1", len(answers))
	}
	if got, want := answers[0].status, http.StatusOK; got != want {
		t.Errorf("OPTIONS *: got status %d, want %d", got, want)
	}
}

// API Gateway knows no other spelling of a path. A redirect would hide such a fault until then.
func TestPathsHaveOneSpelling(t *testing.T) {
	s := start(t, t.TempDir())
	for _, path := range []string{"//api/v1/logs", "/api/v1/logs/../tenants", "/api/v1//logs", "/api/v1/logs/", "/api/./v1/logs", "//docs", "/docs/", "/api/v1/health/..", "//"} {
		t.Run(path, func(t *testing.T) {
			answers, _ := s.sendRaw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if len(answers) != 1 {
				t.Fatalf("got %d answers, want 1", len(answers))
			}
			checkProblem(t, answers[0], 404, "not_found", "There is no endpoint with this path. /api/v1/docs lists the endpoints.")
		})
	}
}
