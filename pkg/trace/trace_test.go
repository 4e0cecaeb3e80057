package trace_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/trace"
)

const (
	rootText   = "1-5759e988-bd862e3fe1be46a994272793"
	parentText = "53995c3f42cd8ad8"
	w3cText    = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
)

func TestBothSpellingsNameTheSameTrace(t *testing.T) {
	byHeader, ok := trace.ParseHeader("Root=" + rootText + ";Parent=" + parentText + ";Sampled=1")
	if !ok {
		t.Fatal("the header names no trace, want one")
	}
	byW3C, ok := trace.Parse(w3cText)
	if !ok {
		t.Fatal("the traceparent names no trace, want one")
	}
	if byHeader != byW3C {
		t.Errorf("got %v and %v, want the same trace", byHeader, byW3C)
	}
	if got := byW3C.ID.String(); got != rootText {
		t.Errorf("got the id %s, want %s", got, rootText)
	}
	if got := byHeader.String(); got != w3cText {
		t.Errorf("got %s, want %s", got, w3cText)
	}
	if got, want := byHeader.Header(), "Root="+rootText+";Parent="+parentText+";Sampled=1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseHeader(t *testing.T) {
	for text, want := range map[string]string{
		"Root=" + rootText: "Root=" + rootText + ";Sampled=0",
		" Sampled=1 ; Root=" + rootText + ";Lineage=a:1": "Root=" + rootText + ";Sampled=1",
		"Self=1-1;Root=" + rootText + ";Sampled=?":       "Root=" + rootText + ";Sampled=0",
		"Root=" + rootText + ";Parent=xyz":               "Root=" + rootText + ";Sampled=0",
		"":                                               "", "Sampled=1": "", "Root=": "", "Root=1-5759e988": "", "Root=" + strings.ToUpper(rootText): "",
		"Root=1-00000000-000000000000000000000000":         "",
		"Root=2-5759e988-bd862e3fe1be46a994272793":         "",
		"Root=1-5759e98-8bd862e3fe1be46a994272793":         "",
		"Root=" + rootText + "0":                           "",
		"Root=1-5759e988-bd862e3fe1be46a99427279\n":        "",
		"Root=1-5759e988-" + strings.Repeat("bd862e3f", 9): "",
	} {
		parsed, ok := trace.ParseHeader(text)
		if got := ok; got != (want != "") {
			t.Errorf("%q: names a trace: got %t, want %t", text, got, want != "")
		}
		if got := parsed.Header(); ok && got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		w3cText: w3cText,
		"01-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-03-later": w3cText, // a later version
		"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-02":       strings.TrimSuffix(w3cText, "1") + "0",
		"": "", w3cText + "-later": "", w3cText[:54]: "", "ff" + w3cText[2:]: "", strings.ToUpper(w3cText): "",
		"00-00000000000000000000000000000000-53995c3f42cd8ad8-01":  "",
		"00-5759e988bd862e3fe1be46a99427279g-53995c3f42cd8ad8-01":  "",
		"00_5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01":  "",
		"01-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01x": "",
	} {
		parsed, ok := trace.Parse(text)
		if got := ok; got != (want != "") {
			t.Errorf("%q: names a trace: got %t, want %t", text, got, want != "")
		}
		if got := parsed.String(); ok && got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestNewTraceHasItsTime(t *testing.T) {
	made := trace.New(time.Unix(0x5759e988, 0), func(b []byte) {
		for i := range b {
			b[i] = 0xab
		}
	})
	if got, want := made.Header(), "Root=1-5759e988-abababababababababababab;Parent=abababababababab;Sampled=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMergeKeepsEachTraceOnce(t *testing.T) {
	a, b, c := trace.Trace{ID: trace.ID{1}}, trace.Trace{ID: trace.ID{2}}, trace.Trace{ID: trace.ID{3}}
	got := trace.Merge([]trace.Trace{a, b}, nil, []trace.Trace{b, c, a})
	if len(got) != 3 {
		t.Fatalf("got %d traces, want 3", len(got))
	}
	for i, want := range []trace.Trace{a, b, c} {
		if got[i] != want {
			t.Errorf("trace %d: got %v, want %v", i, got[i], want)
		}
	}
}
