// Package walls checks that the linter holds the walls between packages that .golangci.yml describes.
package walls_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	module = "github.com/ocelot-audit/ocelot"
	// root is the module's folder, as seen from this one.
	root = "../.."
	// toolVariable makes a missing golangci-lint a failure, and lets the test download it.
	toolVariable = "OCELOT_TEST_WALLS"
)

// forbidden is an import that must not be possible, and the rule that has to report it.
type forbidden struct {
	name   string
	folder string // where the import is added; a folder that does not exist becomes a new package
	path   string // what is imported; a path that begins with pkg/ is one of this module
	rule   string
}

// leaf packages import nothing, so that importing them makes no cycle: a cycle would stop the linter.
var (
	leaves = []string{"pkg/leaf", "pkg/engine/leaf", "pkg/edge/leaf", "pkg/wiring/leaf", "cmd/leaf"}
	fresh  = []string{"pkg/audit/fresh", "pkg/access/fresh", "pkg/fresh", "pkg/engine/fresh", "pkg/edge/fresh", "pkg/wiring/fresh", "pkg/local/fresh",
		"pkg/testkit/fresh", "functions/fresh", "cmd/fresh", "internal/fresh", "fresh"}
)

// stacks is a module of its own in the tree, which the linter takes in a run of its own.
const stacks = "cdk"

var stackImports = []forbidden{
	{"stacks → engine", stacks, "pkg/engine/fresh", "cdk"},
	{"stacks → edge", stacks, "pkg/edge/leaf", "cdk"},
	{"stacks → wiring", stacks, "pkg/wiring/leaf", "cdk"},
	{"stacks → use case", stacks, "pkg/leaf", "cdk"},
	{"stacks → other module", stacks, "github.com/fatih/color", "cdk"},
}

