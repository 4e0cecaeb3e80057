package conformance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// AttemptStore has the claims of refused attempts.
type AttemptStore interface {
	attempts.Claims
	jobs.CountedPurger
}

// Attempts tests an adapter of attempts.Claims and jobs.CountedPurger. open opens one store for two processes.
func Attempts(t *testing.T, open func(t *testing.T) (first, second AttemptStore)) {
	for name, test := range map[string]func(t *testing.T, first, second AttemptStore){
		"OneProcessGetsASlot":              attemptsOnce,
		"AnHourHasSoManySlots":             attemptsBounded,
		"SlotsAreApart":                    attemptsApart,
		"PurgeForgetsOneTenant":            attemptsPurge,
		"CancelledCallsReturnTheirContext": attemptsCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			first, second := open(t)
			test(t, first, second)
		})
	}
}

func claim(t *testing.T, s AttemptStore, slot attempts.Slot, want bool) {
	t.Helper()
	got, err := s.Claim(t.Context(), slot, attempts.MaxAnHour)
	noError(t, err)
	if got != want {
		t.Errorf("claim of %v: got %v, want %v", slot, got, want)
	}
}

// claimAll claims each slot by both processes at the same time, and returns how many claims succeeded.
func claimAll(t *testing.T, first, second AttemptStore, most int, slots []attempts.Slot) int {
	t.Helper()
	var free atomic.Int64
	var wait sync.WaitGroup
	for _, s := range []AttemptStore{first, second, first, second} {
		wait.Go(func() {
			for _, slot := range slots {
				got, err := s.Claim(t.Context(), slot, most)
				if err != nil {
					t.Error(err)
				}
				if got {
					free.Add(1)
				}
			}
		})
	}
	wait.Wait()
	return int(free.Load())
}

func newSlots(t *testing.T, n int) []attempts.Slot {
	slots, tenant := make([]attempts.Slot, n), newTenant(t)
	for i := range slots {
		slots[i] = attempts.Slot{Tenant: tenant, Caller: [16]byte{1}, Hour: 500_000, Place: fmt.Sprintf("%02d GET /logs/{id}", i)}
	}
	return slots
}

func attemptsOnce(t *testing.T, first, second AttemptStore) {
	if got := claimAll(t, first, second, attempts.MaxAnHour, newSlots(t, 20)); got != 20 {
		t.Errorf("20 slots were claimed %d times, want 20", got)
	}
}

func attemptsBounded(t *testing.T, first, second AttemptStore) {
	slots := newSlots(t, 12)
	if got := claimAll(t, first, second, 7, slots); got != 7 {
		t.Errorf("claimed %d slots of 12, want 7", got)
	}
	next := slots[11]
	next.Hour++
	claim(t, second, next, true)
}

func attemptsApart(t *testing.T, first, second AttemptStore) {
	slot := newSlots(t, 1)[0]
	claim(t, first, slot, true)
	claim(t, second, slot, false)
	for _, change := range []func(s *attempts.Slot){
		func(s *attempts.Slot) { s.Tenant = newTenant(t) }, func(s *attempts.Slot) { s.Caller = [16]byte{2} },
		func(s *attempts.Slot) { s.Hour++ }, func(s *attempts.Slot) { s.Place = "01 GET /logs/{id}" },
	} {
		other := slot
		change(&other)
		claim(t, second, other, true)
		claim(t, first, other, false)
	}
}

func attemptsPurge(t *testing.T, first, second AttemptStore) {
	gone, kept := newSlots(t, 3), newSlots(t, 1)[0]
	gone[1].Caller, gone[2].Hour = [16]byte{2}, gone[2].Hour+1
	for _, slot := range append(gone, kept) {
		claim(t, first, slot, true)
	}
	n, err := first.Purge(t.Context(), gone[0].Tenant, 0)
	noError(t, err)
	if n != 0 {
		t.Errorf("purged %d with the limit 0, want 0", n)
	}
	for n = 1; n > 0; {
		n, err = second.Purge(t.Context(), gone[0].Tenant, 2)
		noError(t, err)
		if n > 2 {
			t.Errorf("purged %d with the limit 2", n)
		}
	}
	for _, slot := range gone {
		claim(t, first, slot, true)
	}
	claim(t, first, kept, false)
}

func attemptsCancelled(t *testing.T, first, _ AttemptStore) {
	_, err := first.Claim(cancelled(t), newSlots(t, 1)[0], attempts.MaxAnHour)
	wantError(t, err, context.Canceled)
}
