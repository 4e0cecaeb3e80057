package apidocs_test

import (
	"go/format"
	"html"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
)

// snippet is a request of the page in one language.
type snippet struct{ operation, language, text string }

var (
	article  = regexp.MustCompile(`(?s)<article id="([a-z-]+)".*?</article>`)
	request  = regexp.MustCompile(`(?s)<div class="code" data-language="([a-z]+)"><pre tabindex="0"><code>(.*?)</code></pre>`)
	variable = regexp.MustCompile(`\bOCELOT_[A-Z]+\b`)
)

// snippets returns the requests that the page shows for its operations.
func snippets(t *testing.T) []snippet {
	t.Helper()
	_, body := getDocs(t)
	var all []snippet
	for _, a := range article.FindAllStringSubmatch(body, -1) {
		for _, r := range request.FindAllStringSubmatch(a[0], -1) {
			all = append(all, snippet{a[1], r[1], html.UnescapeString(r[2])})
		}
	}
	return all
}

func TestEveryOperationHasExamplesInEveryLanguage(t *testing.T) {
	got := map[string]int{}
	for _, s := range snippets(t) {
		got[s.operation+" "+s.language]++
	}
	examples := apispec.Examples()
	for _, op := range apispec.Operations() {
		want := max(1, len(examples[op.Name]))
		for _, language := range []string{"curl", "go", "javascript", "python"} {
			if got := got[op.Name+" "+language]; got != want {
				t.Errorf("%s has %d examples in %s, want %d", op.Name, got, language, want)
			}
		}
	}
}

func TestStyleShowsTheChosenLanguage(t *testing.T) {
	_, body := getDocs(t)
	for _, language := range []string{"curl", "go", "javascript", "python"} {
		if want := "body:has(#in-" + language + ":checked) .code[data-language]:not([data-language=" + language + "]){display:none}"; !strings.Contains(body, want) {
			t.Errorf("the style does not hide other languages than %s, want %s", language, want)
		}
		if want := `<input type="radio" name="language" id="in-` + language + `"`; !strings.Contains(body, want) {
			t.Errorf("the page has no way to choose %s, want %s", language, want)
		}
	}
}

func TestExamplesReadTheTenantFromTheEnvironment(t *testing.T) {
	for _, s := range snippets(t) {
		for line := range strings.Lines(s.text) {
			if strings.Contains(line, "X-Tenant-ID") && !strings.Contains(line, "OCELOT_TENANT") {
				t.Errorf("%s in %s has the header %q, want its value from OCELOT_TENANT", s.operation, s.language, line)
			}
			if _, id, found := strings.Cut(line, "/tenants/"); found && !strings.Contains(id, "OCELOT_TENANT") {
				t.Errorf("%s in %s has the path %q, want its tenant from OCELOT_TENANT", s.operation, s.language, line)
			}
		}
		for _, name := range variable.FindAllString(s.text, -1) {
			if name != "OCELOT_URL" && name != "OCELOT_TOKEN" && name != "OCELOT_TENANT" {
				t.Errorf("%s in %s reads %s, want only what ocelot dev prints", s.operation, s.language, name)
			}
		}
	}
}

func TestExamplesInGoAreFormatted(t *testing.T) {
	for _, s := range snippets(t) {
		if s.language != "go" {
			continue
		}
		got, err := format.Source([]byte(s.text + "\n"))
		if err != nil {
			t.Errorf("%s: got %v, want a Go file:\n%s", s.operation, err, s.text)
		} else if string(got) != s.text+"\n" {
			t.Errorf("%s: got\n%s\nwant it formatted:\n%s", s.operation, s.text, got)
		}
	}
}

// TestExamplesParse parses all examples of a language in one run of its program.
func TestExamplesParse(t *testing.T) {
	for language, command := range map[string][]string{
		"curl":       {"bash", "-c", `while IFS= read -r -d "" text; do bash -n <<<"$text" || exit 1; done`},
		"javascript": {"node", "--experimental-vm-modules", "-e", `for (const text of require("fs").readFileSync(0, "utf8").split("\0")) new (require("vm").SourceTextModule)(text)`},
		"python":     {"python3", "-c", `import ast, sys; [ast.parse(text) for text in sys.stdin.read().split("\0")]`},
	} {
		t.Run(language, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is not installed: the syntax of these examples is not checked", command[0])
			}
			var input strings.Builder
			for _, s := range snippets(t) {
				if s.language == language {
					input.WriteString(s.text + "\x00")
				}
			}
			parse := exec.CommandContext(t.Context(), command[0], command[1:]...)
			parse.Stdin = strings.NewReader(input.String())
			if out, err := parse.CombinedOutput(); err != nil {
				t.Errorf("%s: got %v, want good syntax:\n%s", command[0], err, out)
			}
		})
	}
}
