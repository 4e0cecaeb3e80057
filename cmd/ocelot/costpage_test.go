//go:build unix

package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run ^TestCostPageCurrent$ . -update

var update = flag.Bool("update", false, "write docs/cost.md instead of comparing it")

// TestCostPageCurrent compares docs/cost.md with what its commands print.
func TestCostPageCurrent(t *testing.T) {
	const path = repository + "/docs/cost.md"
	page := readDocument(t, path)
	blocks, err := parseBlocks(page)
	if err != nil {
		t.Fatal(err)
	}
	current := page
	for _, b := range blocks {
		if b.language != "sh" {
			continue
		}
		words := strings.Fields(strings.ReplaceAll(b.text, "\\\n", " "))
		if len(words) < 2 || words[0] != "bin/ocelot" || b.answer == nil {
			t.Fatalf("line %d: got %q, want a command of bin/ocelot with its answer", b.line, b.text)
		}
		got := command(t.Context(), strings.NewReader(""), 0, words[1:]...)
		if got.code != exitOK {
			t.Fatalf("line %d: got exit code %d, want %d: %s", b.line, got.code, exitOK, got.err)
		}
		current = strings.Replace(current, b.text+"```\n\n```text\n"+b.answer.text, b.text+"```\n\n```text\n"+got.out, 1)
	}
	if *update {
		if err := os.WriteFile(path, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(current, page); diff != "" {
		t.Errorf("docs/cost.md is stale: run `make generate` (-want +got):\n%s", diff)
	}
}