var imports = []forbidden{
	{"domain → use case", "pkg/audit", "pkg/leaf", "domain"},
	{"delays → use case", "pkg/backoff", "pkg/leaf", "domain"},
	{"keyfile → use case", "pkg/keyfile", "pkg/leaf", "domain"},
	{"panics → use case", "pkg/panics", "pkg/leaf", "domain"},
	{"traces → use case", "pkg/trace", "pkg/leaf", "domain"},
	{"version → use case", "pkg/version", "pkg/leaf", "domain"},
	{"domain → other module", "pkg/audit", "github.com/google/uuid", "domain"},
	{"new package of the domain → use case", "pkg/audit/fresh", "pkg/cursor", "domain"},
	{"manifest → use case", "pkg/manifest", "pkg/cursor", "manifest"},
	{"access → use case", "pkg/access", "pkg/leaf", "access"},
	{"new package of access → engine", "pkg/access/fresh", "pkg/engine/leaf", "access"},
	{"access → HTTP", "pkg/access", "net/http", "access"},
	{"access → other module", "pkg/access", "github.com/google/uuid", "access"},
	{"use case → engine", "pkg/search", "pkg/engine/leaf", "use-cases"},
	{"register of active days → engine", "pkg/activity", "pkg/engine/leaf", "use-cases"},
	{"retention → engine", "pkg/retention", "pkg/engine/leaf", "use-cases"},
	{"legal holds → engine", "pkg/hold", "pkg/engine/leaf", "use-cases"},
	{"archive → engine", "pkg/archive", "pkg/engine/leaf", "use-cases"},
	{"cleanups → engine", "pkg/cleanup", "pkg/engine/leaf", "use-cases"},
	{"quotas → engine", "pkg/quota", "pkg/engine/leaf", "use-cases"},
	{"rotation → engine", "pkg/rotation", "pkg/engine/leaf", "use-cases"},
	{"arrival log → engine", "pkg/arrival", "pkg/engine/leaf", "use-cases"},
	{"use case → edge", "pkg/ingest", "pkg/edge/leaf", "use-cases"},
	{"use case → wiring", "pkg/tenants", "pkg/wiring/leaf", "use-cases"},
	{"use case → runner", "pkg/stream", "pkg/local/runtimehost", "use-cases"},
	{"use case → test kit", "pkg/quarantine", "pkg/testkit/enginetest", "use-cases"},
	{"use case → settings", "pkg/ingest", "pkg/config", "use-cases"},
	{"use case → AWS clients", "pkg/search", "pkg/awsconfig", "use-cases"},
	{"use case → HTTP", "pkg/ingest", "net/http", "use-cases"},
	{"use case → SQL", "pkg/export", "database/sql", "use-cases"},
	{"use case → other module", "pkg/protect", "github.com/google/uuid", "use-cases"},
	{"spelling → engine", "pkg/entryjson", "pkg/engine/leaf", "spelling"},
	{"spelling → use case", "pkg/envelope", "pkg/leaf", "spelling"},
	{"spelling → access", "pkg/cursor", "pkg/access", "spelling"},
	{"spelling → HTTP", "pkg/cursor", "net/http", "spelling"},
	{"importers → use case", "pkg/importers", "pkg/ingest", "spelling"},
	{"new use case → engine", "pkg/fresh", "pkg/engine/sqlite", "use-cases"},
	{"new use case → edge", "pkg/fresh", "pkg/edge/httpapi", "use-cases"},
	{"new use case → wiring", "pkg/fresh", "pkg/wiring", "use-cases"},
	{"new use case → unlisted package", "pkg/fresh", "pkg/samtemplate", "use-cases"},
	{"bearer → settings", "pkg/access/bearer", "pkg/config", "bearer"},
	{"AWS clients → use case", "pkg/awsconfig", "pkg/leaf", "awsconfig"},
	{"client → edge", "pkg/client", "pkg/edge/httpapi", "client"},
	{"settings → use case", "pkg/config", "pkg/leaf", "config"},
	{"prices → engine", "pkg/cost", "pkg/engine/mongostore", "cost"},
	{"prices → settings", "pkg/cost", "pkg/config", "cost"},
	{"rights → use case", "pkg/rights", "pkg/leaf", "rights"},
	{"diagrams → use case", "pkg/diagrams", "pkg/leaf", "diagrams"},
	{"template → engine", "pkg/samtemplate", "pkg/engine/sqlite", "samtemplate"},
	{"cache → use case", "pkg/ttlcache", "pkg/leaf", "ttlcache"},
	{"engine → engine", "pkg/engine/mongostore", "pkg/engine/sqsqueue", "engine"},
	{"engine → edge", "pkg/engine/fileblob", "pkg/edge/lambdaedge", "engine"},
	{"engine → wiring", "pkg/engine/fileblob", "pkg/wiring/fromenv", "engine"},
	{"engine → runner", "pkg/engine/localkeys", "pkg/local/runtimehost", "engine"},
	{"engine → settings", "pkg/engine/kmskeys", "pkg/config", "engine"},
	{"engine → manifest", "pkg/engine/sqlite", "pkg/manifest", "engine"},
	{"engine → Lambda", "pkg/engine/s3blob", "github.com/aws/aws-lambda-go/events", "engine"},
	{"engine → other module", "pkg/engine/fileblob", "github.com/google/uuid", "engine"},
	{"engine → another's database", "pkg/engine/sqsqueue", "go.mongodb.org/mongo-driver/v2/bson", "mongodb"},
	{"engine → another's index", "pkg/engine/mongostore", "github.com/opensearch-project/opensearch-go/v4", "opensearch"},
	{"full-text index → domain", "pkg/engine/sqlite/postings", "pkg/audit", "postings"},
	{"full-text index → SQL", "pkg/engine/sqlite/postings", "modernc.org/sqlite", "postings"},
	{"engine → another's file", "pkg/engine/fileblob", "modernc.org/sqlite", "sqlite"},
	{"engine → another's service", "pkg/engine/mongostore", "github.com/aws/aws-sdk-go-v2/service/s3", "aws-services"},
	{"new engine → MongoDB", "pkg/engine/fresh", "go.mongodb.org/mongo-driver/v2/mongo", "mongodb"},
	{"wiring → MongoDB", "pkg/wiring/embedded", "go.mongodb.org/mongo-driver/v2/mongo", "mongodb"},
	{"new engine → engine", "pkg/engine/fresh", "pkg/engine/sqlite", "engine"},
	{"new engine → edge", "pkg/engine/fresh", "pkg/edge/httpapi", "engine"},
	{"edge → engine", "pkg/edge/httpapi", "pkg/engine/leaf", "edge"},
	{"edge → wiring", "pkg/edge/lambdaedge", "pkg/wiring/leaf", "edge"},
	{"edge → SQL", "pkg/edge/httpapi", "database/sql", "edge"},
	{"new edge → engine", "pkg/edge/fresh", "pkg/engine/sqlite", "edge"},
	{"new edge → runner", "pkg/edge/fresh", "pkg/local/runtimehost", "edge"},
	{"edge → API description", "pkg/edge/lambdaedge", "pkg/edge/apispec", "edge"},
	{"new edge → documentation page", "pkg/edge/fresh", "pkg/edge/apidocs", "edge"},
	{"API description → engine", "pkg/edge/apispec", "pkg/engine/leaf", "api-documents"},
	{"API description → Lambda", "pkg/edge/apidocs", "github.com/aws/aws-lambda-go/events", "api-documents"},
	{"wiring → runner", "pkg/wiring/embedded", "pkg/local/runtimehost", "wiring"},
	{"new wiring → test kit", "pkg/wiring/fresh", "pkg/testkit/conformance", "wiring"},
	{"wiring → client", "pkg/wiring/queues", "pkg/client", "wiring"},
	{"wiring → API description", "pkg/wiring/fromenv", "pkg/edge/apispec", "wiring"},
	{"new wiring → documentation page", "pkg/wiring/fresh", "pkg/edge/apidocs", "wiring"},
	{"new wiring → unlisted engine", "pkg/wiring/fresh", "pkg/engine/leaf", "wiring"},
	{"wiring → other module", "pkg/wiring/records", "github.com/coder/websocket", "wiring"},
	{"generator of mains → engine", "pkg/wiring/mains", "pkg/engine/leaf", "mains"},
	{"runner → client", "pkg/local/localcloud", "pkg/client", "local"},
	{"new runner → test kit", "pkg/local/fresh", "pkg/testkit/enginetest", "local"},
	{"runner → template", "pkg/local/localcloud", "pkg/samtemplate", "local"},
	{"new runner → unlisted engine", "pkg/local/fresh", "pkg/engine/mongostore", "local"},
	{"runner → other module", "pkg/local/runtimehost", "github.com/alecthomas/kong", "local"},
	{"conformance → engine", "pkg/testkit/conformance", "pkg/engine/sqlite", "conformance"},
	{"conformance → settings", "pkg/testkit/conformance", "pkg/config", "conformance"},
	{"conformance → other module", "pkg/testkit/conformance", "github.com/google/uuid", "conformance"},
	{"jobs in tests → edge", "pkg/testkit/jobtest", "pkg/edge/httpapi", "jobtest"},
	{"new test kit → program", "pkg/testkit/fresh", "cmd/leaf", "testkit"},
	{"new test kit → engine", "pkg/testkit/fresh", "pkg/engine/sqlite", "testkit"},
	{"new test kit → edge", "pkg/testkit/fresh", "pkg/edge/httpapi", "testkit"},
	{"test kit → other module", "pkg/testkit/enginetest", "github.com/google/uuid", "testkit"},
	{"function → engine", "functions/get-log", "pkg/engine/sqlite", "functions"},
	{"new function → use case", "functions/fresh", "pkg/search", "functions"},
	{"function → API description", "functions/search-logs", "pkg/edge/apispec", "functions"},
	{"new function → documentation page", "functions/fresh", "pkg/edge/apidocs", "functions"},
	{"function → embedded engine", "functions/get-stats", "pkg/wiring/embedded", "functions"},
	{"function → other module", "functions/create-log", "github.com/google/uuid", "functions"},
	{"function of the documents → handlers", "functions/get-docs", "pkg/edge/httpapi", "document-functions"},
	{"function of the documents → database", "functions/get-openapi", "pkg/wiring/records", "document-functions"},
	{"command line → test kit", "cmd/ocelot", "pkg/testkit/enginetest", "cmd"},
	{"new command → test kit", "cmd/fresh", "pkg/testkit/conformance", "cmd"},
	{"command line → unlisted engine", "cmd/ocelot", "pkg/engine/mongostore", "cmd"},
	{"command line → other module", "cmd/ocelot", "github.com/google/uuid", "cmd"},
	{"new command → edge", "cmd/fresh", "pkg/edge/httpapi", "cmd"},
	{"new command → wiring", "cmd/fresh", "pkg/wiring/fromenv", "cmd"},
	{"benchmark → unlisted engine", "cmd/bench", "pkg/engine/sqsqueue", "bench"},
	{"benchmark → use case", "cmd/bench", "pkg/quarantine", "bench"},
	{"benchmark → other module", "cmd/bench", "github.com/alecthomas/kong", "bench"},
	{"new check → wiring", "internal/fresh", "pkg/wiring", "internal"},
	{"new folder → engine", "fresh", "pkg/engine/sqlite", "elsewhere"},
	{"new folder → edge", "fresh", "pkg/edge/httpapi", "elsewhere"},
	{"reading the environment by a module", "fresh", "github.com/caarlos0/env/v11", "settings"},
}

