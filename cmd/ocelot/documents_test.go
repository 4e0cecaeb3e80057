//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDocuments runs the commands that README.md and the Markdown files below
// docs show, so that they stay true. The convention, by the info string of a
// fenced block:
//
//	```sh                       runs, in the order of the document, and must exit with 0
//	```sh background            runs until the document ends, for example ocelot tail
//	```sh no-run reason="…"     does not run; the reason says why
//	```sh needs=node            is skipped if the program is not installed
//	```json or ```text          directly after a sh block: what that block prints,
//	                            on standard output and standard error together
//	```json example             the same, but an id, a time or a cursor stands for any other
//	```python, ```js            is checked for its syntax, if python3 or node is installed
//	```go file=main.go          is written into the working folder, in any language
//
// In an answer "…" stands for any text, and white space of JSON does not count.
// A block with an answer runs again until the answer is right, for at most 30
// seconds: an entry is found a moment after it was sent.
//
// Each document has a service of its own with the demo data, a working folder with
// the files of testdata/documents, bin/ocelot, and the variables OCELOT_URL,
// OCELOT_TENANT and OCELOT_TOKEN as make run prints them. A document writes the
// service's address as 127.0.0.1:8080. make only checks that the targets exist. Programs of
// a document listen on ports from 8091 to 8099, for which the test takes free ones. A
// variable that a block exports is set in the blocks after it, as in a reader's terminal.
func TestDocuments(t *testing.T) {
	unsetEnvironment(t)
	for _, path := range documents(t) {
		t.Run(strings.TrimPrefix(path, repository+"/"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := parseBlocks(string(text))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			checkDocument(t, blocks)
		})
	}
}

const repository = "../.."

// documents returns the paths of README.md and of every Markdown file below docs.
func documents(t *testing.T) []string {
	t.Helper()
	paths := []string{repository + "/README.md"}
	err := filepath.WalkDir(repository+"/docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// block is one fenced block of a document.
type block struct {
	line      int // of the text's first line
	language  string
	attribute string // background, no-run or example; "" for none
	reason    string // why a block with no-run does not run
	file      string // where the text is written to, "" for nowhere
	needs     string // the program without which a sh block is skipped, "" for none
	text      string
	answer    *block // of a sh block, nil if it has none
}

var fence = regexp.MustCompile("^ {0,3}```(.*)$")

// attributes are those that a language's blocks may have.
var attributes = map[string]string{"sh": "background|no-run", "json": "example", "text": "example"}

var infoString = regexp.MustCompile(`^([a-z]*)(?: (background|no-run|example))?(?: file=([a-z]+\.[a-z]+))?(?: needs=([a-z0-9]+))?(?: reason="([^"]+)")?$`)

// parseBlocks returns a document's fenced blocks. It refuses an info string that
// is not of the convention, and commands in an indented block, which would not run.
func parseBlocks(document string) ([]*block, error) {
	var blocks []*block
	var open, before *block // before is a sh block that only blank lines follow so far
	for i, line := range strings.Split(document, "\n") {
		info := fence.FindStringSubmatch(line)
		switch {
		case open == nil && info != nil:
			b, err := parseInfo(info[1])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			b.line, open = i+2, b
		case open != nil && info != nil:
			if before != nil && (open.language == "json" || open.language == "text") {
				before.answer = open
			}
			blocks = append(blocks, open)
			before = nil
			if open.language == "sh" {
				before = open
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "    ") && strings.Contains(line, "ocelot "):
			return nil, fmt.Errorf("line %d: commands stand in a fenced sh block, so that they are tested", i+1)
		case strings.TrimSpace(line) != "":
			before = nil
		}
	}
	if open != nil {
		return nil, fmt.Errorf("the block that begins at line %d has no end", open.line-1)
	}
	return blocks, nil
}

func parseInfo(info string) (*block, error) {
	parts := infoString.FindStringSubmatch(strings.TrimSpace(info))
	if parts == nil {
		return nil, fmt.Errorf("the info string %q is not of the convention, see TestDocuments", info)
	}
	b := &block{language: parts[1], attribute: parts[2], file: parts[3], needs: parts[4], reason: parts[5]}
	if b.attribute != "" && !slices.Contains(strings.Split(attributes[b.language], "|"), b.attribute) {
		return nil, fmt.Errorf("a %s block cannot be %s", b.language, b.attribute)
	}
	if (b.attribute == "no-run") != (b.reason != "") {
		return nil, errors.New(`no-run needs reason="…", and only no-run takes one`)
	}
	if b.needs != "" && b.language != "sh" {
		return nil, errors.New("only a sh block needs a program")
	}
	if b.file != "" && (b.language == "sh" || b.language == "") {
		return nil, errors.New("a file has a language that is not sh")
	}
	return b, nil
}

// checkDocument runs a document's blocks and checks the syntax of its examples.
func checkDocument(t *testing.T, blocks []*block) {
	t.Helper()
	var shell *documentShell
	if slices.ContainsFunc(blocks, func(b *block) bool { return b.language == "sh" && b.attribute != "no-run" }) {
		shell = newDocumentShell(t)
	}
	for _, b := range blocks {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
			if b.needs != "" {
				if _, err := exec.LookPath(b.needs); err != nil {
					t.Skipf("%s is not installed: this block does not run", b.needs)
				}
			}
			switch {
			case b.file != "":
				shell.write(t, b)
			case b.language == "python":
				checkSyntax(t, b, "python3", "-c", "import ast, sys; ast.parse(sys.stdin.read())")
			case b.language == "js":
				checkSyntax(t, b, "node", "--check", "-")
			case b.attribute == "no-run":
				t.Skip(b.reason)
			case b.attribute == "background":
				shell.start(t, b)
			case b.language == "sh":
				shell.run(t, b)
			}
		})
		if t.Failed() {
			return // the next blocks build on this one
		}
	}
	if shell != nil {
		shell.end(t)
	}
}

