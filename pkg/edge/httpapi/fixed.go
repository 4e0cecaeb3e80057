package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
)

// FixedDocument returns the handler of a function that serves the same document
// for every request. The requests pass the gate like all others. The ETag is a digest
// of the document. header holds one value for each other field of the response beyond
// those of every response.
func FixedDocument(gate *Gate, function, contentType string, document []byte, header http.Header) http.Handler {
	digest := sha256.Sum256(document)
	header = maps.Clone(header)
	if header == nil {
		header = http.Header{}
	}
	header.Set("Etag", `"`+hex.EncodeToString(digest[:16])+`"`)
	return gate.endpoint(function, func(*request) (*response, error) {
		return &response{status: http.StatusOK, contentType: contentType, body: document, header: header}, nil
	})
}
