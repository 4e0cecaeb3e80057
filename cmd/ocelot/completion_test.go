package main

import (
	"os/exec"
	"strings"
	"testing"
)

// complete returns what bash proposes for a command line, whose last word is not finished.
func complete(t *testing.T, script string, words ...string) string {
	t.Helper()
	quoted := "'" + strings.Join(words, "' '") + "'"
	program := script + "\nCOMP_WORDS=(" + quoted + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ocelot; echo \"${COMPREPLY[*]}\""
	out, err := exec.CommandContext(t.Context(), "bash", "-c", program).CombinedOutput()
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCompletionOfBash(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is not installed")
	}
	script := command(t.Context(), strings.NewReader(""), 0, "completion", "bash")
	if script.code != exitOK {
		t.Fatalf("got exit code %d, want %d: %s", script.code, exitOK, script.err)
	}
	for _, tt := range []struct {
		words []string
		want  string
	}{
		{[]string{"ocelot", "se"}, "send search"},
		{[]string{"ocelot", "search", "--si"}, "--since"},
		{[]string{"ocelot", "search", "--output", "nd"}, "ndjson"},
		{[]string{"ocelot", "completion", "z"}, "zsh"},
		{[]string{"ocelot", "export", "do"}, "download"},
		{[]string{"ocelot", "export", "--format", "par"}, "parquet"},
		{[]string{"ocelot", "help", "co"}, "cost completion"},
		{[]string{"ocelot", "nix", "--s"}, ""},
	} {
		if got := complete(t, script.out, tt.words...); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.words, got, tt.want)
		}
	}
}

// Each command stands in the scripts of all shells.
func TestCompletionHasEveryCommand(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		got := command(t.Context(), strings.NewReader(""), 0, "completion", shell)
		for _, name := range []string{"dev", "token", "send", "search", "get", "tail", "pull", "export", "stats", "cost", "redrive", "requeue"} {
			if !strings.Contains(got.out, " "+name+" ") && !strings.Contains(got.out, "\""+name+" ") {
				t.Errorf("%s: the script lacks %s", shell, name)
			}
		}
	}
}
