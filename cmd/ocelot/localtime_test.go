package main

import (
	"strings"
	"testing"
)

func TestSearchInLocalTime(t *testing.T) {
	s := &readSide{entries: []string{
		`{"id":"a","timestamp":"2026-03-01T23:30:00.000Z","metadata":{"timestamp":"2026-03-01T23:30:00.000Z"},"n":1.0, "received_at" : "2026-03-02T09:00:00.123Z"}`,
	}}
	for _, tt := range []struct{ output, want string }{
		{"ndjson", `{"id":"a","timestamp":"2026-03-02T01:30:00.000+02:00","metadata":{"timestamp":"2026-03-01T23:30:00.000Z"},"n":1.0, "received_at" : "2026-03-02T11:00:00.123+02:00"}` + "\n"},
		{"table", "2026-03-02T01:30:00.000+02:00"},
		{"csv", "2026-03-02T01:30:00.000+02:00,a"},
	} {
		got := s.read(t, 100, "search", "--local", "-o", tt.output)
		if got.code != exitOK {
			t.Errorf("%s: got exit code %d, want %d: %s", tt.output, got.code, exitOK, got.err)
		}
		if !strings.Contains(got.out, tt.want) {
			t.Errorf("%s: got %q, want it to contain %q", tt.output, got.out, tt.want)
		}
	}
}

func TestLocalDatesBeginAtLocalMidnight(t *testing.T) {
	for _, tt := range []struct {
		args       []string
		since, end string
	}{
		{nil, "2026-03-01", "2026-03-02T10:00:00Z"},
		{[]string{"--local"}, "2026-02-28T22:00:00Z", "2026-03-02T10:00:00Z"},
	} {
		s := &readSide{}
		s.read(t, 0, append([]string{"search", "--since", "2026-03-01", "--until", "2026-03-02T10:00:00Z"}, tt.args...)...)
		if got := s.asked[0].Get("from"); got != tt.since {
			t.Errorf("%v: asked from %q, want %q", tt.args, got, tt.since)
		}
		if got := s.asked[0].Get("to"); got != tt.end {
			t.Errorf("%v: asked to %q, want %q", tt.args, got, tt.end)
		}
	}
}