func checkSyntax(t *testing.T, b *block, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed: the syntax of this block is not checked", program)
	}
	check := exec.CommandContext(t.Context(), program, args...)
	check.Stdin = strings.NewReader(b.text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%s: got %v, want good syntax:\n%s", program, err, out)
	}
}

// documentShell runs the sh blocks of one document.
type documentShell struct {
	folder     string
	service    *testService
	background []*backgroundBlock
	ports      map[string]string // of the document's programs: the free port for the written one
}

// newDocumentShell makes the working folder and starts the service.
func newDocumentShell(t *testing.T) *documentShell {
	t.Helper()
	folder := t.TempDir()
	program, err := exec.LookPath("ocelot")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.CopyFS(folder, os.DirFS("testdata/documents")),
		copyFile(repository+"/Makefile", filepath.Join(folder, "Makefile")),
		os.Mkdir(filepath.Join(folder, "bin"), 0o700),
		os.Symlink(program, filepath.Join(folder, "bin", "ocelot")),
	)
	if err != nil {
		t.Fatal(err)
	}
	service, err := startService(folder)
	if err != nil {
		t.Fatal(err)
	}
	shell := &documentShell{folder: folder, service: service, ports: map[string]string{}}
	t.Cleanup(func() {
		for _, b := range shell.background {
			if b.command.ProcessState == nil { // the document failed before its end
				_ = syscall.Kill(-b.command.Process.Pid, syscall.SIGKILL) // it may have ended
			}
		}
		if err := service.stop(); err != nil {
			t.Error(err)
		}
	})
	return shell
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

var programPort = regexp.MustCompile(`\b809[1-9]\b`)

// withFreePorts returns a block's text with a free port for each that its programs listen on.
func (s *documentShell) withFreePorts(t *testing.T, text string) string {
	t.Helper()
	return programPort.ReplaceAllStringFunc(text, func(port string) string {
		if s.ports[port] == "" {
			s.ports[port] = freePort(t)
		}
		return s.ports[port]
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }() // nothing connected to it
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// write writes a block's text to its file.
func (s *documentShell) write(t *testing.T, b *block) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, b.file), []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// exports is the file that carries exported variables from block to block.
const exports = ".exports"

// command returns a block's shell, whose processes form a group of their own.
func (s *documentShell) command(t *testing.T, b *block) *exec.Cmd {
	t.Helper()
	text := s.withFreePorts(t, b.text)
	if _, err := os.Stat(filepath.Join(s.folder, exports)); err == nil {
		text = ". ./" + exports + "\n" + text
	}
	if b.attribute != "background" {
		text += "\nexport -p >" + exports + "\n"
	}
	shell := exec.Command("sh", "-eu", "-c", text)
	shell.Dir = s.folder
	shell.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(s.folder, ".config"))
	for name, value := range s.service.settings {
		shell.Env = append(shell.Env, name+"="+value)
	}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return shell
}