// TestWalls adds every forbidden import to a copy of the tree. The linter has to report each by its rule, and nothing else:
// so the untouched files pass. Files with the build tag embedded need a run of their own.
func TestWalls(t *testing.T) {
	tool := linter(t)
	tree := t.TempDir()
	copySources(t, tree)
	addPackages(t, tree)
	want := addImports(t, tree, imports)
	for _, folder := range []string{"pkg/search", "pkg/engine/sqlite", "pkg/fresh", "cmd/ocelot"} {
		file := path.Join(folder, "environment.go")
		write(t, filepath.Join(tree, file), "package "+packageOf(folder)+"\n\nimport \"os\"\n\nvar _ = os.Getenv(\"HOME\")\n")
		want[file] = "use of `os.Getenv` forbidden because \"only pkg/config reads the environment\""
	}

	const tagged = "pkg/wiring/records/tagged.go"
	write(t, filepath.Join(tree, tagged), "//go:build embedded\n\npackage records\n\nimport _ \""+module+"/pkg/local/runtimehost\"\n")

	compare(t, want, run(t, tool, tree, "./..."))
	for file := range want {
		if path.Dir(file) != path.Dir(tagged) {
			delete(want, file)
		}
	}
	want[tagged] = "import '" + module + "/pkg/local/runtimehost' is not allowed from list 'wiring'"
	compare(t, want, run(t, tool, tree, "--build-tags", "embedded", "./"+path.Dir(tagged)))
}

