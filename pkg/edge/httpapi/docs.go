package httpapi

import (
	"crypto/sha256"
	_ "embed" // for the page's style and script
	"encoding/base64"
	"net/http"
	"sync"
)

//go:embed page/page.css
var pageStyle string

//go:embed page/page.js
var pageScript string

// GetDocs answers GET /docs with one page that needs nothing from elsewhere.
func GetDocs(gate *Gate) http.Handler {
	html := sync.OnceValue(Docs)
	// Only the page's own style and script run, and the script speaks to its own origin alone.
	policy := "default-src 'none'; style-src '" + sourceHash(pageStyle) + "'; script-src '" + sourceHash(pageScript) +
		"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return gate.endpoint("get-docs", func(*call) (*response, error) {
		res := &response{status: http.StatusOK, contentType: "text/html; charset=utf-8", body: html()}
		return res.set("Content-Security-Policy", policy).set("Referrer-Policy", "no-referrer"), nil
	})
}

// sourceHash is how a Content-Security-Policy names an inline text.
func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
