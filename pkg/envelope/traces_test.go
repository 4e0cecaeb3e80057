package envelope_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

func traceOf(n byte) trace.Trace {
	return trace.Trace{ID: trace.ID{1, n}, Parent: trace.SpanID{2}, Sampled: n%2 == 0}
}

// Each message has the traces of its own entries, and no others.
func TestMessagesNameTheTracesOfTheirEntries(t *testing.T) {
	p := envelope.Packer{Tenant: "acme"}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 60 {
		p.Traces = nil
		if i >= 10 {
			p.Traces = []trace.Trace{traceOf(byte(i / 20))}
		}
		var text strings.Builder // that does not compress
		for j := range 300 {
			fmt.Fprintf(&text, "%x ", (i*1000+j)*7919*104729)
		}
		p.Add(&audit.Entry{
			ID: audit.NewEntryID(at, [10]byte{byte(i)}), Tenant: "acme", UserID: fmt.Sprint(i), Action: "A", ResourceType: "r", Timestamp: at, Message: text.String(),
		})
	}
	bodies, err := p.Messages()
	if err != nil {
		t.Fatal(err)
	}
	if len(bodies) < 2 {
		t.Fatalf("got %d messages, want several", len(bodies))
	}
	for i, body := range bodies {
		if len(body) > envelope.TargetBytes {
			t.Errorf("message %d has %d bytes, want at most %d", i, len(body), envelope.TargetBytes)
		}
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		}
		var lists [][]trace.Trace
		for _, e := range contents.Entries {
			var n int
			if _, err := fmt.Sscan(e.UserID, &n); err != nil {
				t.Fatal(err)
			}
			if n >= 10 {
				lists = append(lists, []trace.Trace{traceOf(byte(n / 20))})
			}
		}
		if diff := cmp.Diff(trace.Merge(lists...), contents.Traces); diff != "" {
			t.Errorf("message %d: traces (-want +got):\n%s", i, diff)
		}
	}
}

func TestTracesOfEveryKindOfMessage(t *testing.T) {
	p := envelope.Packer{Tenant: "acme", Traces: []trace.Trace{traceOf(1)}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p.Add(&audit.Entry{ID: audit.NewEntryID(at, [10]byte{1}), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at})
	entries, err := p.Messages()
	if err != nil {
		t.Fatal(err)
	}
	arrivals, err := envelope.PackArrivals("acme", []envelope.Arrival{
		{Message: audit.MessageID{1}, IDs: []audit.EntryID{{1}}, Traces: []trace.Trace{traceOf(1)}},
		{Message: audit.MessageID{2}, IDs: []audit.EntryID{{2}}, Traces: []trace.Trace{traceOf(2), traceOf(1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	nudge, err := envelope.PackNudge("acme", traceOf(1), traceOf(2))
	if err != nil {
		t.Fatal(err)
	}
	one, both := []trace.Trace{traceOf(1)}, []trace.Trace{traceOf(1), traceOf(2)}
	for body, want := range map[string][]trace.Trace{
		entries[0]: one, arrivals[0]: both, nudge: both,
		"": nil, "null": nil, `{"traces":7}`: nil, `{"traces":["00-x",7]}`: nil, `{"traces":["00-x"]}`: nil,
	} {
		if diff := cmp.Diff(want, envelope.Traces(body)); diff != "" {
			t.Errorf("%.80s: traces (-want +got):\n%s", body, diff)
		}
	}
	if _, err := envelope.Unpack(strings.Replace(entries[0], `"traces":["00-`, `"traces":["zz-`, 1)); err != nil {
		t.Errorf("a message whose trace cannot be read: got %v, want its entries", err)
	}
}
