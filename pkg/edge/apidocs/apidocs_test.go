package apidocs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs"
	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs/internal/page"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func TestPageIsCurrent(t *testing.T) {
	want, err := page.Render()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("page.html")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("got a stale page.html, want what the generator writes; run go generate ./pkg/edge/apidocs")
	}
}

// getDocs returns the response to GET /docs.
func getDocs(t *testing.T) (header http.Header, body string) {
	t.Helper()
	gate := &httpapi.Gate{Log: slog.New(slog.DiscardHandler), Now: time.Now, NewRequestID: func() string { return "req-1" }}
	recorder := httptest.NewRecorder()
	apidocs.GetDocs(gate).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, manifest.BasePath+"/docs", http.NoBody))
	if recorder.Code != http.StatusOK {
		t.Fatalf("GET /docs: got %d %s, want 200", recorder.Code, recorder.Body)
	}
	return recorder.Header(), recorder.Body.String()
}

func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	header, body := getDocs(t)
	if got, want := header.Get("Content-Type"), "text/html; charset=utf-8"; got != want {
		t.Errorf("Content-Type is %q, want %q", got, want)
	}
	for _, outside := range []string{`src=`, `<link rel="stylesheet"`, "@import", "url(", "http://", "https://", ` style="`, "onclick"} {
		if at := strings.Index(body, outside); at >= 0 {
			t.Errorf("the page contains %q, want it without: %.120s", outside, body[at:])
		}
	}
}

func TestPolicyAllowsThePagesStyleAndScriptOnly(t *testing.T) {
	header, body := getDocs(t)
	policy := header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none';") {
		t.Errorf("the policy is %q, want it to deny what it does not name", policy)
	}
	for element, file := range map[string]string{"style": "page.css", "script": "page.js"} {
		text, err := os.ReadFile("internal/page/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "<" + element + ">" + string(text) + "</" + element + ">"; !strings.Contains(body, want) {
			t.Errorf("the page does not contain %s unchanged, want it to", file)
		}
		sum := sha256.Sum256(text)
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("the policy is %q, want it to contain %q", policy, want)
		}
	}
}

func TestPageIsSmall(t *testing.T) {
	_, body := getDocs(t)
	if got, limit := len(body), 1_000_000; got > limit {
		t.Errorf("the page has %d bytes, want at most %d", got, limit)
	}
}

func TestLinksOfThePageHaveATarget(t *testing.T) {
	_, body := getDocs(t)
	ids := map[string]int{}
	for _, id := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		ids[id[1]]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("the id %s is there %d times, want it once", id, n)
		}
	}
	for _, link := range regexp.MustCompile(`\b(?:href="#|for="|popovertarget=")([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if ids[link[1]] == 0 {
			t.Errorf("%s names no element, want one with the id %s", link[0], link[1])
		}
	}
}

// TestStreamMessagesAreThoseOfTheDocument compares the page's messages with docs/streaming.md.
func TestStreamMessagesAreThoseOfTheDocument(t *testing.T) {
	document, err := os.ReadFile("../../../docs/streaming.md")
	if err != nil {
		t.Fatal(err)
	}
	_, body := getDocs(t)
	_, chapter, _ := strings.Cut(body, `<div id="stream-messages">`)
	chapter, _, _ = strings.Cut(chapter, "</section>")
	messages := regexp.MustCompile(`<code>(\{[^<]*\})</code>`).FindAllStringSubmatch(chapter, -1)
	if want := 9; len(messages) != want {
		t.Errorf("the chapter has %d messages, want %d", len(messages), want)
	}
	for _, m := range messages {
		if message := html.UnescapeString(m[1]); !strings.Contains(string(document), "`"+message+"`") {
			t.Errorf("the page has the message %s, want one of docs/streaming.md", message)
		}
	}
}

func TestPageShowsEveryRoute(t *testing.T) {
	_, body := getDocs(t)
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil {
			continue
		}
		if want := `data-path="` + route.Path + `"`; !strings.Contains(body, want) {
			t.Errorf("the page does not show %s, want %s in it", route.Path, want)
		}
	}
}