// run runs a block until it prints its answer.
func (s *documentShell) run(t *testing.T, b *block) {
	t.Helper()
	for deadline := time.Now().Add(awaitTimeout); ; time.Sleep(100 * time.Millisecond) {
		out, err := combinedOutput(s.command(t, b), time.Until(deadline)+time.Second)
		diff := ""
		if b.answer != nil {
			diff = s.compare(b.answer, string(out))
		}
		if err == nil && diff == "" {
			return
		}
		if b.answer == nil || time.Now().After(deadline) {
			t.Fatalf("got error %v, want none; printed\n%s\n(-want +got):\n%s", err, out, diff)
		}
	}
}

// combinedOutput runs a process group and kills it after the timeout.
func combinedOutput(command *exec.Cmd, timeout time.Duration) ([]byte, error) {
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		return nil, err
	}
	kill := time.AfterFunc(timeout, func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }) // it may have ended
	defer kill.Stop()
	err := command.Wait()
	return out.Bytes(), err
}

// backgroundBlock is a block that runs until the document ends.
type backgroundBlock struct {
	*block
	command *exec.Cmd
	out     *sharedBuffer
}

// startTimeout is how long a block in the background may take until it prints something. It may compile a
// program first, on a machine that compiles much else.
const startTimeout = 3 * time.Minute

// start starts a block in the background. It returns once the block has printed something.
func (s *documentShell) start(t *testing.T, b *block) {
	t.Helper()
	run := &backgroundBlock{block: b, command: s.command(t, b), out: &sharedBuffer{}}
	run.command.Stdout, run.command.Stderr = run.out, run.out
	if err := run.command.Start(); err != nil {
		t.Fatal(err)
	}
	s.background = append(s.background, run)
	for deadline := time.Now().Add(startTimeout); run.out.String() == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("printed nothing for %v, want output", startTimeout)
		}
	}
}

// end waits for the answers of the blocks in the background, and interrupts them as Ctrl-C does.
func (s *documentShell) end(t *testing.T) {
	t.Helper()
	for _, b := range s.background {
		diff := ""
		for deadline := time.Now().Add(awaitTimeout); b.answer != nil; time.Sleep(10 * time.Millisecond) {
			if diff = s.compare(b.answer, b.out.String()); diff == "" || time.Now().After(deadline) {
				break
			}
		}
		if diff != "" {
			t.Errorf("line %d: printed\n%s\n(-want +got):\n%s", b.line, b.out, diff)
		}
		if err := syscall.Kill(-b.command.Process.Pid, syscall.SIGINT); err != nil {
			t.Errorf("line %d: %v", b.line, err)
		}
		err := b.command.Wait()
		if status := b.command.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == syscall.SIGINT {
			err = nil // the shell itself, after its command
		}
		if err != nil {
			t.Errorf("line %d: after Ctrl-C: got error %v, want none; printed\n%s", b.line, err, b.out)
		}
	}
}

// compare returns "" if the output is the answer, else the difference.
func (s *documentShell) compare(answer *block, output string) string {
	address := strings.TrimPrefix(s.service.settings["OCELOT_URL"], "http://")
	output = strings.ReplaceAll(output, address, "127.0.0.1:8080")
	for written, free := range s.ports {
		output = strings.ReplaceAll(output, "127.0.0.1:"+free, "127.0.0.1:"+written)
	}
	got := normalized(answer, output)
	want := normalized(answer, answer.text)
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*")
	if regexp.MustCompile("(?s)^" + pattern + "$").MatchString(got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// exampleValues are the values that differ from run to run, with what stands for each.
var exampleValues = []struct {
	value       *regexp.Regexp
	placeholder string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`"(cursor|next|prev)":"[^"]*"`), `"$1":"<cursor>"`},
}

