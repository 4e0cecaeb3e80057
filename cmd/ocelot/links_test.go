//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingLine  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// notInAnchor is what GitHub drops from a heading to make its anchor.
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestLinks checks that each link of the repository's documents leads to a file of the
// repository, and to a heading of it.
func TestLinks(t *testing.T) {
	paths := append(documents(t), repository+"/CONTRIBUTING.md", repository+"/SECURITY.md", repository+"/CHANGELOG.md")
	for _, path := range paths {
		for _, match := range markdownLink.FindAllStringSubmatch(readDocument(t, path), -1) {
			if err := checkLink(path, match[1]); err != nil {
				t.Errorf("%s links to %s: %v", path, match[1], err)
			}
		}
	}
}

// TestIndex checks that docs/README.md lists every page of docs.
func TestIndex(t *testing.T) {
	index := readDocument(t, repository+"/docs/README.md")
	pages, err := filepath.Glob(repository + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		name := filepath.Base(page)
		if name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var errNoHeading = errors.New("the page has no such heading")

// checkLink returns an error if a link of the document leads nowhere. Links to other sites
// are not followed.
func checkLink(document, link string) error {
	if strings.Contains(link, "://") {
		return nil
	}
	path, anchor, _ := strings.Cut(link, "#")
	target := document
	if path != "" {
		target = filepath.Join(filepath.Dir(document), path)
	}
	if anchor == "" {
		_, err := os.Stat(target)
		return err
	}
	text, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	for _, heading := range headingLine.FindAllStringSubmatch(string(text), -1) {
		if anchorOf(heading[1]) == anchor {
			return nil
		}
	}
	return errNoHeading
}

func anchorOf(heading string) string {
	return strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

func TestCheckLink(t *testing.T) {
	page := repository + "/docs/operations.md"
	for _, tt := range []struct {
		link string
		want error
	}{
		{"#settings", nil},
		{"architecture.md#the-arrival-log", nil},
		{"#the-embedded-engines-disk", nil},
		{"../README.md", nil},
		{"https://example.com/nowhere", nil},
		{"#nowhere", errNoHeading},
		{"nowhere.md", fs.ErrNotExist},
		{"nowhere.md#settings", fs.ErrNotExist},
	} {
		if err := checkLink(page, tt.link); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.link, err, tt.want)
		}
	}
}
