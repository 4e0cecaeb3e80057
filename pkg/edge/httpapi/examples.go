package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// exchange is one recorded request and its answer. The file examples.json holds
// them; TestExamples makes each request again and compares.
type exchange struct {
	Function string         `json:"function"`
	Title    string         `json:"title"`
	Request  exampleRequest `json:"request"`
	Response exampleAnswer  `json:"response"`
}

type exampleRequest struct {
	Method string      `json:"method"`
	Target string      `json:"target"` // path and query under the base path
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

type exampleAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
}

// recorded returns the exchanges by function, in the order of the file.
func recorded() map[string][]exchange {
	var all []exchange
	if err := json.Unmarshal(examplesFile, &all); err != nil {
		panic("httpapi: examples.json: " + err.Error()) // it is part of the program and tested
	}
	byFunction := map[string][]exchange{}
	for _, e := range all {
		byFunction[e.Function] = append(byFunction[e.Function], e)
	}
	return byFunction
}

// exampleValue is a body as an example of the document: JSON as a value, anything else as text.
func exampleValue(media, body string) any {
	if media == mediaJSON || media == "application/problem+json" {
		return json.RawMessage(body)
	}
	return body
}

func requestExamples(exchanges []exchange, media string) map[string]any {
	examples := map[string]any{}
	for i, e := range exchanges {
		if e.Request.Body != "" && e.Request.Header.Get("Content-Type") == media && e.Response.Status < http.StatusBadRequest {
			examples["example"+strconv.Itoa(i+1)] = map[string]any{"summary": e.Title, "value": json.RawMessage(e.Request.Body)}
		}
	}
	return examples
}

func responseExamples(exchanges []exchange, status int) map[string]any {
	examples := map[string]any{}
	for i, e := range exchanges {
		if e.Response.Status == status && e.Response.Body != "" {
			examples["example"+strconv.Itoa(i+1)] = map[string]any{
				"summary": e.Title, "value": exampleValue(e.Response.Header.Get("Content-Type"), e.Response.Body),
			}
		}
	}
	return examples
}