// TestWallsOfTheStacks does the same with the module of the stacks.
func TestWallsOfTheStacks(t *testing.T) {
	tool := linter(t)
	tree := t.TempDir()
	copySources(t, tree)
	addPackages(t, tree)
	compare(t, addImports(t, tree, stackImports), run(t, tool, filepath.Join(tree, stacks), "./..."))
}

// addPackages adds the packages that are new.
func addPackages(t *testing.T, tree string) {
	t.Helper()
	for _, folder := range slices.Concat(leaves, fresh) {
		write(t, filepath.Join(tree, folder, "new.go"), "package "+packageOf(folder)+"\n")
	}
}

// addImports adds each import in a file of its own, and returns what the linter has to report of each file.
func addImports(t *testing.T, tree string, imports []forbidden) map[string]string {
	t.Helper()
	want := map[string]string{}
	for i, f := range imports {
		file := path.Join(f.folder, fmt.Sprintf("wall%d.go", i))
		imported := f.path
		if top, _, _ := strings.Cut(imported, "/"); top == "pkg" || top == "cmd" {
			imported = module + "/" + imported
		}
		write(t, filepath.Join(tree, file), fmt.Sprintf("package %s\n\nimport _ %q\n", packageOf(f.folder), imported))
		want[file] = fmt.Sprintf("import '%s' is not allowed from list '%s'", imported, f.rule)
	}
	return want
}

