package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/keyfile"
)

// service is a strict stand-in for the bulk endpoint: it stores each identity
// once, rejects what has no action, and may fail a number of requests first.
type service struct {
	t        *testing.T
	url      string
	mu       sync.Mutex
	entries  map[string]map[string]json.RawMessage // by identity
	order    []string
	requests int
	sizes    []int // entries in each request
	status   func(request int) int
	// unavailable says which requests reject each entry for now.
	unavailable func(request int) bool
	received    chan struct{} // told of each request
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, entries: map[string]map[string]json.RawMessage{}, received: make(chan struct{}, 1000)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// command runs a command line that speaks to the service.
func (s *service) command(stdin string, args ...string) result {
	unsetEnvironment(s.t)
	s.t.Setenv("OCELOT_LINE_KEY", testLineKey)
	args = append([]string{args[0], "--url", s.url, "--token", "t", "--tenant", "acme"}, args[1:]...)
	return command(s.t.Context(), strings.NewReader(stdin), 0, args...)
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.received <- struct{}{} }()
	decoder, err := zstd.NewReader(r.Body)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer decoder.Close()
	body, err := io.ReadAll(decoder)
	if err != nil {
		s.t.Error(err)
		return
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	s.requests++
	if len(lines) > audit.MaxBulkEntries {
		s.t.Errorf("got %d lines, want at most %d", len(lines), audit.MaxBulkEntries)
	}
	if len(body) > audit.MaxBulkUnpacked {
		s.t.Errorf("got %d bytes of body, want at most %d", len(body), audit.MaxBulkUnpacked)
	}
	if r.ContentLength > audit.MaxBulkWire {
		s.t.Errorf("got content length %d, want at most %d", r.ContentLength, audit.MaxBulkWire)
	}
	s.sizes = append(s.sizes, len(lines))
	answer := s.take(lines)
	if s.status != nil && s.status(s.requests) != 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(s.status(s.requests)) // after all was stored: the worst moment
		_, _ = fmt.Fprintf(w, `{"title":"T","status":%d,"detail":"why \u001b[31m"}`, s.status(s.requests))
		return
	}
	_, _ = io.WriteString(w, answer)
}

// take stores the lines and returns the answer's text.
func (s *service) take(lines [][]byte) string {
	accepted, rejected := 0, 0
	var items []string
	for i, line := range lines {
		var entry map[string]json.RawMessage
		if err := json.Unmarshal(line, &entry); err != nil || entry["action"] == nil {
			rejected++
			items = append(items, fmt.Sprintf(`{"index":%d,"status":"rejected","error":{"status":422,"errors":[{"pointer":"/action","detail":"is required"}]}}`, i))
			continue
		}
		if s.unavailable != nil && s.unavailable(s.requests) {
			rejected++
			items = append(items, fmt.Sprintf(`{"index":%d,"status":"rejected","error":{"status":503,"detail":"try again later"}}`, i))
			continue
		}
		accepted++
		items = append(items, fmt.Sprintf(`{"index":%d,"id":"x","status":"accepted"}`, i))
		identity := string(entry["id"])
		if identity == "" {
			identity = string(entry["timestamp"]) + string(entry["idempotency_key"])
		}
		if identity == "" {
			s.t.Errorf("%s: got no identity, want one", line)
		}
		if string(entry["idempotency_key"]) == "null" {
			s.t.Errorf("%s: got a null idempotency_key, want a value or none", line)
		}
		if _, has := s.entries[identity]; !has {
			s.entries[identity] = entry
			s.order = append(s.order, identity)
		}
	}
	return fmt.Sprintf(`{"accepted":%d,"duplicate":0,"filtered":0,"expired":0,"rejected":%d,"items":[%s]}`, accepted, rejected, strings.Join(items, ","))
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"action\":\"VIEW\",\"timestamp\":\"2026-03-01T10:00:00Z\",\"n\":%d}\n", i)
	}
	return b.String()
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSendAgainAddsNothing(t *testing.T) {
	s := newService(t)
	for range 2 {
		got := s.command(lines(1234), "send", "--batch", "100", "--concurrency", "3")
		if got.code != 0 {
			t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
		}
		if got.out != `{"accepted":1234,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":0}`+"\n" {
			t.Errorf("got output %q, want %q", got.out, `{"accepted":1234,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":0}`+"\n")
		}
		if got.err != "" {
			t.Errorf("got error output %q, want none", got.err)
		}
	}
	if len(s.entries) != 1234 {
		t.Errorf("got %d entries, want 1234", len(s.entries))
	}
	if s.requests != 26 {
		t.Errorf("got %d requests, want 26", s.requests)
	}
}

