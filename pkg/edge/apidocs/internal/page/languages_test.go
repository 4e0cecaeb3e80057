package page_test

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs/internal/page"
)

// hostileTexts have what is special in one of the languages.
var hostileTexts = []string{
	"plain", "two\nlines", `'single' "double" ` + "`back`", `$HOME ${HOME} $(id) #{x} %s {{.}}`, `back\slash \n \' \`,
	"'''", `"""`, "tab\tand ü 猫 😀 \u2028 \U000e0001", `\\'`, "cr\r\nlf", "it's",
}

// TestTextsAreQuoted prints texts from a program of each language, and expects the texts back.
func TestTextsAreQuoted(t *testing.T) {
	for language, command := range map[string]func(term string) []string{
		"curl":       func(term string) []string { return []string{"sh", "-c", "printf %s " + term} },
		"javascript": func(term string) []string { return []string{"node", "-e", "process.stdout.write(" + term + ")"} },
		"python": func(term string) []string {
			return []string{"python3", "-c", "import os, sys; sys.stdout.buffer.write((" + term + ").encode())"}
		},
	} {
		t.Run(language, func(t *testing.T) {
			if program := command("")[0]; !installed(program) {
				t.Skipf("%s is not installed: what it prints is not compared", program)
			}
			t.Setenv("OCELOT_TENANT", "; a tenant")
			for _, want := range hostileTexts {
				lines, expression := page.Quoted(language, want)
				if got := output(t, command(lines)); got != want {
					t.Errorf("%s prints %q, want %q", lines, got, want)
				}
				if got := output(t, command(expression)); got != want+"; a tenant" {
					t.Errorf("%s prints %q, want %q and the tenant", expression, got, want)
				}
			}
		})
	}
}

func TestTextsAreQuotedInGo(t *testing.T) {
	for _, want := range hostileTexts {
		lines, expression := page.Quoted("go", want)
		if got, err := strconv.Unquote(lines); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", lines, got, err, want)
		}
		quoted, found := strings.CutSuffix(expression, ` + os.Getenv("OCELOT_TENANT")`)
		if got, err := strconv.Unquote(quoted); err != nil || !found || got != want {
			t.Errorf("%s begins with %q (%v), want %q and then the variable", expression, got, err, want)
		}
	}
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func output(t *testing.T, command []string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
	if err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	return string(out)
}
