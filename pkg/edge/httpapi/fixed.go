package httpapi

import "net/http"

// FixedDocument returns the handler of a function that serves the same document
// for every request. The requests pass the gate like all others. header holds one
// value for each field of the response beyond those of every response.
func FixedDocument(gate *Gate, function, contentType string, document []byte, header http.Header) http.Handler {
	return gate.endpoint(function, func(*request) (*response, error) {
		return &response{status: http.StatusOK, contentType: contentType, body: document, header: header}, nil
	})
}