func TestSendRepeatsRequestsThatFailed(t *testing.T) {
	s := newService(t)
	s.status = func(request int) int {
		if request%2 == 1 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	got := s.command(lines(20)+"{\"action\":\"A\"}\n{\"action\":\"A\"}\n", "send", "--batch", "11", "--concurrency", "1")
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if !strings.Contains(got.out, `"accepted":22`) {
		t.Errorf("got output %q, want it to contain %q", got.out, `"accepted":22`)
	}
	// Two equal lines without a timestamp are two events.
	if len(s.entries) != 22 {
		t.Errorf("got %d entries, want 22", len(s.entries))
	}
	if s.requests != 4 {
		t.Errorf("got %d requests, want 4", s.requests)
	}
}

func TestSendRepeatsEntriesThatAreRejectedForNow(t *testing.T) {
	s := newService(t)
	s.unavailable = func(request int) bool { return request < 3 }
	got := s.command(lines(2)+"{\"no action\":1}\n", "send")
	if got.code != 1 {
		t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
	}
	if want := `{"accepted":2,"duplicate":0,"filtered":0,"expired":0,"rejected":1,"skipped":0}`; got.lastLine() != want {
		t.Errorf("got last line %q, want %q", got.lastLine(), want)
	}
	if want := []int{3, 2, 2}; !slices.Equal(s.sizes, want) {
		t.Errorf("sent requests of %d entries, want %d", s.sizes, want)
	}
	if strings.Contains(got.err, "later") {
		t.Errorf("got error output %q, want none about entries that were accepted later", got.err)
	}
}

func TestSendTellsWhatIsRejected(t *testing.T) {
	s := newService(t)
	file := write(t, filepath.Join(t.TempDir(), "a.ndjson"),
		"\ufeff{\"action\":\"A\"}\r\n\n  {\"n\":1}\nnot json\n"+`{"action":"`+strings.Repeat("x", maxText)+"\"}\n"+`{"action":"last"}`)
	got := s.command("", "send", file)
	if got.code != 1 {
		t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
	}
	if got.lastLine() != `{"accepted":2,"duplicate":0,"filtered":0,"expired":0,"rejected":3,"skipped":0}` {
		t.Errorf("got last line %q, want %q", got.lastLine(), `{"accepted":2,"duplicate":0,"filtered":0,"expired":0,"rejected":3,"skipped":0}`)
	}
	told := strings.Split(strings.TrimSpace(got.err), "\n")
	slices.Sort(told)
	want := []string{file + ":3: /action: is required", file + ":4: /action: is required", file + ":5: is longer than 1048576 bytes"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("error output (-want +got):\n%s", diff)
	}
}

// What the service or ocelot itself rejects is kept as it was sent, with its identity, so that it
// can be mended and sent again.
func TestSendKeepsRejects(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "a.json"), "[\n"+`{"n":1,"timestamp":"2026-03-01T10:00:00Z"},`+"\n"+`{"eventName":"N","eventSource":"s","eventTime":null,"CloudTrailEvent":"["}]`)
	rejects := filepath.Join(dir, "rejects.ndjson")
	got := s.command("", "send", "--rejects", rejects, file)
	if got.code != 1 {
		t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
	}
	kept, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	sorted := strings.Split(strings.TrimSpace(string(kept)), "\n")
	slices.Sort(sorted)
	if len(sorted) != 2 {
		t.Fatalf("got rejects %q, want 2 lines", kept)
	}
	if sorted[0] != "[" {
		t.Errorf("got %q, want the record as it was read", sorted[0])
	}
	if cutHash(t, sorted[1]) != `{"idempotency_key":","n":1,"timestamp":"2026-03-01T10:00:00Z"}` {
		t.Errorf("got %q, want the entry with its identity", sorted[1])
	}
	if got := s.command("", "send", "--rejects", rejects, file); got.code != 1 || !strings.Contains(got.err, "exists") {
		t.Errorf("got exit code %d, %q, want 1 for a file that exists", got.code, got.err)
	}
}

