package lambdaedge

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// requestFrom returns the event's HTTP request. Its error says what is wrong with the
// event and repeats none of its content.
func requestFrom(ctx context.Context, event events.APIGatewayProxyRequest) (*http.Request, error) {
	switch {
	case !isToken(event.HTTPMethod):
		return nil, errors.New("httpMethod is not an HTTP method")
	case !strings.HasPrefix(event.Resource, "/"):
		return nil, errors.New("resource is not a path")
	}
	path, values, err := expandPath(event.Resource, event.PathParameters)
	if err != nil {
		return nil, err
	}
	body := []byte(event.Body)
	if event.IsBase64Encoded {
		if body, err = base64.StdEncoding.DecodeString(event.Body); err != nil {
			return nil, errors.New("body is not base64 although isBase64Encoded says so")
		}
	}
	header := headersOf(event.Headers, event.MultiValueHeaders)
	target := &url.URL{Path: path.decoded, RawPath: path.encoded, RawQuery: queryOf(event).Encode()}
	request, err := http.NewRequestWithContext(ctx, event.HTTPMethod, target.String(), newBody(body))
	if err != nil {
		return nil, errors.New("method, resource and query do not form a request")
	}
	request.URL = target
	request.RequestURI = target.RequestURI()
	request.ContentLength = int64(len(body))
	request.Host = header.Get("Host")
	if request.Host == "" {
		request.Host = event.RequestContext.DomainName
	}
	header.Del("Host")              // net/http has it in Host only
	header.Del("Transfer-Encoding") // the gateway has decoded it
	if header.Get("Accept") == "" {
		header.Del("Accept-Encoding") // without Accept, API Gateway passes on a compressed body as base64
	}
	if header.Get(manifest.RequestIDHeader) == "" && event.RequestContext.RequestID != "" {
		header.Set(manifest.RequestIDHeader, event.RequestContext.RequestID)
	}
	request.Header = header
	if address := event.RequestContext.Identity.SourceIP; address != "" {
		request.RemoteAddr = net.JoinHostPort(address, "0") // the event has no port
	}
	for name, value := range values {
		request.SetPathValue(name, value)
	}
	return request, nil
}

func newBody(body []byte) io.ReadCloser {
	if len(body) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(body))
}

// isToken reports whether s can be an HTTP method (a token of RFC 9110).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// paths has one path in its decoded and encoded form.
type paths struct{ decoded, encoded string }

// expandPath replaces the parameters of the resource ("/api/v1/logs/{id}") by their
// values. A REST API passes path parameters percent-encoded, as in the URL. The returned
// values are decoded. The value of a greedy parameter ("{proxy+}") may have slashes.
func expandPath(resource string, parameters map[string]string) (path paths, values map[string]string, err error) {
	values = make(map[string]string, len(parameters))
	segments := strings.Split(resource, "/")
	decoded, encoded := slices.Clone(segments), slices.Clone(segments)
	for i, segment := range segments {
		if !strings.HasPrefix(segment, "{") || !strings.HasSuffix(segment, "}") {
			continue
		}
		name, greedy := strings.CutSuffix(segment[1:len(segment)-1], "+")
		raw := parameters[name]
		if raw == "" {
			return paths{}, nil, fmt.Errorf("pathParameters has no %q, which the resource has", name)
		}
		value, err := url.PathUnescape(raw)
		if err != nil {
			value = raw // it was not encoded
		}
		values[name] = value
		decoded[i] = value
		encoded[i] = escapeParameter(value, greedy)
	}
	return paths{decoded: strings.Join(decoded, "/"), encoded: strings.Join(encoded, "/")}, values, nil
}

func escapeParameter(value string, greedy bool) string {
	if !greedy {
		return url.PathEscape(value)
	}
	parts := strings.Split(value, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// headersOf joins an event's single-value and multi-value headers. The multi-value
// header takes precedence if a name is in both.
func headersOf(single map[string]string, multi map[string][]string) http.Header {
	header := make(http.Header, len(multi))
	for _, name := range sortedKeys(multi) {
		key := textproto.CanonicalMIMEHeaderKey(name)
		header[key] = append(header[key], multi[name]...)
	}
	for _, name := range sortedKeys(single) {
		if key := textproto.CanonicalMIMEHeaderKey(name); header[key] == nil {
			header[key] = []string{single[name]}
		}
	}
	return header
}

// queryOf joins an event's single-value and multi-value query parameters, which are
// decoded. The multi-value parameter takes precedence if a name is in both.
func queryOf(event events.APIGatewayProxyRequest) url.Values {
	query := make(url.Values, len(event.MultiValueQueryStringParameters))
	for name, values := range event.MultiValueQueryStringParameters {
		query[name] = slices.Clone(values)
	}
	for name, value := range event.QueryStringParameters {
		if query[name] == nil {
			query[name] = []string{value}
		}
	}
	return query
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
