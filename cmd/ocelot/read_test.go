package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"
	"pgregory.net/rapid"
)

// readSide is a service that has entries and answers lists by pages.
type readSide struct {
	entries []string
	stats   string
	asked   []url.Values
}

func (s *readSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	params := r.URL.Query()
	s.asked = append(s.asked, params)
	if r.URL.Path == "/api/v1/logs/stats" {
		_, _ = fmt.Fprint(w, s.stats)
		return
	}
	begin, _ := strconv.Atoi(params.Get("cursor")) // "" is the beginning
	limit, _ := strconv.Atoi(params.Get("limit"))
	end := min(begin+limit, len(s.entries))
	next := "null"
	if end < len(s.entries) {
		next = fmt.Sprintf("%q", strconv.Itoa(end))
	}
	_, _ = fmt.Fprintf(w, `{"items":[%s],"next":%s,"prev":null}`, strings.Join(s.entries[begin:end], ","), next)
}

// read runs a command line against the service.
func (s *readSide) read(t *testing.T, width int, args ...string) result {
	t.Helper()
	unsetEnvironment(t)
	server := httptest.NewServer(s)
	defer server.Close()
	t.Setenv("OCELOT_URL", server.URL)
	t.Setenv("OCELOT_TOKEN", "t")
	t.Setenv("OCELOT_TENANT", "acme")
	return command(t.Context(), strings.NewReader(""), width, args...)
}

func numbered(n int) *readSide {
	s := &readSide{}
	for i := range n {
		s.entries = append(s.entries, fmt.Sprintf(`{"n":%d,"big":12345678901234567890.0}`, i))
	}
	return s
}

func TestSearchPages(t *testing.T) {
	for _, c := range []struct {
		args  []string
		want  int
		limit []string // asked for, page by page
		next  string
	}{
		{nil, 50, []string{"50"}, `"50"`},
		{[]string{"--limit", "3"}, 3, []string{"3"}, `"3"`},
		{[]string{"--limit", "1500"}, 1500, []string{"1000", "500"}, `"1500"`},
		{[]string{"--limit", "9999"}, 2345, []string{"1000", "1000", "1000"}, "null"},
		{[]string{"--all"}, 2345, []string{"1000", "1000", "1000"}, "null"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := numbered(2345)
			got := s.read(t, 0, append([]string{"search"}, c.args...)...)
			printed := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
			switch {
			case got.code != 0:
				t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
			case len(printed) != c.want:
				t.Errorf("got %d lines, want %d", len(printed), c.want)
			case printed[0] != s.entries[0]:
				t.Errorf("got first line %q, want %q", printed[0], s.entries[0])
			case printed[c.want-1] != s.entries[c.want-1]:
				t.Errorf("got last line %q, want %q", printed[c.want-1], s.entries[c.want-1])
			}
			var limits []string
			for _, params := range s.asked {
				limits = append(limits, params.Get("limit"))
			}
			if diff := cmp.Diff(c.limit, limits); diff != "" {
				t.Errorf("limits asked for (-want +got):\n%s", diff)
			}
			document := numbered(2345).read(t, 0, append([]string{"search", "-o", "json"}, c.args...)...).out
			var list struct {
				Items []json.RawMessage
				Next  json.RawMessage
			}
			if err := json.Unmarshal([]byte(document), &list); err != nil {
				t.Error(err)
			} else if len(list.Items) != c.want {
				t.Errorf("got %d items, want %d", len(list.Items), c.want)
			} else if string(list.Next) != c.next {
				t.Errorf("got next %q, want %q", string(list.Next), c.next)
			}
		})
	}
}

func TestSearchWithoutEntries(t *testing.T) {
	for form, want := range map[string]string{"json": "{\"items\":[],\"next\":null}\n", "ndjson": "", "table": ""} {
		if got := numbered(0).read(t, 0, "search", "-o", form); got.code != 0 {
			t.Errorf("%s: got exit code %d, want 0: %s", form, got.code, got.err)
		} else if got.out != want {
			t.Errorf("%s: got output %q, want %q", form, got.out, want)
		}
	}
}