// Equal lines are as many entries, in one file and in several, and sending them again in any order
// adds none.
func TestSendCountsEqualLines(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	line := `{"action":"login.failed","timestamp":"2026-03-01T10:00:00Z"}` + "\n"
	one := write(t, filepath.Join(dir, "1.ndjson"), strings.Repeat(line, 3))
	two := write(t, filepath.Join(dir, "2.ndjson"), strings.Repeat(line, 2))
	for _, files := range [][]string{{one, two}, {two, one}, {dir}, {two}, {one}} {
		got := s.command("", append([]string{"send"}, files...)...)
		if got.code != 0 {
			t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
		}
		if len(s.entries) != 5 {
			t.Errorf("%v: got %d entries, want 5", files, len(s.entries))
		}
	}
	got := s.command("", "send", one, dir)
	if want := `{"accepted":5,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":1}`; got.lastLine() != want {
		t.Errorf("got %q, want %q", got.lastLine(), want)
	}
	if !strings.Contains(got.err, one+": passed over: it was read before") {
		t.Errorf("got error output %q, want it to say that a file was read before", got.err)
	}
}

// Equal lines never share a number, whatever is counted beside them.
func TestOccurrencesBeyondTheExactOnes(t *testing.T) {
	var first [][32]byte
	for range 2 {
		o := occurrences{limit: 10}
		for i := range 1000 {
			sum := sha256.Sum256([]byte{byte(i % 50)})
			n := o.next(sum)
			if want := uint32(i/50 + 1); n != want {
				t.Fatalf("line %d: got number %d, want %d", i, n, want)
			}
			first = append(first, sum)
		}
	}
	o := occurrences{limit: 1, sketch: make([]uint32, sketchRows*sketchColumns)}
	for i := range o.sketch {
		o.sketch[i] = 7 // every counter is shared with others
	}
	o.next(first[0])
	if a, b := o.next(first[1]), o.next(first[1]); b <= a {
		t.Errorf("got number %d after %d, want a higher one", b, a)
	}
}

// Logs are found by what they begin with if their names do not tell.
func TestSendReadsFilesOfAFolderByTheirContent(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	line := func(n int) string {
		return fmt.Sprintf(`{"action":"a","timestamp":"2026-03-01T10:00:0%dZ"}`, n) + "\n"
	}
	write(t, filepath.Join(dir, "audit.log.1"), line(1))
	write(t, filepath.Join(dir, "audit.log.2.gz"), gzipped(t, line(2)))
	write(t, filepath.Join(dir, "firehose-1-2026-03-01"), gzipped(t, " \n["+line(3)+"]"))
	write(t, filepath.Join(dir, "part.gz"), gzipped(t, gzipped(t, line(4))))
	write(t, filepath.Join(dir, "bom"), "\ufeff"+line(5))
	write(t, filepath.Join(dir, "README.md"), "# Logs")
	write(t, filepath.Join(dir, "table.csv.gz"), gzipped(t, "a,b\n"))
	write(t, filepath.Join(dir, "empty"), "")
	got := s.command("", "send", dir)
	if want := `{"accepted":5,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":3}`; got.lastLine() != want {
		t.Errorf("got %q, want %q: %s", got.lastLine(), want, got.err)
	}
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	cut := write(t, filepath.Join(dir, "cut"), gzipped(t, line(6))[:15])
	if got := s.command("", "send", dir); got.code != 1 || !strings.Contains(got.err, cut) {
		t.Errorf("a file that cannot be unpacked: got exit code %d and %q, want 1 and the file's name", got.code, got.err)
	}
}

// A folder without logs is a mistake in its name more often than not.
func TestSendOfAFolderWithoutLogsFails(t *testing.T) {
	s := newService(t)
	for name, files := range map[string][]string{"nothing": nil, "other files": {"a.md", "b.png"}} {
		dir := t.TempDir()
		for _, file := range files {
			write(t, filepath.Join(dir, file), "text")
		}
		got := s.command("", "send", dir)
		if got.code != 1 {
			t.Errorf("%s: got exit code %d, want 1", name, got.code)
		}
		if want := dir + ": has no file of records"; !strings.Contains(got.err, want) {
			t.Errorf("%s: got error output %q, want it to contain %q", name, got.err, want)
		}
	}
}

