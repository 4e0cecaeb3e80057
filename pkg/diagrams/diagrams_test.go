package diagrams_test

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/diagrams"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const folder = "../../docs/diagrams"

func TestDiagramsCurrent(t *testing.T) {
	files := diagrams.Files()
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/diagrams/%s is stale: run `make generate` (-want +got):\n%s", name, diff)
		}
	}
	there, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(files) {
		t.Errorf("docs/diagrams has %d files, want the %d that are generated", len(there), len(files))
	}
}

// A drawing that is no XML is not shown at all.
func TestDrawingsAreXML(t *testing.T) {
	for name, text := range diagrams.Files() {
		decoder := xml.NewDecoder(strings.NewReader(string(text)))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// GitHub and browsers show the files as pictures, where scripts do not run and nothing is fetched.
func TestDrawingsStandAlone(t *testing.T) {
	for name, text := range diagrams.Files() {
		for _, forbidden := range []string{"<script", "href", "@import", "<foreignObject"} {
			if strings.Contains(string(text), forbidden) {
				t.Errorf("%s has %s, want none", name, forbidden)
			}
		}
		if !strings.Contains(string(text), "prefers-color-scheme:dark") {
			t.Errorf("%s has no dark mode, want one", name)
		}
	}
}

// added is a table with one more function and its queue.
func added() ([]manifest.Function, []manifest.Queue) {
	functions := append(manifest.Functions(), manifest.Function{
		Name: "measure-tides", Timeout: time.Second,
		Trigger: manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: "tides", BatchSize: 10}}},
		Grants: []manifest.Grant{
			{Resource: manifest.QueueResource("tides"), Read: true},
			{Resource: manifest.ResourceEntries, Write: true},
			{Resource: manifest.QueueResource(manifest.QueueIngest), Write: true},
		},
	})
	return functions, append(manifest.Queues(), manifest.Queue{Name: "tides"})
}

func TestManifestAloneDecides(t *testing.T) {
	functions, queues := added()
	for name, text := range map[string]string{
		"flow":   string(diagrams.Flow(functions, queues)),
		"rights": string(diagrams.Rights(functions)),
	} {
		for _, want := range []string{">measure-tides<", "tides<"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
	for _, f := range manifest.Functions() {
		if !strings.Contains(string(diagrams.Rights(functions)), ">"+f.Name+"<") {
			t.Errorf("rights lacks %s", f.Name)
		}
	}
	for _, q := range manifest.Queues() {
		if !strings.Contains(string(diagrams.Flow(functions, queues)), ">"+string(q.Name)+"<") {
			t.Errorf("flow lacks the queue %s", q.Name)
		}
	}
}

// Queues that send to each other must not keep the layout from ending.
func TestCircles(t *testing.T) {
	worker := func(name, from, to string) manifest.Function {
		return manifest.Function{
			Name: name, Trigger: manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: manifest.QueueName(from)}}},
			Grants: []manifest.Grant{{Resource: manifest.QueueResource(manifest.QueueName(to)), Write: true}},
		}
	}
	text := string(diagrams.Flow(
		[]manifest.Function{worker("one", "a", "b"), worker("two", "b", "c"), worker("three", "c", "a")},
		[]manifest.Queue{{Name: "a"}, {Name: "b"}, {Name: "c"}}))
	if got := strings.Count(text, `class="e"`); got != 5 {
		t.Errorf("got %d edges that lead on, want 5", got)
	}
	if got := strings.Count(text, `class="e d"`); got != 1 {
		t.Errorf("got %d edges that lead back, want 1", got)
	}
}

func TestSameEveryTime(t *testing.T) {
	text := func(files map[string][]byte) map[string]string {
		texts := map[string]string{}
		for name, file := range maps.All(files) {
			texts[name] = string(file)
		}
		return texts
	}
	if diff := cmp.Diff(text(diagrams.Files()), text(diagrams.Files())); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}