func TestSearchAsksForWhatItWasTold(t *testing.T) {
	s := numbered(1)
	got := s.read(t, 0, "search", "-f", "action=A,B", "--filter=action=C", "-f", "metadata.a.b=x=y", "--since", "36h", "--until", "2026-03-01T00:00:00+01:00",
		"--sort", "+timestamp", "severity>=ERROR", `"exact phrase"`)
	want := url.Values{
		"action": {"A,B", "C"}, "metadata.a.b": {"x=y"}, "from": {"2026-02-27T22:20:30Z"}, "to": {"2026-03-01T00:00:00+01:00"},
		"sort": {"+timestamp"}, "q": {`severity>=ERROR "exact phrase"`}, "limit": {"50"},
	}
	if diff := cmp.Diff(want, s.asked[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	} else if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
}

func TestSearchTakesDates(t *testing.T) {
	s := numbered(1)
	got := s.read(t, 0, "search", "--from", "2026-11-20", "--to", "2026-11-21")
	want := url.Values{"from": {"2026-11-20"}, "to": {"2026-11-21"}, "sort": {"-timestamp"}, "limit": {"50"}}
	if got.code != 0 {
		t.Fatalf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if diff := cmp.Diff(want, s.asked[0]); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestSearchTable(t *testing.T) {
	s := &readSide{entries: []string{
		`{"timestamp":"2026-03-01T10:00:00.000Z","severity":"CRITICAL","user_id":"ada","action":"user.login","resource_type":"user","resource_id":"42","message":"signed in\nfrom afar \u001b]0;owned\u0007 and then some more"}`,
		`{"timestamp":"2026-03-01T09:00:00.000Z","severity":"INFO","user_id":"` + strings.Repeat("日本", 20) + `","action":"VIEW","resource_type":"order"}`,
	}}
	plain := s.read(t, 0, "search", "-o", "table")
	want := "TIMESTAMP                 SEVERITY  USER" + strings.Repeat(" ", 78) + "ACTION      RESOURCE  MESSAGE\n" +
		"2026-03-01T10:00:00.000Z  CRITICAL  ada" + strings.Repeat(" ", 79) + `user.login  user 42   signed in\nfrom afar \x1b]0;owned\a and then some more` + "\n" +
		"2026-03-01T09:00:00.000Z  INFO      " + strings.Repeat("日本", 20) + "  VIEW        order\n"
	if plain.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", plain.code, plain.err)
	}
	if plain.out != want {
		t.Errorf("got output %q, want %q", plain.out, want)
	}
	colored := s.read(t, 100, "search")
	if !strings.Contains(colored.out, "\x1b[1;31mCRITICAL\x1b[0m") {
		t.Errorf("colors: got output %q, want it to contain %q", colored.out, "\x1b[1;31mCRITICAL\x1b[0m")
	}
	if strings.Contains(colored.out, "\x1b]0") {
		t.Errorf("colors: got output %q, want it without %q", colored.out, "\x1b]0")
	}
	if strings.Contains(colored.out, "\a") {
		t.Errorf("colors: got output %q, want it without %q", colored.out, "\a")
	}
	t.Setenv("NO_COLOR", "1")
	server := httptest.NewServer(s)
	defer server.Close()
	bare := command(t.Context(), strings.NewReader(""), 100, "search", "--url", server.URL, "--token", "t", "--tenant", "a")
	for _, line := range strings.Split(bare.out, "\n") {
		if strings.Contains(line, "\x1b") {
			t.Errorf("got line %q, want it without %q", line, "\x1b")
		}
		if uniseg.StringWidth(line) > 101 && !strings.Contains(line, "…") {
			t.Errorf("got line %q, want at most 101 columns or an ellipsis", line)
		}
	}
}

func TestStats(t *testing.T) {
	s := &readSide{stats: `{"total":12,"groups":[{"action":"DELETE\u001b[2J","severity":"ERROR","count":8},{"action":"","severity":"INFO","count":4}],` +
		`"histogram":[{"start":"2026-03-01T00:00:00.000Z","count":12}],"distinct_users":3}`}
	if got := s.read(t, 0, "stats", "--group-by", "action,severity"); got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	} else if got.out != s.stats+"\n" {
		t.Errorf("got output %q, want %q", got.out, s.stats+"\n")
	}
	got := s.read(t, 0, "stats", "--group-by", "action,severity", "--interval", "1d", "--top", "5", "-f", "user_id=ada", "-o", "table")
	want := "12 entries of 3 users\n\nACTION         SEVERITY  COUNT\n" +
		`DELETE\x1b[2J  ERROR         8  ` + strings.Repeat("█", 40) + "\n" +
		"-              INFO          4  " + strings.Repeat("█", 20) + "\n" +
		"\nSTART                     COUNT\n2026-03-01T00:00:00.000Z     12  " + strings.Repeat("█", 40) + "\n"
	if got.code != 0 {
		t.Errorf("got exit code %d, want 0: %s", got.code, got.err)
	}
	if got.out != want {
		t.Errorf("got output %q, want %q", got.out, want)
	}
	asked := url.Values{"group_by": {"action,severity"}, "interval": {"86400s"}, "top": {"5"}, "user_id": {"ada"}}
	if diff := cmp.Diff(asked, s.asked[1]); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestStatsByTimeZone(t *testing.T) {
	s := &readSide{stats: `{"total":0,"groups":[],"histogram":[],"distinct_users":0}`}
	for _, c := range []struct {
		machine string
		args    []string
		want    string
	}{
		{"", []string{"--time-zone", "Europe/Berlin"}, "Europe/Berlin"},
		{"America/New_York", []string{"--local"}, "America/New_York"},
		{":America/New_York", []string{"--local"}, "America/New_York"},
		{"/usr/share/zoneinfo/Asia/Kolkata", []string{"--local"}, "Asia/Kolkata"},
		{"America/New_York", nil, ""},
	} {
		t.Setenv("TZ", c.machine)
		if got := s.read(t, 0, append([]string{"stats"}, c.args...)...); got.code != 0 {
			t.Errorf("TZ=%s %v: got exit code %d, want 0: %s", c.machine, c.args, got.code, got.err)
		}
		if got := s.asked[len(s.asked)-1].Get("time_zone"); got != c.want {
			t.Errorf("TZ=%s %v: asked for time_zone %q, want %q", c.machine, c.args, got, c.want)
		}
	}
	if got := s.read(t, 0, "stats", "--local", "--time-zone", "UTC"); got.code != exitUsage {
		t.Errorf("two time zones: got exit code %d, want %d", got.code, exitUsage)
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain ä 日本 🦁": "plain ä 日本 🦁", "a\nb\tc": `a\nb\tc`, "\x1b[31m": `\x1b[31m`, "\u009b31m": `\u009b31m`, "a\u202eb": `a\u202eb`,
		"\x7f": `\x7f`, "\xff\xfe": `\xff\xfe`, "\u2028": `\u2028`, "👩\u200d🚀": "👩\u200d🚀", "": "", "\U000e0041": `\U000e0041`, "\ufeff": `\ufeff`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		got := printable(string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text"))
		if !utf8.ValidString(got) {
			t.Fatalf("got %q, want valid UTF-8", got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("got %q, want no control characters", got)
		}
		width := rapid.IntRange(1, 40).Draw(t, "width")
		if cut := fit(got, width); uniseg.StringWidth(cut) > width {
			t.Fatalf("got %q of %d columns, want at most %d", cut, uniseg.StringWidth(cut), width)
		}
	})
}