func TestSendPassesOverDigests(t *testing.T) {
	s := newService(t)
	dir := filepath.Join(t.TempDir(), "AWSLogs/111122223333")
	record := `{"eventTime":"2026-03-01T10:00:00Z","eventID":"e1","eventName":"N","eventSource":"s3.amazonaws.com"}`
	write(t, filepath.Join(dir, "CloudTrail/eu-west-3/2026/03/01/a.json.gz"), gzipped(t, `{"Records":[`+record+`]}`))
	digest := write(t, filepath.Join(dir, "CloudTrail-Digest/eu-west-3/2026/03/01/d.json.gz"),
		gzipped(t, `{"awsAccountId":"111122223333","digestStartTime":"2026-03-01T09:00:00Z","digestEndTime":"2026-03-01T10:00:00Z","logFiles":[]}`))
	got := s.command("", "send", dir)
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if want := `{"accepted":1,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":1}`; got.lastLine() != want {
		t.Errorf("got %q, want %q", got.lastLine(), want)
	}
	if !strings.Contains(got.err, digest+":1: passed over") {
		t.Errorf("got error output %q, want it to name %s", got.err, digest)
	}
	if _, has := s.entries[`"2026-03-01T10:00:00Z""e1"`]["ip_address"]; has {
		t.Error("the entry has an ip_address, want none: the record has none")
	}
}

func TestSendStopsWhenRefused(t *testing.T) {
	s := newService(t)
	s.status = func(int) int { return http.StatusForbidden }
	got := s.command(lines(5000), "send", "--batch", "10", "--concurrency", "1")
	if got.code != 1 {
		t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
	}
	if got.lastLine() != `{"accepted":0,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":0}` {
		t.Errorf("got last line %q, want %q", got.lastLine(), `{"accepted":0,"duplicate":0,"filtered":0,"expired":0,"rejected":0,"skipped":0}`)
	}
	if !strings.Contains(got.err, `-:1 to -:10 not acknowledged`) {
		t.Errorf("got error output %q, want it to contain %q", got.err, `-:1 to -:10 not acknowledged`)
	}
	if !strings.Contains(got.err, "ocelot: stopped: ") {
		t.Errorf("got error output %q, want it to contain %q", got.err, "ocelot: stopped: ")
	}
	if !strings.Contains(got.err, `403 T: why \x1b[31m`) {
		t.Errorf("got error output %q, want it to contain %q", got.err, `403 T: why \x1b[31m`)
	}
	if s.requests > 3 {
		t.Errorf("sent %d requests, want at most 3", s.requests)
	}
}

func TestSendReadsFilesFoldersPatternsAndGzip(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	entry := func(action string) string { return fmt.Sprintf("{\"id\":%q,\"action\":%q}\n", action, action) }
	write(t, filepath.Join(dir, "logs/b.ndjson.gz"), gzipped(t, entry("b")))
	write(t, filepath.Join(dir, "logs/deep/a.jsonl"), entry("a"))
	write(t, filepath.Join(dir, "logs/readme.txt"), "no entries")
	write(t, filepath.Join(dir, "x1.log"), entry("x1"))
	write(t, filepath.Join(dir, "x2.log"), gzipped(t, entry("x2"))+gzipped(t, entry("x3")))
	got := s.command(entry("stdin"), "send", "--concurrency", "1", filepath.Join(dir, "x*.log"), filepath.Join(dir, "logs"), "-")
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if !slices.Equal(s.order, []string{`"x1"`, `"x2"`, `"x3"`, `"b"`, `"a"`, `"stdin"`}) {
		t.Errorf("got order %q, want %q", s.order, []string{`"x1"`, `"x2"`, `"x3"`, `"b"`, `"a"`, `"stdin"`})
	}
}