// normalized is a text without the differences that the answer allows.
func normalized(answer *block, text string) string {
	text = strings.TrimSpace(text)
	if answer.language == "json" {
		text = compactJSON(text)
	}
	if answer.attribute == "example" {
		for _, e := range exampleValues {
			text = e.value.ReplaceAllString(text, e.placeholder)
		}
	}
	return text
}

var jsonStringOrSpace = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\s+`)

// compactJSON removes the white space outside of strings. The text may have "…" anywhere.
func compactJSON(text string) string {
	return jsonStringOrSpace.ReplaceAllStringFunc(text, strings.TrimSpace)
}

// sharedBuffer is a buffer that a process writes while a test reads it.
type sharedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestAnswers shows what an answer accepts.
func TestAnswers(t *testing.T) {
	shell := &documentShell{service: &testService{settings: map[string]string{"OCELOT_URL": "http://127.0.0.1:4711"}}}
	for _, tt := range []struct {
		info, answer, output string
		want                 bool
	}{
		{"json", `{"a": 1}`, "{\"a\":1}\n", true},
		{"json", `{"a": 1}`, `{"a":2}`, false},
		{"json", `{"a":"b c"}`, `{"a":"bc"}`, false},
		{"json", "{\"a\":1,\n …}", `{"a":1,"b":[2]}`, true},
		{"json", `{"id":"01a19671-c1c0-74f6-bc50-2de76710298e"}`, `{"id":"01a19671-c1c0-74f6-bc50-2de76710298f"}`, false},
		{"json example", `{"id":"01a19671-c1c0-74f6-bc50-2de76710298e"}`, `{"id":"01a19671-c1c0-74f6-bc50-2de76710298f"}`, true},
		{"json example", `{"id":"01a19671-c1c0-74f6-bc50-2de76710298e"}`, `{"id":"x"}`, false},
		{"text example", "2026-11-01T09:30:00Z ann.lee", "2026-11-02T10:31:01.123Z ann.lee\n", true},
		{"text", "http://127.0.0.1:8080/docs", "http://127.0.0.1:4711/docs", true},
		{"text", "first\n…\nlast", "first\nsecond\nthird\nlast\n", true},
		{"text", "a.c", "abc", false},
	} {
		answer, err := parseInfo(tt.info)
		if err != nil {
			t.Fatal(err)
		}
		answer.text = tt.answer
		if diff := shell.compare(answer, tt.output); (diff == "") != tt.want {
			t.Errorf("%s %q accepts %q: %v, want %v", tt.info, tt.answer, tt.output, !tt.want, tt.want)
		}
	}
}

// shellComment matches a comment of a sh block.
var shellComment = regexp.MustCompile(`(?m)(^|\s)#.*$`)

// The shell of macOS takes a comment that is pasted for words.
func TestCommandsHaveNoComments(t *testing.T) {
	for _, path := range documents(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := parseBlocks(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, b := range blocks {
			if comment := shellComment.FindString(b.text); b.language == "sh" && comment != "" {
				t.Errorf("%s: the block at line %d has the comment %q, want none", path, b.line, strings.TrimSpace(comment))
			}
		}
	}
}

// TestInfoStrings shows which documents are refused.
func TestInfoStrings(t *testing.T) {
	for _, tt := range []struct{ document, want string }{
		{"```sh\ntrue\n```\n", ""},
		{"```sh no-run reason=\"needs an account\"\nsam deploy\n```\n", ""},
		{"```sh no-run\ntrue\n```\n", "reason"},
		{"```sh reason=\"x\"\ntrue\n```\n", "reason"},
		{"```python background\n```\n", "cannot be background"},
		{"```sh background needs=go\ngo run main.go\n```\n", ""},
		{"```go file=main.go\npackage main\n```\n", ""},
		{"```go file=../main.go\npackage main\n```\n", "convention"},
		{"```go needs=go\npackage main\n```\n", "only a sh block"},
		{"```sh file=a.sh\ntrue\n```\n", "not sh"},
		{"```sh slowly\n```\n", "convention"},
		{"```sh\ntrue\n", "no end"},
		{"text\n\n    ocelot redrive\n", "fenced"},
	} {
		_, err := parseBlocks(tt.document)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v, want no error", tt.document, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %v, want an error with %q", tt.document, err, tt.want)
		}
	}
}
