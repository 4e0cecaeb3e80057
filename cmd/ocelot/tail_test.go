package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// liveSide is a service with a live stream, which plays a part for each connection.
type liveSide struct {
	t       *testing.T
	parts   [][]string // the frames of each connection, after which it is cut but for the last one
	playing sync.WaitGroup
	earlier http.HandlerFunc // the feed and the search; nil: they are not asked

	mu    sync.Mutex
	asked []string // the subscriptions
}

// ask notes a subscription and returns the frames to answer with.
func (s *liveSide) ask(subscription string) (frames []string, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, subscription)
	return s.parts[len(s.asked)-1], len(s.asked) == len(s.parts)
}

// over reports whether every part has been played.
func (s *liveSide) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) == len(s.parts)
}

func (s *liveSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.playing.Add(1)
	defer s.playing.Done()
	if s.earlier != nil && strings.HasPrefix(r.URL.Path, "/api/v1/logs") && r.URL.Path != "/api/v1/logs/stream" {
		s.earlier(w, r)
		return
	}
	if r.URL.Path != "/api/v1/logs/stream" || s.over() {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer func() { _ = conn.CloseNow() }() // that is the cut
	ctx := context.WithoutCancel(s.t.Context())
	_, message, err := conn.Read(ctx)
	if err != nil {
		s.t.Error(err)
		return
	}
	frames, last := s.ask(string(message))
	for _, frame := range frames {
		if err := conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
			s.t.Error(err)
			return
		}
	}
	if last {
		_, _, _ = conn.Read(ctx) // until the client goes
	}
}

// interrupting is standard output that ends a command once it has said a word.
type interrupting struct {
	bytes.Buffer
	word      string
	interrupt func()
}

func (w *interrupting) Write(text []byte) (int, error) {
	n, err := w.Buffer.Write(text)
	if strings.Contains(w.String(), w.word) {
		w.interrupt()
	}
	return n, err
}

// tail runs the command until it has printed the word; "" lets it end by itself.
func (s *liveSide) tail(t *testing.T, width int, word string, args ...string) result {
	t.Helper()
	unsetEnvironment(t)
	s.t = t
	server := httptest.NewServer(s)
	defer s.playing.Wait()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &interrupting{word: word, interrupt: cancel}
	if word == "" {
		out.interrupt = func() {}
	}
	var errOut bytes.Buffer
	args = append([]string{"tail", "--url", server.URL, "--token", "t", "--tenant", "acme"}, args...)
	code := run(ctx, args, &console{out: out, err: &errOut, outTerminal: width > 0, width: width, now: time.Now})
	return result{code, out.String(), errOut.String()}
}

func liveEntry(n int, action string) string {
	return fmt.Sprintf(`{"id":"01a19671-c1c0-74f6-bc50-%012x","timestamp":"2026-03-01T10:00:00.000Z","severity":"ERROR","user_id":"ada","action":"%s","resource_type":"order","metadata":{"n":12345678901234567890.0}}`, n, action)
}

// liveFrame returns a frame of entries. The place of the n-th entry is n + 1.
func liveFrame(cursor string, entries ...string) string {
	places := make([]int64, len(entries))
	for i, text := range entries {
		var entry struct{ ID string }
		if err := json.Unmarshal([]byte(text), &entry); err != nil {
			panic(err) // the texts are those of liveEntry
		}
		n, err := strconv.ParseInt(entry.ID[len(entry.ID)-12:], 16, 64)
		if err != nil {
			panic(err)
		}
		places[i] = n + 1
	}
	list := strings.ReplaceAll(fmt.Sprint(places), " ", ",")
	return fmt.Sprintf(`{"type":"entries","items":[%s],"places":%s,"cursor":%q}`, strings.Join(entries, ","), list, cursor)
}

const liveBegin = `{"type":"subscribed","cursor":"c0"}`