func TestSendGoesOnAfterABrokenFile(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	broken := gzipped(t, lines(5000))
	write(t, filepath.Join(dir, "1.ndjson.gz"), broken[:len(broken)/2])
	write(t, filepath.Join(dir, "2.ndjson"), `{"id":"two","action":"A"}`)
	got := s.command("", "send", dir)
	if got.code != 1 {
		t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
	}
	if !strings.Contains(got.err, "1.ndjson.gz") {
		t.Errorf("got error output %q, want it to contain %q", got.err, "1.ndjson.gz")
	}
	if s.entries[`"two"`] == nil {
		t.Errorf("got entries %v, want %q among them", s.entries, "two")
	}
}

func TestSendCloudTrail(t *testing.T) {
	s := newService(t)
	record := func(n int) string {
		return fmt.Sprintf(`{"eventTime":"2026-03-01T10:00:00Z","eventID":"e%d","eventName":"N","odd":[1.50,12345678901234567890]}`, n)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1.json.gz"), gzipped(t, `{"Records":[`+record(1)+","+record(2)+`]}`))
	broken := write(t, filepath.Join(dir, "2.json"), `{"Records":[`+record(3)+`,{"a":NaN},`+record(4)+`]}`)
	write(t, filepath.Join(dir, "3.json"), `{"Records":[`+record(5)+`,7]}`)
	for range 2 {
		got := s.command("", "send", "--format", "cloudtrail", dir)
		if got.code != 1 {
			t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
		}
		if !strings.Contains(got.out, `"accepted":4,`) {
			t.Errorf("got output %q, want it to contain %q", got.out, `"accepted":4,`)
		}
		if !strings.Contains(got.out, `"rejected":1,"skipped":0}`) {
			t.Errorf("got output %q, want it to contain %q", got.out, `"rejected":1,"skipped":0}`)
		}
		if !strings.Contains(got.err, broken+":1: record 2: the rest of the file is skipped") {
			t.Errorf("got error output %q, want it to contain %q", got.err, broken+":1: record 2: the rest of the file is skipped")
		}
		if !strings.Contains(got.err, "3.json:1: record 2: is no JSON object") {
			t.Errorf("got error output %q, want it to contain %q", got.err, "3.json:1: record 2: is no JSON object")
		}
	}
	if len(s.entries) != 4 {
		t.Errorf("got %d entries, want 4", len(s.entries))
	}
	if string(s.entries[`"2026-03-01T10:00:00Z""e1"`]["metadata"]) != record(1) {
		t.Errorf("got metadata %q, want %q", string(s.entries[`"2026-03-01T10:00:00Z""e1"`]["metadata"]), record(1))
	}
}

// Large entries make smaller batches.
func TestSendKeepsRequestsSmall(t *testing.T) {
	s := newService(t)
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "{\"id\":\"%d\",\"action\":\"A\",\"x\":%q}\n", i, strings.Repeat("y", 250<<10))
	}
	switch got := s.command(b.String(), "send"); {
	case got.code != 0:
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	case len(s.entries) != 40:
		t.Errorf("got %d entries, want 40", len(s.entries))
	case s.requests < 3:
		t.Errorf("got %d requests, want at least 3", s.requests)
	}
}

