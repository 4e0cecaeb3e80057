package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unpinned returns the actions of a workflow that are named by a tag or branch, which others can move.
func unpinned(workflow string) (actions []string) {
	pinned := regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, use := range regexp.MustCompile(`(?m)uses: *(.+)$`).FindAllStringSubmatch(workflow, -1) {
		if !pinned.MatchString(use[1]) {
			actions = append(actions, use[1])
		}
	}
	return actions
}

func TestActionsArePinned(t *testing.T) {
	workflows, err := filepath.Glob(filepath.Join(repository, ".github", "workflows", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(workflows) < 3 {
		t.Fatalf("found %d workflows, want ci, engines and release", len(workflows))
	}
	for _, path := range workflows {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, action := range unpinned(string(text)) {
			t.Errorf("%s uses %s, want the digest of a commit and its version", filepath.Base(path), action)
		}
		if !strings.Contains(string(text), "\npermissions: {contents: read}\n") {
			t.Errorf("%s does not begin with the right to read alone", filepath.Base(path))
		}
	}
	if got := unpinned("- uses: actions/checkout@v4\n"); len(got) != 1 {
		t.Errorf("a tag counts as pinned, want it reported")
	}
}

// compose is what the tests look at in docker-compose.yml.
type compose struct {
	Services map[string]struct {
		Image       string            `json:"image"`
		Ports       []string          `json:"ports"`
		Environment map[string]string `json:"environment"`
	} `json:"services"`
}

func readCompose(t *testing.T) (c compose, text string) {
	t.Helper()
	text = read(t, "docker-compose.yml")
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c, text
}

// settingsOf returns the variables that pkg/config reads.
func settingsOf(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, match := range regexp.MustCompile(`env:"([A-Z_0-9]+)"`).FindAllStringSubmatch(read(t, "pkg/config/config.go"), -1) {
		names[match[1]] = true
	}
	if len(names) < 20 {
		t.Fatalf("found %d settings, want all of pkg/config", len(names))
	}
	return names
}

func TestComposeSetsKnownVariables(t *testing.T) {
	c, _ := readCompose(t)
	known := settingsOf(t)
	for name := range c.Services["ocelot"].Environment {
		if !known[name] {
			t.Errorf("docker-compose.yml sets %s, which pkg/config does not read", name)
		}
	}
	if len(c.Services["ocelot"].Environment) == 0 {
		t.Error("docker-compose.yml sets nothing for the service")
	}
}

// Nothing here has a password, so that nothing may be reached from another machine.
func TestComposePublishesOnLoopback(t *testing.T) {
	c, _ := readCompose(t)
	for name, service := range c.Services {
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s, want it on 127.0.0.1", name, port)
			}
		}
	}
}

// A tag can be moved by the image's owner.
func TestComposePinsEnginesByDigest(t *testing.T) {
	c, _ := readCompose(t)
	digest := regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	for _, name := range []string{"mongo", "opensearch", "elasticmq"} {
		if image := c.Services[name].Image; !digest.MatchString(image) {
			t.Errorf("%s is %q, want a digest at its end", name, image)
		}
	}
}

// What docker-compose.yml starts is what the workflow tests.
func TestComposeImagesAreTested(t *testing.T) {
	c, _ := readCompose(t)
	var engines struct {
		Jobs struct {
			Engines struct {
				Strategy struct {
					Matrix map[string][]string `json:"matrix"`
				} `json:"strategy"`
				Services map[string]struct {
					Image string `json:"image"`
				} `json:"services"`
			} `json:"engines"`
		} `json:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, ".github/workflows/engines.yml")), &engines); err != nil {
		t.Fatal(err)
	}
	job := engines.Jobs.Engines
	tested := []string{job.Services["sqs"].Image}
	for _, version := range job.Strategy.Matrix["mongo"] {
		tested = append(tested, "mongo:"+version)
	}
	for _, version := range job.Strategy.Matrix["opensearch"] {
		tested = append(tested, "opensearchproject/opensearch:"+version)
	}
	for _, name := range []string{"mongo", "opensearch", "elasticmq"} {
		image := c.Services[name].Image
		tag, _, _ := strings.Cut(image, "@") // the workflow also tests what a tag has become
		if !slices.Contains(tested, image) && !slices.Contains(tested, tag) {
			t.Errorf("%s is %q, want one of those that engines.yml tests: %v", name, image, tested)
		}
	}
}

// Each variable of docker-compose.yml stands in .env.example with its default, and no other.
func TestEnvExample(t *testing.T) {
	_, text := readCompose(t)
	used := map[string]string{}
	for _, match := range regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`).FindAllStringSubmatch(text, -1) {
		used[match[1]] = match[2]
	}
	given := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(read(t, ".env.example"), -1) {
		given[match[1]] = match[2]
	}
	if want, got := fmt.Sprint(used), fmt.Sprint(given); got != want {
		t.Errorf("got .env.example with %s, want %s, as in docker-compose.yml", got, want)
	}
	if len(slices.Collect(maps.Keys(used))) != strings.Count(text, "${") {
		t.Error("docker-compose.yml has a variable twice or without a default")
	}
}

func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	for _, want := range []string{"FROM scratch\n", "\nUSER 65532:65532\n", "COPY --chown=65532:65532 folders/ /\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}
