package ingest_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/trace"
)

// TestATracePassesOn: what came from a request has its trace in every message, also if the
// entries of several requests are packed together.
func TestATracePassesOn(t *testing.T) {
	s, standard, _ := service()
	var want []trace.Trace
	for n := range byte(3) {
		in := trace.Trace{ID: trace.ID{1, n}, Parent: trace.SpanID{2}, Sampled: true}
		want = append(want, in)
		if _, err := s.Submit(trace.With(t.Context(), in), tenant(nil), origin, [][]byte{text("")}); err != nil {
			t.Fatal(err)
		}
	}
	index, arrivals := &queue{}, &queue{}
	var worked []trace.Work
	p := ingest.Persister{
		Now: clock, Store: &store{}, Index: index, Arrivals: arrivals, Tenants: directory{"acme": tenant(nil)},
		Worked: func(_ context.Context, w trace.Work) { worked = append(worked, w) },
	}
	for i, err := range p.Persist(t.Context(), standard.bodies) {
		if err != nil {
			t.Fatalf("message %d: %v, want nil", i, err)
		}
	}
	if got := len(index.bodies); got != 1 {
		t.Fatalf("forwarded %d messages, want 1", got)
	}
	if diff := cmp.Diff(want, envelope.Traces(index.bodies[0])); diff != "" {
		t.Errorf("traces for the index (-want +got):\n%s", diff)
	}
	for i, a := range arrivalsOf(t, arrivals) {
		if diff := cmp.Diff(want[i:i+1], a.Traces); diff != "" {
			t.Errorf("traces of arrival %d (-want +got):\n%s", i, diff)
		}
	}
	if len(worked) != 1 {
		t.Fatalf("reported %d works, want 1", len(worked))
	}
	if diff := cmp.Diff(want, worked[0].Traces); diff != "" {
		t.Errorf("reported traces (-want +got):\n%s", diff)
	}
}