// compare checks what the linter reports, by file.
func compare(t *testing.T, want map[string]string, issues []issue) {
	t.Helper()
	got := map[string]string{}
	for _, issue := range issues {
		if _, twice := got[issue.Pos.Filename]; twice {
			t.Errorf("%s is reported twice, want once: %s", issue.Pos.Filename, issue.Text)
		}
		text, _, _ := strings.Cut(issue.Text, ": ")
		got[issue.Pos.Filename] = text
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the linter reports (-want +got):\n%s", diff)
	}
}

// TestFunctionsLinkNoDescription checks that only the functions that return the API's description and its page link them,
// whatever way an import takes.
func TestFunctionsLinkNoDescription(t *testing.T) {
	want := map[string][]string{
		"functions/get-docs":    {"pkg/edge/apidocs"},
		"functions/get-openapi": {"pkg/edge/apispec"},
	}
	for _, tags := range []string{"", "embedded"} {
		cmd := exec.Command("go", "list", "-tags", tags, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./functions/...")
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][]string{}
		for line := range strings.Lines(string(out)) {
			packages := strings.Fields(strings.ReplaceAll(line, module+"/", ""))
			for _, linked := range packages[1:] {
				if linked == "pkg/edge/apidocs" || linked == "pkg/edge/apispec" {
					got[packages[0]] = append(got[packages[0]], linked)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with the build tag %q, what functions link (-want +got):\n%s", tags, diff)
		}
	}
}

// TestWallsCoverRules checks that every rule of .golangci.yml has a forbidden import above.
func TestWallsCoverRules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "    depguard:\n      rules:\n")
	section, _, _ = strings.Cut(section, "\n    forbidigo:")
	var rules []string
	for _, match := range regexp.MustCompile(`(?m)^        ([a-z-]+):$`).FindAllStringSubmatch(section, -1) {
		rules = append(rules, match[1])
	}
	var tried []string
	for _, f := range slices.Concat(imports, stackImports) {
		tried = append(tried, f.rule)
	}
	slices.Sort(rules)
	slices.Sort(tried)
	if diff := cmp.Diff(rules, slices.Compact(tried)); diff != "" {
		t.Errorf("rules with a forbidden import (-want of .golangci.yml +got):\n%s", diff)
	}
}

type issue struct {
	Text string
	Pos  struct{ Filename string }
}

func run(t *testing.T, tool, tree string, args ...string) []issue {
	t.Helper()
	args = append([]string{"run", "--enable-only", "depguard,forbidigo", "--tests=false", "--output.json.path", "stdout", "--show-stats=false", "--allow-parallel-runners"}, args...)
	cmd := exec.Command(tool, args...)
	cmd.Dir = tree
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var report struct{ Issues []issue }
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("golangci-lint: %v\n%s\n%s", err, out, exit.Stderr)
	}
	return report.Issues
}

// linter builds golangci-lint in the version that the Makefile names.
func linter(t *testing.T) string {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^GOLANGCI_LINT\s*:= (\S+)@(\S+)$`).FindStringSubmatch(string(makefile))
	if match == nil {
		t.Fatal("the Makefile does not name golangci-lint, want a line GOLANGCI_LINT := path@version")
	}
	bin := t.TempDir()
	cmd := exec.Command("go", "install", match[1]+"@"+match[2])
	cmd.Env = append(os.Environ(), "GOBIN="+bin)
	wanted := os.Getenv(toolVariable) != ""
	if !wanted {
		if testing.Short() {
			t.Skip("the linter takes a while: run `make verify`")
		}
		cmd.Env = append(cmd.Env, "GOPROXY=off")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if !wanted {
			t.Skipf("golangci-lint %s is not on this machine: `make verify` downloads it and runs this test", match[2])
		}
		t.Fatalf("install golangci-lint: %v\n%s", err, out)
	}
	return filepath.Join(bin, path.Base(match[1]))
}

// copySources copies the module's Go files, what they embed and the linter's configuration.
func copySources(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == "bin" || name == "cdk/cdk.out" || name != "." && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func packageOf(folder string) string {
	switch parent, name := path.Split(folder); {
	case slices.Contains(leaves, folder):
		return name
	case parent == "functions/", parent == "cmd/", folder == stacks:
		return "main"
	default:
		return name
	}
}
