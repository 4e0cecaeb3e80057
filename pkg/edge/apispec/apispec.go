// Package apispec describes the HTTP API: the operations, their parameters,
// schemas and errors, and the OpenAPI document made of them. Only the function
// get-openapi and generators link it.
package apispec

import (
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

// GetOpenAPI answers GET /openapi.json with the OpenAPI document.
func GetOpenAPI(gate *httpapi.Gate) http.Handler {
	return httpapi.FixedDocument(gate, "get-openapi", httpapi.MediaJSON, openAPIFile, nil)
}
