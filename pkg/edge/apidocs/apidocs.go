// Package apidocs serves the documentation page of the API. The page is generated
// from package apispec, so that the function get-docs only carries its text.
package apidocs

import (
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
)

//go:generate go run ./internal/genpage page.html

//go:embed page.html
var page string

// GetDocs answers GET /docs with one page that loads nothing from elsewhere.
func GetDocs(gate *httpapi.Gate) http.Handler {
	// Only the page's own style and script run, and the script connects to its own origin only.
	policy := "default-src 'none'; style-src '" + sourceHash("style") + "'; script-src '" + sourceHash("script") +
		"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return httpapi.FixedDocument(gate, "get-docs", "text/html; charset=utf-8", []byte(page), http.Header{
		"Content-Security-Policy": {policy}, "Referrer-Policy": {"no-referrer"},
	})
}

// sourceHash is the hash by which a Content-Security-Policy allows the text of the
// page's only element with this name.
func sourceHash(element string) string {
	_, text, _ := strings.Cut(page, "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
