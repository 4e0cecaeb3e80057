package ingest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// arrivalsOf returns what was sent to the arrival queue.
func arrivalsOf(t *testing.T, q *queue) []envelope.Arrival {
	t.Helper()
	var all []envelope.Arrival
	for _, body := range q.bodies {
		tenant, arrivals, err := envelope.UnpackArrivals(body)
		if err != nil {
			t.Fatal(err)
		}
		if tenant != "acme" {
			t.Errorf("arrivals of tenant %s, want acme", tenant)
		}
		all = append(all, arrivals...)
	}
	return all
}

// submitted returns the messages of requests with these numbers of entries.
func submitted(t *testing.T, counts ...int) []string {
	t.Helper()
	s, standard, _ := service()
	for _, count := range counts {
		texts := make([][]byte, count)
		for i := range texts {
			texts[i] = text("")
		}
		if _, err := s.Submit(t.Context(), tenant(nil), origin, texts); err != nil {
			t.Fatal(err)
		}
	}
	return standard.bodies
}

func arrivalOf(t *testing.T, body string) envelope.Arrival {
	t.Helper()
	contents, err := envelope.Unpack(body)
	if err != nil {
		t.Fatal(err)
	}
	m := envelope.Message{Body: body, Contents: contents}
	a := envelope.Arrival{Message: m.ID(), Received: contents.Entries[0].ReceivedAt}
	for i := range contents.Entries {
		a.IDs = append(a.IDs, contents.Entries[i].ID)
	}
	return a
}

// TestPersistSendsArrivals: one message for the batch has what each ingest message brought. A
// message that is delivered again has the same id.
func TestPersistSendsArrivals(t *testing.T) {
	bodies := submitted(t, 3, 1, 2)
	var want []envelope.Arrival
	for _, body := range bodies {
		want = append(want, arrivalOf(t, body))
	}
	arrivals := &queue{}
	p := ingest.Persister{Now: clock, Store: &store{}, Index: &queue{}, Arrivals: arrivals, Tenants: directory{"acme": tenant(nil)}}
	for delivery := range 2 {
		arrivals.bodies = nil
		for i, err := range p.Persist(t.Context(), append(bodies[:3:3], bodies[1])) { // one of them twice
			if err != nil {
				t.Fatalf("message %d: %v, want nil", i, err)
			}
		}
		if got := len(arrivals.bodies); got != 1 {
			t.Errorf("delivery %d: %d messages, want 1", delivery, got)
		}
		if diff := cmp.Diff(want, arrivalsOf(t, arrivals)); diff != "" {
			t.Errorf("delivery %d: arrivals (-want +got):\n%s", delivery, diff)
		}
	}
}

// TestArrivalsSayWhenTheirFirstEntryWasReceived: an old message is known by it.
func TestArrivalsSayWhenTheirFirstEntryWasReceived(t *testing.T) {
	var entries []audit.Entry
	for i, age := range []time.Duration{time.Hour, 2 * time.Hour, 0} {
		entries = append(entries, audit.Entry{ID: audit.DeriveEntryID("acme", now, fmt.Sprint(i)), Tenant: "acme", UserID: "u", Action: "CREATE",
			ResourceType: "x", Timestamp: now, ReceivedAt: now.Add(-age)})
	}
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	arrivals := &queue{}
	p := ingest.Persister{Now: clock, Store: &store{}, Index: &queue{}, Arrivals: arrivals, Tenants: directory{"acme": tenant(nil)}}
	if err := persist(t, &p, bodies[0]); err != nil {
		t.Fatal(err)
	}
	if got, want := arrivalsOf(t, arrivals)[0].Received, now.Add(-2*time.Hour).Truncate(time.Millisecond); !got.Equal(want) {
		t.Errorf("received at %s, want %s", got, want)
	}
}

// TestEveryIngestMessageHasAnID: a random one, or that of its body.
func TestEveryIngestMessageHasAnID(t *testing.T) {
	seen := map[audit.MessageID]bool{}
	for _, body := range submitted(t, 1, 1, 400) {
		contents, err := envelope.Unpack(body)
		if err != nil {
			t.Fatal(err)
		}
		if contents.ID.IsZero() {
			t.Error("a message has no id, want one")
		}
		if seen[contents.ID] {
			t.Errorf("two messages have the id %x, want one each", contents.ID)
		}
		seen[contents.ID] = true
	}
	bare := messageOf(t, "acme", "u")
	again, other := arrivalOf(t, bare).Message, arrivalOf(t, messageOf(t, "acme", "v")).Message
	if again != arrivalOf(t, bare).Message {
		t.Error("a message without an id has another one at its second delivery, want the same")
	}
	if again == other || again.IsZero() {
		t.Errorf("two messages without ids have %x and %x, want different ones", again, other)
	}
}
