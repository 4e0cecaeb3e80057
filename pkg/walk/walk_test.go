package walk_test

import (
	"context"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// complete is a Lag of an index that has everything.
type complete struct{ looks int }

func (c *complete) Behind(_ context.Context, _ *audit.Tenant, _, _, to time.Time) (time.Time, error) {
	c.looks++
	return to, nil
}

// TestAWalkWaitsForTheCopiesOfTheIndex: another copy than the one that was compared can answer the first
// page, and shows what it got a second later.
func TestAWalkWaitsForTheCopiesOfTheIndex(t *testing.T) {
	lag := &complete{}
	to := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var indexed, saved time.Time
	await := func() time.Duration {
		t.Helper()
		wait, err := walk.AwaitIndex(t.Context(), lag, &audit.Tenant{ID: "acme"}, to, to, &indexed, func() error { saved = indexed; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	if got, least := await(), time.Second; got <= least {
		t.Errorf("waits %s after the comparison, want more than %s", got, least)
	}
	if !saved.Equal(to) {
		t.Errorf("saved that the index has everything up to %s, want %s", saved, to)
	}
	if got := await(); got != 0 {
		t.Errorf("waits %s again, want once", got)
	}
	if lag.looks != 1 {
		t.Errorf("compared %d times, want once", lag.looks)
	}
}
