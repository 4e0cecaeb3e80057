package localcloud_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

// acmeEntries returns n entries as persist-logs receives them.
func acmeEntries(n int) []audit.Entry {
	entries := make([]audit.Entry, n)
	for i := range entries {
		at := time.Date(2026, 1, 2, 3, 4, 5, i*int(time.Millisecond), time.UTC)
		entries[i] = audit.Entry{
			ID: audit.DeriveEntryID("acme", at, fmt.Sprint(i)), Tenant: "acme", UserID: "u", Action: "A", ResourceType: "r", Timestamp: at, ReceivedAt: at,
		}
	}
	return entries
}

// The message has a hundred lines. One of them is an entry of another tenant.
func TestEndToEndDeadLettersPoisonAlone(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	entries := acmeEntries(100)
	entries[42].Tenant = "other"
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	sqs := queues.New(engines)
	if err := sqs.Queue(manifest.QueueIngest).Send(t.Context(), "acme", bodies); err != nil {
		t.Fatal(err)
	}
	admin.eventually(99)
	dead, err := sqs.Queue(manifest.QueueIngest.DeadLetters()).Receive(t.Context(), 10, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(dead) != 1 {
		t.Errorf("got %d dead letters, want 1", len(dead))
	} else if !strings.Contains(dead[0].Body, `"reason":"tenant, id or timestamp do not fit`) {
		t.Errorf("the dead letter: got body %q, want it to contain %q", dead[0].Body, `"reason":"tenant, id or timestamp do not fit`)
	}
}

// The test redrives the same messages twice. No entry is stored twice.
func TestEndToEndRedrivesDeadLetters(t *testing.T) {
	data := t.TempDir()
	engines := servers(t, data)
	admin := startWith(t, localcloud.Options{Data: data, Log: discard(), Engines: engines}).tenantAdmin("acme")
	entries := acmeEntries(50)
	bodies, err := envelope.Pack("acme", entries)
	if err != nil {
		t.Fatal(err)
	}
	sqs := queues.New(engines)
	queue, deadLetters := sqs.Queue(manifest.QueueIngest), sqs.Queue(manifest.QueueIngest.DeadLetters())
	for range 2 {
		if err := deadLetters.Send(t.Context(), "acme", append(bodies, bodies...)); err != nil {
			t.Fatal(err)
		}
		reports := 0
		err := localcloud.RedriveSQS(t.Context(), engines, []manifest.QueueName{manifest.QueueIngest}, func(name manifest.QueueName, moved int64) {
			if reports++; name != manifest.QueueIngest {
				t.Errorf("redrive: got queue %q, want %q", name, manifest.QueueIngest)
			} else if moved != int64(2*len(bodies)) {
				t.Errorf("redrive: moved %d messages, want %d", moved, int64(2*len(bodies)))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if reports != 1 {
			t.Fatalf("reported %d times, want 1", reports)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			visible, inFlight, dead, err := queue.Depth(t.Context())
			if err == nil && visible+inFlight+dead == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %d messages, %d in flight, %d dead letters and error %v, want an empty queue", visible, inFlight, dead, err)
			}
		}
		admin.eventually(len(entries))
	}
}
