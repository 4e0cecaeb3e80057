package trace_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

func TestLinesHaveTheTraceOfTheirContext(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(trace.Logging(slog.NewJSONHandler(&out, nil))).With("queue", "index")
	in, _ := trace.Parse(w3cText)
	for _, c := range []struct {
		name string
		log  func()
		want any
	}{
		{"in a trace", func() { log.InfoContext(trace.With(t.Context(), in), "hello") }, rootText},
		{"in none", func() { log.InfoContext(t.Context(), "hello") }, nil},
	} {
		out.Reset()
		c.log()
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := line["trace_id"]; got != c.want {
			t.Errorf("%s: got trace_id %v, want %v", c.name, got, c.want)
		}
		if got := line["queue"]; got != "index" {
			t.Errorf("%s: got queue %v, want index", c.name, got)
		}
	}
}

func TestWorkNamesEveryTraceInBoundedLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	w := trace.Work{Tenant: "acme", Attrs: []slog.Attr{slog.Int("entries", 7)}}
	for i := range 1200 {
		w.Traces = append(w.Traces, trace.Trace{ID: trace.ID{1, byte(i >> 8), byte(i)}})
	}
	w.Log(t.Context(), log, "entries stored")
	seen, lines := map[string]bool{}, 0
	for decoder := json.NewDecoder(&out); decoder.More(); lines++ {
		var line struct {
			Tenant  string
			Entries int
			Traces  []string
		}
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line.Tenant != "acme" || line.Entries != 7 {
			t.Errorf("line %d: got tenant %q and %d entries, want acme and 7", lines, line.Tenant, line.Entries)
		}
		for _, id := range line.Traces {
			seen[id] = true
		}
	}
	if lines != 3 {
		t.Errorf("got %d lines, want 3", lines)
	}
	if len(seen) != 1200 {
		t.Errorf("the lines name %d traces, want 1200", len(seen))
	}
	out.Reset()
	trace.Work{Tenant: "acme"}.Log(t.Context(), log, "entries stored")
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != 1 {
		t.Errorf("without traces: got %d lines, want 1", got)
	}
}
