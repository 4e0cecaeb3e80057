package httpapi

import (
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// response is a complete answer. Bodies are bounded (audit.MaxPageBytes), so
// that each is made before its first byte is sent and a failure is still a
// clean problem document.
type response struct {
	status      int
	contentType string
	body        []byte
	packed      bool        // the body is compressed, and stays so at the client
	header      http.Header // in addition to those of every response; may be nil
}

func jsonResponse(status int, w *writer) *response {
	return &response{status: status, contentType: MediaJSON, body: w.b}
}

// set sets a header field.
func (r *response) set(name, value string) *response {
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
	return r
}

// MinGzip is the size over which a body is compressed when the client accepts it, in bytes.
const MinGzip = 1 << 10

// send writes the response and returns how many bytes of body went out.
func (g *Gate) send(w http.ResponseWriter, req *request, res *response) (int, error) {
	h := w.Header()
	h[manifest.RequestIDHeader] = []string{req.id}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	if cameOverTLS(req.Request) {
		h[transportHeader] = []string{HTTPSOnly}
	}
	for name, values := range res.header {
		h[name] = values
	}
	g.allowOrigin(h, req)
	body := res.body
	if len(body) > MinGzip && !res.packed {
		h["Vary"] = append(h["Vary"], "Accept-Encoding")
	}
	if res.status == http.StatusNotModified { // the other fields are those of the 200
		w.WriteHeader(res.status)
		return 0, nil
	}
	if res.contentType != "" { // an export without entries has a type and no body
		h["Content-Type"] = []string{res.contentType}
	}
	if len(body) > MinGzip && !res.packed && acceptsGzip(req.Header["Accept-Encoding"]) {
		h["Content-Encoding"] = []string{"gzip"}
		body = g.compress(body)
	}
	if res.status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(res.status)
	if req.Method == http.MethodHead || len(body) == 0 {
		return 0, nil
	}
	return w.Write(body)
}

const transportHeader = "Strict-Transport-Security"

// HTTPSOnly is the value of Strict-Transport-Security (RFC 6797). Browsers then call the host
// and the hosts below it over HTTPS only, for a year.
const HTTPSOnly = "max-age=31536000; includeSubDomains"

// cameOverTLS reports whether the client spoke HTTPS: to this process, or to the gateway in
// front of it. Browsers ignore the header on a plain answer, so a client that claims HTTPS gains
// nothing.
func cameOverTLS(r *http.Request) bool {
	forwarded := r.Header["X-Forwarded-Proto"]
	return r.TLS != nil || len(forwarded) == 1 && forwarded[0] == "https"
}

// buffer collects the output of a gzip writer.
type buffer struct{ b []byte }

func (s *buffer) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func (g *Gate) compress(body []byte) []byte {
	out := &buffer{b: make([]byte, 0, len(body)/4+512)}
	zw, ok := g.gzips.Get().(*gzip.Writer)
	if !ok {
		// The fastest level: pages of entries shrink to a tenth by it already. It is a valid one, so no error comes.
		zw, _ = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	}
	zw.Reset(out)
	_, _ = zw.Write(body) // the buffer never fails
	_ = zw.Close()
	g.gzips.Put(zw)
	return out.b
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func acceptsGzip(values []string) bool {
	named, any := -1.0, -1.0
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			coding, q := weighted(part)
			switch {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				named = max(named, q)
			case coding == "*":
				any = max(any, q)
			}
		}
	}
	if named >= 0 {
		return named > 0
	}
	return any > 0
}

// weighted splits "gzip;q=0.5". A weight that cannot be read counts as 0.
func weighted(part string) (coding string, q float64) {
	coding, params, _ := strings.Cut(part, ";")
	coding, params = strings.TrimSpace(coding), strings.TrimSpace(params)
	if params == "" {
		return coding, 1
	}
	name, weight, _ := strings.Cut(params, "=")
	if !strings.EqualFold(strings.TrimSpace(name), "q") {
		return coding, 0
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
	if err != nil || q < 0 || q > 1 {
		return coding, 0
	}
	return coding, q
}

// HeaderName spells a header's name as its documents do.
func HeaderName(name string) string {
	switch name {
	case tenantHeaderName:
		return manifest.TenantHeader
	case "Etag":
		return "ETag"
	case "Www-Authenticate":
		return "WWW-Authenticate"
	case "Ratelimit":
		return RateLimitHeader
	case "Ratelimit-Policy":
		return RateLimitPolicyHeader
	}
	return name
}