// What trickles in is sent without waiting for a full batch, and an interrupt
// ends a command that waits for more.
func TestSendFollowsAStreamUntilInterrupted(t *testing.T) {
	s := newService(t)
	unsetEnvironment(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	in, stdin := io.Pipe()
	defer func() { _ = stdin.Close() }()
	done := make(chan result, 1)
	go func() {
		done <- command(ctx, in, 0, "send", "--url", s.url, "--token", "t", "--tenant", "acme")
	}()
	if _, err := io.WriteString(stdin, `{"id":"one","action":"A"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	wait := time.After(20 * time.Second)
	select {
	case <-s.received:
	case <-wait:
		t.Fatal("got no request within 20s, want the entry sent")
	}
	time.Sleep(time.Second) // the answer is under way
	cancel(errors.New("interrupt signal received"))
	select {
	case got := <-done:
		if got.code != 1 {
			t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
		}
		if !strings.Contains(got.out, `"accepted":1,`) {
			t.Errorf("got output %q, want it to contain %q", got.out, `"accepted":1,`)
		}
		if !strings.Contains(got.err, "interrupt") {
			t.Errorf("got error output %q, want it to contain %q", got.err, "interrupt")
		}
	case <-wait:
		t.Fatal("the command still runs 20s after its start, want it ended by the interrupt")
	}
}

// testLineKey is the line key of commands that speak to a service.
const testLineKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// testIdentifier has a fixed clock, key and randomness.
func testIdentifier() *identifier {
	return &identifier{
		now: func() time.Time { return testTime }, random: func(b []byte) { clear(b) },
		key: func() ([]byte, error) { return bytes.Repeat([]byte{7}, keyfile.Size), nil },
	}
}

// identified returns the line with its identity.
func identified(t interface{ Fatal(args ...any) }, i *identifier, line string) string {
	text, err := i.identify([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestIdentify(t *testing.T) {
	i := testIdentifier()
	id := `"id":"` + audit.NewEntryID(testTime, [10]byte{}).String() + `"`
	const now = `"timestamp":"2026-03-01T10:20:30.456Z"`
	for _, c := range []struct{ line, want string }{
		{`{"id":"x"}`, `{"id":"x"}`},
		{`{"idempotency_key":"x","timestamp":"t"}`, `{"idempotency_key":"x","timestamp":"t"}`},
		{`{"a":{"id":"x"}}`, `{` + now + `,` + id + `,"a":{"id":"x"}}`},
		{`{}`, `{` + now + `,` + id + `}`},
		{`{ }`, `{` + now + `,` + id + ` }`},
		{`{"id":null, "timestamp" : null }`, `{` + id + `, "timestamp" : "2026-03-01T10:20:30.456Z" }`},
		{`{"idempotency_key":null}`, `{` + now + `,` + id + `,"idempotency_key":null}`},
		{`{"timestamp":"t","idempotency_key": null,"b":1}`,
			`{"timestamp":"t","idempotency_key": "hmac-sha256:6e41e8a9ff8c61d0f80ceb6e4b06d7d56c68ed8e3e4dda4b5bb3fb5bdb1cdcef","b":1}`},
		{`[1]`, `[1]`}, {`{"a":`, `{"a":`}, {`{"a":1`, `{"a":1`}, {`{"a" 1}`, `{"a" 1}`}, {`nonsense`, `nonsense`}, {``, ``},
	} {
		got := identified(t, i, c.line)
		if strings.Contains(c.want, lineKeyPrefix) { // the hash is checked for being one
			got, c.want = cutHash(t, got), cutHash(t, c.want)
		}
		if got != c.want {
			t.Errorf("%s\nbecomes %s\nwant    %s", c.line, got, c.want)
		}
	}
}

func cutHash(t *testing.T, text string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, lineKeyPrefix)
	hash, after, closed := strings.Cut(rest, `"`)
	if !ok {
		t.Error("ok is false, want true")
	}
	if !closed {
		t.Error("closed is false, want true")
	}
	if len(hash) != 64 {
		t.Errorf("got %d bytes of hash, want 64", len(hash))
	}
	return before + after
}

// An identity adds to an entry and changes nothing else of it.
func TestIdentifyKeepsTheEntry(t *testing.T) {
	i := testIdentifier()
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.MapOf(rapid.SampledFrom([]string{"id", "timestamp", "idempotency_key", "action", "", `q"`, "metadata"}),
			rapid.SampledFrom([]any{nil, "x", 1.5, `{"id":1}`, []any{nil}})).Draw(t, "entry")
		line, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		text := []byte(identified(t, i, string(line)))
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s becomes %s: %v", line, text, err)
		}
		switch {
		case got["id"] != nil:
		case got["idempotency_key"] == nil:
			t.Fatalf("%s becomes %s, want it with an id or an idempotency key", line, text)
		case got["timestamp"] == nil && entry["idempotency_key"] == nil:
			t.Fatalf("%s becomes %s, want a timestamp beside the new idempotency key", line, text)
		}
		for name, value := range entry {
			if value != nil && !cmp.Equal(got[name], value) {
				t.Fatalf("%s becomes %s: got %s %v, want %v", line, text, name, got[name], value)
			}
		}
		if again := identified(t, i, string(text)); again != string(text) {
			t.Fatalf("identified again: got %s, want %s", again, text)
		}
	})
}
