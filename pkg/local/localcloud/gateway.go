package localcloud

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/local/runtimehost"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// gateway stands in for API Gateway. It turns requests into REST API (v1) proxy events after
// the authorizer has allowed them. For the answers that API Gateway itself gives
// (httpapi.GatewayAnswers), it uses the same problem documents. One case is more precise:
// it answers 405 with Allow to an unknown method of a path, not 404.
type gateway struct {
	gate       *httpapi.Gate // only for such answers
	authorizer *authorizer
}

const (
	apiAccount        = "000000000000"
	apiID             = "ocelot"
	requestTimeFormat = "02/Jan/2006:15:04:05 -0700"
)

func newGateway(gate *httpapi.Gate, authorizeRequest *runtimehost.Host) *gateway {
	return &gateway{gate: gate, authorizer: newAuthorizer(authorizerIn(authorizeRequest), time.Now)}
}

// integration is a route and its function.
type integration struct {
	*gateway
	route manifest.Route
	host  *runtimehost.Host
}

func (i *integration) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	response, err := i.invoke(r)
	if err == nil {
		err = lambdaedge.WriteResponse(w, response)
	}
	if err != nil && r.Context().Err() == nil {
		httpapi.Refuse(i.gate, i.route, err).ServeHTTP(w, r)
	}
}

// invoke sends the request to the function if the authorizer allows it.
func (i *integration) invoke(r *http.Request) (response events.APIGatewayProxyResponse, err error) {
	event, err := i.event(r)
	if err != nil {
		return response, err
	}
	if i.route.Permission != "" {
		if event.RequestContext.Authorizer, err = i.authorizer.authorize(r.Context(), event); err != nil {
			return response, err
		}
	}
	err = invoke(r.Context(), i.host, event, &response)
	return response, invocationError(err)
}

// event returns the proxy event of the request. Its body is base64, because the API declares
// every media type as binary.
func (i *integration) event(r *http.Request) (events.APIGatewayProxyRequest, error) {
	event, err := lambdaedge.EventFromRequest(r, manifest.BasePath+i.route.Path, parametersOf(r, i.route.Path))
	var invalid *audit.ValidationError
	switch {
	case errors.As(err, &invalid):
		return event, httpapi.Malformed("The query string is not percent-encoded form data.")
	case errors.Is(err, audit.ErrTooLarge):
		return event, err
	case err != nil:
		return event, httpapi.Malformed("The request's body does not arrive as it is announced.")
	}
	if !event.IsBase64Encoded && event.Body != "" {
		event.Body, event.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(event.Body)), true
	}
	now := time.Now().UTC()
	event.RequestContext.AccountID, event.RequestContext.APIID = apiAccount, apiID
	event.RequestContext.RequestID = uuid.NewString()
	event.RequestContext.RequestTime, event.RequestContext.RequestTimeEpoch = now.Format(requestTimeFormat), now.UnixMilli()
	return event, nil
}

// parametersOf returns the values of the route's path parameters.
func parametersOf(r *http.Request, path string) map[string]string {
	values := map[string]string{}
	for segment := range strings.SplitSeq(path, "/") {
		if name, isParameter := strings.CutPrefix(segment, "{"); isParameter {
			name = strings.TrimSuffix(name, "}")
			values[name] = r.PathValue(name)
		}
	}
	return values
}

// methodARN returns the ARN of the method that the event calls.
func methodARN(event *events.APIGatewayProxyRequest) string {
	return "arn:aws:execute-api:local:" + apiAccount + ":" + apiID + "/" + event.RequestContext.Stage + "/" + event.HTTPMethod + event.Path
}

// invocationError turns a failed invocation into an error of the domain.
func invocationError(err error) error {
	var failure *runtimehost.FunctionError
	switch {
	case errors.Is(err, runtimehost.ErrTooLarge):
		return fmt.Errorf("%w: %w", audit.ErrTooLarge, err)
	case errors.Is(err, runtimehost.ErrClosed), errors.As(err, &failure) && failure.Interrupted():
		return &audit.UnavailableError{Err: err}
	}
	return err
}
