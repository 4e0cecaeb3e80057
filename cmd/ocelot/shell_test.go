package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShellWord(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"/home/ann/.ocelot", "/home/ann/.ocelot"},
		{"http://[::1]:8080", "'http://[::1]:8080'"},
		{"~/x", "'~/x'"},
		{"=ls", "'=ls'"},
		{"", "''"},
		{"it's", `'it'\''s'`},
		{`C:\Users\Ann Lee`, `'C:\Users\Ann Lee'`},
	} {
		if got := shellWord(tt.text); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, got, tt.want)
		}
	}
}

// Every shell that is installed reads the words back.
func TestShellsReadShellWords(t *testing.T) {
	texts := []string{"http://[::1]:8080/docs?x=*", "=ls", "~root", "a b", "", "it's", `a\b`, "$HOME", "!!", "{a,b}", "#a", "a;b&c|d", "a%b@c+d,e-f_g", "Ä\t世"}
	words := make([]string, len(texts))
	for i, text := range texts {
		words[i] = shellWord(text)
	}
	for _, shell := range []string{"sh", "bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("%s is not installed", shell)
			}
			out, err := exec.Command(shell, "-c", `printf '%s\n' `+strings.Join(words, " ")).Output()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Join(texts, "\n")+"\n", string(out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
