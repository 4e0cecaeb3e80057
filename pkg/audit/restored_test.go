package audit_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Restores that have ended make room for others. Retention still looks for what each of them brought back.
func TestEndedRestoresMakeRoom(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	var tenant audit.Tenant
	var all []audit.Restored
	for n := range 3 * audit.MaxRestored {
		from := now.Add(-time.Duration((n*7919)%1000) * day)
		r := audit.Restored{From: from, To: from.Add(day), Until: now.Add(time.Duration(n) * day / 25)}
		if _, err := tenant.AddRestored(r, r.Until.Add(-day/50)); err != nil {
			t.Fatalf("restore %d: got error %v, want none", n, err)
		}
		all = append(all, r)
	}
	if got := len(tenant.Restored); got > audit.MaxRestored {
		t.Errorf("the record has %d restores, want at most %d", got, audit.MaxRestored)
	}
	last := all[len(all)-1]
	for _, r := range all {
		if !tenant.HasRestored(r.From, r.To) {
			t.Errorf("the restore of %v until %v is forgotten", r.From, r.Until)
		}
	}
	if !slices.Contains(tenant.Restored, last) {
		t.Errorf("the record lacks %v, which has not ended", last)
	}
}

func TestRestoresOfATenantsRecord(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	var tenant audit.Tenant
	add := func(n int, until time.Time) error {
		r := audit.Restored{From: now.Add(-time.Duration(n+1) * day), To: now.Add(-time.Duration(n) * day), Until: until}
		_, err := tenant.AddRestored(r, now)
		return err
	}
	for n := range audit.MaxRestored {
		if err := add(n, now.Add(day)); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(0, now.Add(day)); err != nil { // it has this one
		t.Errorf("adding a restore again: got %v, want nil", err)
	}
	if err := add(0, now.Add(2*day)); !errors.Is(err, audit.ErrTooManyRestored) {
		t.Errorf("adding one more: got %v, want %v", err, audit.ErrTooManyRestored)
	}
	first := now.Add(-audit.MaxRestored * day)
	now = now.Add(40 * day)
	if err := add(0, now.Add(day)); err != nil {
		t.Errorf("adding one when the others have ended long ago: got %v, want nil", err)
	}
	if !tenant.HasRestored(first, first.Add(day)) { // a hold can still keep what it brought back
		t.Error("the first restore, which has ended, is forgotten")
	}
	tenant.Restored = nil
	if err := add(0, now.Add(day)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to time.Time
		want     bool
	}{{now.Add(-2 * day), now.Add(-day), false}, {now.Add(-2 * day), now.Add(1 - day), true}, {now.Add(-1), now.Add(day), true}, {now, now.Add(day), false}} {
		if got := tenant.HasRestored(c.from, c.to); got != c.want {
			t.Errorf("HasRestored(%v, %v) is %t, want %t", c.from, c.to, got, c.want)
		}
	}
	if got, want := tenant.NextRestoredEnd(now.Add(-day), now, now), now.Add(day); !got.Equal(want) {
		t.Errorf("the next end is %v, want %v", got, want)
	}
	if got := tenant.NextRestoredEnd(now.Add(-day), now, now.Add(day)); !got.IsZero() {
		t.Errorf("at the end the next end is %v, want none", got)
	}
}