func TestTailGoesOnAfterACut(t *testing.T) {
	one, two, three := liveEntry(1, "A"), liveEntry(2, "B"), liveEntry(3, "LAST")
	parts := [][]string{
		{liveBegin, liveFrame("c1", one)},
		{`{"type":"subscribed","cursor":"c1"}`, liveFrame("c2", one, two), `{"type":"lagged","cursor":"c2"}`, liveFrame("c9", three)},
	}
	asked := []string{
		`{"action":"subscribe","filter":{"action":["A","B","LAST"],"q":["refund severity\u003e=ERROR"]}}`,
		`{"action":"subscribe","filter":{"action":["A","B","LAST"],"q":["refund severity\u003e=ERROR"]},"after":"c1"}`,
	}
	s := &liveSide{parts: parts}
	got := s.tail(t, 0, "LAST", "-f", "action=A", "-f", "action=B", "-f", "action=LAST", "refund", "severity>=ERROR")
	if want := one + "\n" + two + "\n" + three + "\n"; got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	} else if got.out != want {
		t.Errorf("got output %q, want %q", got.out, want)
	}
	if diff := cmp.Diff(asked, s.asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	for _, want := range []string{"Following the live stream", "No connection: ", "left out", "--after c2 ", "To continue from here: --after c9\n"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("got error output %q, want it to contain %q", got.err, want)
		}
	}
}

