package apispec

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// Example is a recorded request and its response. The tests of package httpapi
// record them in examples.json, and make each request again to compare.
type Example struct {
	Function string          `json:"function"`
	Title    string          `json:"title"`
	Request  ExampleRequest  `json:"request"`
	Response ExampleResponse `json:"response"`
}

// ExampleRequest is the request of an Example.
type ExampleRequest struct {
	Method string      `json:"method"`
	Target string      `json:"target"` // path and query, relative to manifest.BasePath
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

// ExampleResponse is the response of an Example.
type ExampleResponse struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

// Examples returns the examples by function, in the order of the file.
func Examples() map[string][]Example {
	var all []Example
	if err := json.Unmarshal(examplesFile, &all); err != nil {
		panic("apispec: examples.json: " + err.Error()) // tests read the same file
	}
	byFunction := map[string][]Example{}
	for _, e := range all {
		byFunction[e.Function] = append(byFunction[e.Function], e)
	}
	return byFunction
}

// exampleValue returns a body as the document shows it: JSON as a value, other
// bodies as text.
func exampleValue(mediaType, body string) any {
	if mediaType == httpapi.MediaJSON || mediaType == httpapi.MediaProblem {
		return json.RawMessage(body)
	}
	return body
}

// requestExamples returns the bodies of this media type that were accepted.
func requestExamples(all []Example, mediaType string) map[string]any {
	examples := map[string]any{}
	for i, e := range all {
		if e.Request.Body != "" && e.Request.Header.Get("Content-Type") == mediaType && e.Response.Status < http.StatusBadRequest {
			examples["example"+strconv.Itoa(i+1)] = map[string]any{"summary": e.Title, "value": json.RawMessage(e.Request.Body)}
		}
	}
	return examples
}

// responseExamples returns the bodies of the responses with this status.
func responseExamples(all []Example, status int) map[string]any {
	examples := map[string]any{}
	for i, e := range all {
		if e.Response.Status == status && e.Response.Body != "" {
			examples["example"+strconv.Itoa(i+1)] = map[string]any{
				"summary": e.Title, "value": exampleValue(e.Response.Header.Get("Content-Type"), e.Response.Body),
			}
		}
	}
	return examples
}
