package main

import (
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPageExamplesRun runs what the documentation page shows, with the variables that
// ocelot dev prints and nothing else.
func TestPageExamplesRun(t *testing.T) {
	unsetEnvironment(t)
	folder := t.TempDir()
	service, err := startService(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.stop(); err != nil {
			t.Error(err)
		}
	})
	for name, value := range service.settings {
		t.Setenv(name, value)
	}
	page := readPage(t, service.settings["OCELOT_URL"]+"/docs")
	// These need no id or cursor of an earlier answer, and no operator.
	for operation, want := range map[string]string{
		"create-log": "202", "create-logs-bulk": "202", "list-logs": "200", "search-logs": "200", "feed-logs": "200", "export-logs": "200", "get-stats": "200",
		"create-stream-ticket": "201", "list-quarantine": "200", "list-tenants": "200", "get-tenant": "200", "list-keys": "200",
		"create-key": "201", "list-jobs": "200", "get-health": "200", "get-openapi": "200", "get-docs": "200",
	} {
		runPageExample(t, folder, want, operation, "curl", pageExample(t, page, operation, "curl"))
	}
	for _, language := range []string{"go", "javascript", "python"} {
		runPageExample(t, folder, "202", "create-log", language, pageExample(t, page, "create-log", language))
		runPageExample(t, folder, "200", "list-logs", language, pageExample(t, page, "list-logs", language))
	}
	_, subscriber, _ := strings.Cut(page, `<div id="stream-messages">`)
	_, subscriber, _ = strings.Cut(subscriber, "<pre tabindex=\"0\"><code>")
	subscriber, _, _ = strings.Cut(subscriber, "</code>")
	// The service closes no connection by itself: the program ends after its first message.
	end := "\nsocket.addEventListener(\"message\", () => socket.close());"
	runPageExample(t, folder, `{"type":"subscribed"`, "a subscriber", "stream", html.UnescapeString(subscriber)+end)
}

func readPage(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pageExample returns the first example of an operation.
func pageExample(t *testing.T, page, operation, language string) string {
	t.Helper()
	_, article, _ := strings.Cut(page, `<article id="`+operation+`"`)
	article, _, _ = strings.Cut(article, "</article>")
	example := regexp.MustCompile(`(?s)<div class="code" data-language="` + language + `"><pre tabindex="0"><code>(.*?)</code></pre>`).FindStringSubmatch(article)
	if example == nil {
		t.Fatalf("the page has no example of %s in %s, want one", operation, language)
	}
	return html.UnescapeString(example[1])
}

// pagePrograms has the file and the command for an example. Each prints the answer's status first.
var pagePrograms = map[string]struct {
	file    string
	command []string
	before  string
}{
	"curl":       {"example.sh", []string{"sh"}, "curl() { command curl -s -i \"$@\"; }\n"},
	"go":         {"main.go", []string{"go", "run"}, ""},
	"javascript": {"example.mjs", []string{"node"}, ""},
	"python":     {"example.py", []string{"python3"}, ""},
	"stream":     {"stream.mjs", []string{"node", "--experimental-websocket", "--no-warnings"}, ""}, // Node 22 needs no option
}

func runPageExample(t *testing.T, folder, want, operation, language, text string) {
	t.Helper()
	t.Run(operation+" in "+language, func(t *testing.T) {
		program := pagePrograms[language]
		if _, err := exec.LookPath(program.command[0]); err != nil {
			t.Skipf("%s is not installed: this example does not run", program.command[0])
		}
		if err := os.WriteFile(filepath.Join(folder, program.file), []byte(program.before+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		run := exec.CommandContext(t.Context(), program.command[0], append(program.command[1:], program.file)...)
		run.Dir = folder
		out, err := run.CombinedOutput()
		if err != nil || !strings.HasPrefix(strings.TrimPrefix(string(out), "HTTP/1.1 "), want) {
			t.Errorf("got %q (%v), want it to begin with %s, from:\n%s", out, err, want, text)
		}
	})
}