// An entry that arrives between the cursor and the search comes from both, and is printed once.
func TestTailBeginsWithEarlierEntries(t *testing.T) {
	received := time.Now().UTC().Format(time.RFC3339)
	entry := func(n int, action string) string {
		return strings.Replace(liveEntry(n, action), "{", `{"received_at":"`+received+`",`, 1)
	}
	one, two, three := entry(1, "A"), entry(2, "B"), entry(3, "LAST")
	for _, c := range []struct {
		name  string
		args  []string
		query string   // of the search
		pages []string // of the search, in its order
	}{
		{"the newest", []string{"-n", "2", "-f", "user_id=ada"}, "limit=2&user_id=ada", []string{two + "," + one}},
		{"since", []string{"--since", "2026-03-01T00:00:00Z"}, "from=2026-03-01T00%3A00%3A00Z&limit=1000&sort=timestamp", []string{one, two}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []string
			s := &liveSide{parts: [][]string{{`{"type":"subscribed","cursor":"now1"}`, liveFrame("c2", two), liveFrame("c3", three)}}}
			pages := c.pages
			s.earlier = func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.URL.Path[len("/api/v1"):]+"?"+r.URL.RawQuery)
				if r.URL.Path == "/api/v1/logs/feed" {
					_, _ = fmt.Fprint(w, `{"items":[],"next":"now1","more":false}`)
					return
				}
				next := "null"
				if len(pages) > 1 {
					next = `"p2"`
				}
				_, _ = fmt.Fprintf(w, `{"items":[%s],"next":%s,"prev":null}`, pages[0], next)
				pages = pages[1:]
			}
			got := s.tail(t, 0, "LAST", c.args...)
			if got.code != 0 {
				t.Fatalf("got exit code %d, want 0: %s", got.code, got.err)
			}
			if want := one + "\n" + two + "\n" + three + "\n"; got.out != want {
				t.Errorf("got output %s, want %s", got.out, want)
			}
			if want := []string{"/logs/feed?cursor=now&limit=1", "/logs?" + c.query}; !slices.Equal(asked[:2], want) {
				t.Errorf("asked for %q, want %q", asked[:2], want)
			}
			if !strings.Contains(s.asked[0], `"after":"now1"`) {
				t.Errorf("subscribed with %s, want it after the cursor of the feed", s.asked[0])
			}
		})
	}
	for _, args := range [][]string{{"-n", "1001"}, {"-n", "1", "--since", "1h"}, {"--since", "1h", "--after", "c"}, {"--since", "yesterday"}} {
		s := &liveSide{earlier: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"items":[],"next":"now1","more":false}`)
		}}
		if got := s.tail(t, 0, "", args...); got.code != 2 {
			t.Errorf("%q: got exit code %d, want 2: %s", args, got.code, got.err)
		}
	}
}

func TestTailJSON(t *testing.T) {
	s := &liveSide{parts: [][]string{{liveBegin, liveFrame("c1", liveEntry(1, "A")), liveFrame("c2", liveEntry(2, "LAST"))}}}
	got := s.tail(t, 0, "LAST", "-o", "json")
	var list struct {
		Items []json.RawMessage
		Next  string
	}
	if err := json.Unmarshal([]byte(got.out), &list); err != nil {
		t.Fatal(err)
	}
	if got.code != 0 {
		t.Errorf("exit code %d, want 0", got.code)
	}
	if list.Next != "c2" {
		t.Errorf("next is %q, want c2", list.Next)
	}
	if want := liveEntry(2, "LAST"); len(list.Items) != 2 {
		t.Errorf("got %d items, want 2", len(list.Items))
	} else if string(list.Items[1]) != want {
		t.Errorf("got second item %q, want %q", string(list.Items[1]), want)
	}
}

func TestTailTable(t *testing.T) {
	s := &liveSide{parts: [][]string{{liveBegin, liveFrame("c1", liveEntry(1, "A")), liveFrame("c2"), liveFrame("c3", liveEntry(2, "order.refunded"), liveEntry(3, `LAST\u001b`))}}}
	got := s.tail(t, 0, "LAST", "-o", "table")
	want := `TIMESTAMP                 SEVERITY  USER  ACTION  RESOURCE  MESSAGE
2026-03-01T10:00:00.000Z  ERROR     ada   A       order
2026-03-01T10:00:00.000Z  ERROR     ada   order.refunded  order
2026-03-01T10:00:00.000Z  ERROR     ada   LAST\x1b        order
`
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if got.out != want {
		t.Errorf("got output %q, want %q", got.out, want)
	}
	s = &liveSide{parts: s.parts}
	if got, want := s.tail(t, 100, "LAST").out, "\x1b[31mERROR   \x1b[0m"; !strings.Contains(got, want) {
		t.Errorf("on a terminal: got output %q, want it to contain %q", got, want)
	}
}

func TestTailKeepsItsCursor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cursor")
	for i, c := range []struct{ asked, after string }{
		{`{"action":"subscribe"}`, "c1\n"},
		{`{"action":"subscribe","after":"c1"}`, "c2\n"},
	} {
		s := &liveSide{parts: [][]string{{liveBegin, liveFrame(fmt.Sprintf("c%d", i+1), liveEntry(i, "LAST"))}}}
		if got := s.tail(t, 0, "LAST", "--cursor-file", file); got.code != 0 {
			t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
		} else if strings.Contains(got.err, "--after") {
			t.Errorf("got error output %q, want it without %q", got.err, "--after")
		}
		kept, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(kept) != c.after {
			t.Errorf("the file has %q, want %q", kept, c.after)
		}
		if s.asked[0] != c.asked {
			t.Errorf("got first message %q, want %q", s.asked[0], c.asked)
		}
	}
	s := &liveSide{parts: [][]string{{liveBegin, liveFrame("c1", liveEntry(1, "A"))}}}
	if got := s.tail(t, 0, "", "--cursor-file", filepath.Join(file, "x")); got.code != 1 {
		t.Errorf("a file that cannot be: got exit code %d, want 1: %s", got.code, got.err)
	}
}

func TestTailSaysWhyItEnds(t *testing.T) {
	refused := func(code string) [][]string {
		return [][]string{{fmt.Sprintf(`{"type":"error","error":{"status":422,"title":"Invalid","errors":[{"pointer":"/after","code":%q,"detail":"must be good"}]}}`, code)}}
	}
	for _, c := range []struct {
		name  string
		parts [][]string
		want  string
	}{
		{"not allowed", nil, "403"},
		{"an odd cursor", refused("invalid_cursor"), "/after: must be good"},
		{"the credential ends", [][]string{{liveBegin, liveFrame("c7", liveEntry(1, "A"))}}, "--after c7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &liveSide{parts: c.parts}
			if c.name == "the credential ends" {
				s.parts = append(s.parts, []string{`{"type":"error","error":{"status":403,"title":"Not allowed"}}`})
			}
			if got := s.tail(t, 0, "", "--after", "c5"); got.code != 1 {
				t.Errorf("got exit code %d, want 1: %s", got.code, got.err)
			} else if !strings.Contains(got.err, c.want) {
				t.Errorf("got error output %q, want it to contain %q", got.err, c.want)
			}
		})
	}
}
