package envelope_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
)

func messageWith(t *testing.T, tenant audit.TenantID, size int) string {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bodies, err := envelope.Pack(tenant, []audit.Entry{{
		ID: audit.NewEntryID(at, [10]byte{1}), Tenant: tenant, UserID: "u", Action: "A", ResourceType: "r", Timestamp: at,
		Message: strings.Repeat("x", size),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return bodies[0]
}

func TestEachBatchBoundsTheSizeInMemory(t *testing.T) {
	const message = 512 << 10
	var bodies []string
	for range 40 {
		bodies = append(bodies, messageWith(t, "acme", message))
	}
	handled := 0
	for i, err := range envelope.EachBatch(bodies, func(b envelope.Batch, outcomes []error) {
		size := 0
		for _, m := range b {
			size += m.Contents.Size
			outcomes[m.Index] = nil
		}
		if limit := 8 << 20; size > limit {
			t.Errorf("a batch has %d bytes, want at most %d", size, limit)
		}
		handled += len(b)
	}) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if handled != len(bodies) {
		t.Errorf("handled %d messages, want %d", handled, len(bodies))
	}
}

func TestEachBatchReturnsEachMessagesOutcome(t *testing.T) {
	down := errors.New("down")
	bodies := []string{messageWith(t, "acme", 1), "unreadable", messageWith(t, "globex", 1), messageWith(t, "acme", 2)}
	outcomes := envelope.EachBatch(bodies, func(b envelope.Batch, outcomes []error) {
		for _, messages := range b.ByTenant() {
			if messages[0].Contents.Tenant == "globex" {
				outcomes[messages[0].Index] = down
				continue
			}
			if got := len(envelope.Entries(messages)); got != 2 {
				t.Errorf("acme has %d entries, want 2", got)
			}
			for _, m := range messages {
				outcomes[m.Index] = nil
			}
		}
	})
	want := []error{nil, audit.ErrUnreadable, down, nil}
	for i := range want {
		if !errors.Is(outcomes[i], want[i]) {
			t.Errorf("message %d: got %v, want %v", i, outcomes[i], want[i])
		}
	}
}
