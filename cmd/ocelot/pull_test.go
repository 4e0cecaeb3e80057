package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// feedSide is a service whose feed has entries. A cursor is a place.
type feedSide struct {
	entries []string
	places  int // the most that a page reads
	asked   []url.Values
	fail    int // the request that is refused, from 1
}

func (s *feedSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	params := r.URL.Query()
	s.asked = append(s.asked, params)
	if r.URL.Path != "/api/v1/logs/feed" || len(s.asked) == s.fail {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	begin, _ := strconv.Atoi(params.Get("cursor")) // "" is the beginning
	if params.Get("cursor") == "now" {
		begin = len(s.entries)
	}
	limit, _ := strconv.Atoi(params.Get("limit"))
	end := min(begin+min(limit, s.places), len(s.entries))
	_, _ = fmt.Fprintf(w, `{"items":[%s],"next":"%d","more":%t}`, strings.Join(s.entries[begin:end], ","), end, end < len(s.entries))
}

func (s *feedSide) start(t *testing.T) {
	t.Helper()
	unsetEnvironment(t)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("OCELOT_URL", server.URL)
	t.Setenv("OCELOT_TOKEN", "t")
	t.Setenv("OCELOT_TENANT", "acme")
}

func pullOnce(t *testing.T, args ...string) result {
	t.Helper()
	return command(t.Context(), strings.NewReader(""), 0, append([]string{"pull"}, args...)...)
}

func feedOf(n int) *feedSide { return &feedSide{entries: numbered(n).entries, places: 1000} }

// printedLines are the entries as pull prints them.
func printedLines(entries []string) string { return strings.Join(append(entries, ""), "\n") }

// TestPullContinuesAfterItsFile: the runs together print each entry once, also what arrived
// between two of them.
func TestPullContinuesAfterItsFile(t *testing.T) {
	s := feedOf(2500)
	s.start(t)
	file := filepath.Join(t.TempDir(), "cursor")
	var printed strings.Builder
	for _, args := range [][]string{{"--limit", "3"}, {}, {}} {
		got := pullOnce(t, append(args, "--cursor-file", file)...)
		if got.code != exitOK {
			t.Fatalf("got exit code %d, want 0: %s", got.code, got.err)
		}
		printed.WriteString(got.out)
		s.entries = append(s.entries, fmt.Sprintf(`{"late":%d}`, len(s.entries)))
	}
	want := s.entries[:len(s.entries)-1] // the last one came after the last run
	if diff := cmp.Diff(printedLines(want[:len(want):len(want)]), printed.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	stored, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(stored), fmt.Sprintf("%d\n", len(want)); got != want {
		t.Errorf("the file has %q, want %q", got, want)
	}
	if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
		t.Errorf("the folder has %v (%v), want the file alone", left, err)
	}
}

// TestPullStoresWhatWasPrinted: after a failure, and if the output fails, the file has the
// cursor of what was printed before.
func TestPullStoresWhatWasPrinted(t *testing.T) {
	s := feedOf(2500)
	s.fail = 3
	s.start(t)
	file := filepath.Join(t.TempDir(), "cursor")
	got := pullOnce(t, "--cursor-file", file)
	if got.code != exitFailure {
		t.Errorf("got exit code %d, want %d", got.code, exitFailure)
	}
	if got, want := strings.Count(got.out, "\n"), 2000; got != want {
		t.Errorf("printed %d lines, want %d", got, want)
	}
	wantCursor := func(want string) {
		t.Helper()
		if stored, err := os.ReadFile(file); err != nil || string(stored) != want {
			t.Errorf("the file has %q (%v), want %q", stored, err, want)
		}
	}
	wantCursor("2000\n")
	full := newConsole()
	full.out, full.err = failingWriter{}, &bytes.Buffer{}
	if code := run(t.Context(), []string{"pull", "--cursor-file", file}, full); code != exitFailure {
		t.Errorf("with a full disk: got exit code %d, want %d", code, exitFailure)
	}
	wantCursor("2000\n")
}

// failingWriter is an output that takes nothing.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestPullAsks: the filters, and no more than the limit. An empty page does not end a walk.
func TestPullAsks(t *testing.T) {
	s := feedOf(5)
	s.places = 2
	s.start(t)
	got := pullOnce(t, "--limit", "3", "--filter", "user_id=ann", "severity>=WARNING")
	if got.code != exitOK {
		t.Fatalf("got exit code %d, want 0: %s", got.code, got.err)
	}
	want := []url.Values{
		{"q": {"severity>=WARNING"}, "user_id": {"ann"}, "limit": {"3"}},
		{"q": {"severity>=WARNING"}, "user_id": {"ann"}, "limit": {"1"}, "cursor": {"2"}},
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	if want := "To continue from here: --after 3"; !strings.Contains(got.err, want) {
		t.Errorf("standard error is %q, want it to contain %q", got.err, want)
	}
	now := pullOnce(t, "--after", "now")
	if now.out != "" {
		t.Errorf("from now: printed %q, want nothing", now.out)
	}
	if now.code != exitOK {
		t.Errorf("from now: got exit code %d, want 0", now.code)
	}
}

// TestPullFollows: at the end of the log it waits, until Ctrl-C, which is no failure.
func TestPullFollows(t *testing.T) {
	s := feedOf(2)
	s.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupting{word: `{"n":1`, interrupt: cancel}
	con := newConsole()
	con.out, con.err = out, &bytes.Buffer{}
	if code := run(ctx, []string{"pull", "--follow"}, con); code != exitOK {
		t.Errorf("got exit code %d, want 0: %s", code, con.err)
	}
	if got, want := out.String(), printedLines(s.entries); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
