package lambdaedge

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// MaxEventBody is the largest request body that fits into an event: an event has at
// most 6 MB, and base64 adds a third.
const MaxEventBody = audit.MaxBulkWire + 256<<10

// localStage is the stage in the events of EventFromRequest.
const localStage = "local"

// EventFromRequest returns the proxy event that API Gateway would make of a request to
// resource ("/api/v1/logs/{id}"). The path parameters are decoded. It reads the whole
// body and returns audit.ErrTooLarge if the body exceeds MaxEventBody. The caller adds
// the authorizer's context.
func EventFromRequest(r *http.Request, resource string, pathParameters map[string]string) (events.APIGatewayProxyRequest, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxEventBody+1))
	if err != nil {
		return events.APIGatewayProxyRequest{}, fmt.Errorf("read the body of %s %s: %w", r.Method, resource, err)
	}
	if len(body) > MaxEventBody {
		return events.APIGatewayProxyRequest{}, fmt.Errorf("body of %s %s: %w", r.Method, resource, audit.ErrTooLarge)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return events.APIGatewayProxyRequest{}, audit.Invalid("?", "invalid_query", "must be a well-formed query string")
	}
	header := r.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if r.Host != "" {
		header.Set("Host", r.Host)
	}
	event := events.APIGatewayProxyRequest{
		Resource: resource, Path: r.URL.Path, HTTPMethod: r.Method,
		Headers: lastValues(header), MultiValueHeaders: header,
		QueryStringParameters: lastValues(query), MultiValueQueryStringParameters: query,
		PathParameters: make(map[string]string, len(pathParameters)),
		RequestContext: contextFrom(r, resource),
	}
	for name, value := range pathParameters {
		event.PathParameters[name] = escapeParameter(value, strings.Contains(resource, "{"+name+"+}"))
	}
	if event.IsBase64Encoded = !utf8.Valid(body); event.IsBase64Encoded {
		event.Body = base64.StdEncoding.EncodeToString(body)
	} else {
		event.Body = string(body)
	}
	return event, nil
}

func contextFrom(r *http.Request, resource string) events.APIGatewayProxyRequestContext {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr // without a port
	}
	return events.APIGatewayProxyRequestContext{
		ResourcePath: resource, Path: "/" + localStage + r.URL.Path, Stage: localStage, HTTPMethod: r.Method,
		RequestID: r.Header.Get(manifest.RequestIDHeader), Protocol: r.Proto, DomainName: r.Host,
		Identity: events.APIGatewayRequestIdentity{SourceIP: address, UserAgent: r.UserAgent()},
	}
}

// lastValues returns the last value of each name. The gateway does the same for its
// single-value maps.
func lastValues(multi map[string][]string) map[string]string {
	single := make(map[string]string, len(multi))
	for name, values := range multi {
		if len(values) > 0 {
			single[name] = values[len(values)-1]
		}
	}
	return single
}

// AuthorizerEvent returns the event that API Gateway sends to its authorizer for the
// request of a proxy event. methodARN is the ARN of the called method.
func AuthorizerEvent(event events.APIGatewayProxyRequest, methodARN string) events.APIGatewayCustomAuthorizerRequestTypeRequest {
	return events.APIGatewayCustomAuthorizerRequestTypeRequest{
		Type: "REQUEST", MethodArn: methodARN, Resource: event.Resource, Path: event.Path, HTTPMethod: event.HTTPMethod,
		Headers: event.Headers, MultiValueHeaders: event.MultiValueHeaders,
		QueryStringParameters: event.QueryStringParameters, MultiValueQueryStringParameters: event.MultiValueQueryStringParameters,
		PathParameters: event.PathParameters, StageVariables: event.StageVariables,
		RequestContext: events.APIGatewayCustomAuthorizerRequestTypeRequestContext{
			Path: event.RequestContext.Path, AccountID: event.RequestContext.AccountID, ResourceID: event.RequestContext.ResourceID,
			Stage: event.RequestContext.Stage, RequestID: event.RequestContext.RequestID, ResourcePath: event.RequestContext.ResourcePath,
			HTTPMethod: event.RequestContext.HTTPMethod, APIID: event.RequestContext.APIID,
			Identity: events.APIGatewayCustomAuthorizerRequestTypeRequestIdentity{SourceIP: event.RequestContext.Identity.SourceIP},
		},
	}
}

// WriteResponse writes a function's response to w as the gateway does. It returns an
// error if the response is malformed, in which case it writes nothing, or if the client
// has disconnected.
func WriteResponse(w http.ResponseWriter, response events.APIGatewayProxyResponse) error {
	if response.StatusCode < 200 || response.StatusCode > 999 {
		return fmt.Errorf("the function returned status %d", response.StatusCode)
	}
	body := []byte(response.Body)
	if response.IsBase64Encoded {
		decoded, err := base64.StdEncoding.DecodeString(response.Body)
		if err != nil {
			return fmt.Errorf("decode the function's response: %w", err)
		}
		body = decoded
	}
	for name, values := range headersOf(response.Headers, response.MultiValueHeaders) {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	if len(body) == 0 {
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("write the response: %w", err)
	}
	return nil
}
