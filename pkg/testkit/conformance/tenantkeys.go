package conformance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// TenantKeyStore has the wrapped keys that encrypt values.
type TenantKeyStore interface {
	protect.KeyStore
	jobs.CountedPurger
}

// TenantKeys tests an adapter of protect.KeyStore and jobs.CountedPurger.
func TenantKeys(t *testing.T, open func(t *testing.T) TenantKeyStore) {
	for name, test := range map[string]func(t *testing.T, s TenantKeyStore){
		"TheFirstKeyStays":                 keysFirstStays,
		"OneOfManyMakersWins":              keysOneWins,
		"TheNextFollowsADestroyedOne":      keysNextGeneration,
		"DestroyingTwiceIsDone":            keysDestroyTwice,
		"AKeyThatNeverWasIsNotMadeLater":   keysDestroyAbsent,
		"DestroyingALaterGeneration":       keysDestroyLater,
		"DestructionAndMakingInAnyOrder":   keysDestroyWhileMade,
		"ManySubjectsAtOnce":               keysMany,
		"TenantsAreApart":                  keysTenantsApart,
		"PurgeDestroysTheRoot":             tenantKeysPurge,
		"CancelledCallsReturnTheirContext": keysCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func subjectOf(n int) protect.SubjectID {
	return protect.SubjectID([]byte(fmt.Sprintf("subject %08d", n)))
}

func refOf(n int, generation uint32) protect.KeyRef {
	return protect.KeyRef{Subject: subjectOf(n), Generation: generation}
}

func createKey(t *testing.T, s TenantKeyStore, tenant audit.TenantID, ref protect.KeyRef, wrapped string) {
	t.Helper()
	noError(t, s.CreateKeys(t.Context(), tenant, []protect.StoredKey{{Ref: ref, Wrapped: []byte(wrapped)}}))
}

// wantKey fails the test unless the newest generation of the subject is this one; wrapped "": it is
// destroyed.
func wantKey(t *testing.T, s TenantKeyStore, tenant audit.TenantID, ref protect.KeyRef, wrapped string) {
	t.Helper()
	stored := must[[]protect.StoredKey](t)(s.Keys(t.Context(), tenant, []protect.SubjectID{ref.Subject}))
	if len(stored) != 1 {
		t.Fatalf("got %d keys, want 1", len(stored))
	}
	if stored[0].Ref != ref {
		t.Fatalf("got the key %v, want %v", stored[0].Ref, ref)
	}
	if got := string(stored[0].Wrapped); got != wrapped {
		t.Fatalf("key %v: got %q, want %q", ref, got, wrapped)
	}
}

func wantNoKey(t *testing.T, s TenantKeyStore, tenant audit.TenantID, subject protect.SubjectID) {
	t.Helper()
	stored := must[[]protect.StoredKey](t)(s.Keys(t.Context(), tenant, []protect.SubjectID{subject}))
	if len(stored) != 0 {
		t.Fatalf("got %d keys, want none", len(stored))
	}
}

func keysFirstStays(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	for _, ref := range []protect.KeyRef{protect.RootRef, refOf(1, 1)} {
		wantNoKey(t, s, tenant, ref.Subject)
		createKey(t, s, tenant, ref, "first\x00\xff")
		createKey(t, s, tenant, ref, "second")
		wantKey(t, s, tenant, ref, "first\x00\xff")
	}
}

func keysOneWins(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	seen := make([]string, 8)
	var running sync.WaitGroup
	for i := range seen {
		running.Go(func() {
			err := s.CreateKeys(t.Context(), tenant, []protect.StoredKey{{Ref: refOf(1, 1), Wrapped: fmt.Appendf(nil, "of %d", i)}})
			if err != nil {
				t.Error(err)
			}
			stored, err := s.Keys(t.Context(), tenant, []protect.SubjectID{subjectOf(1)})
			if err != nil || len(stored) != 1 {
				t.Errorf("got %d keys and error %v, want 1 key", len(stored), err)
				return
			}
			seen[i] = string(stored[0].Wrapped)
		})
	}
	running.Wait()
	if different := slices.Compact(slices.Clone(seen)); len(different) != 1 {
		t.Errorf("the makers read back %q, want all the same", seen)
	}
}

func keysNextGeneration(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	createKey(t, s, tenant, refOf(1, 1), "one")
	createKey(t, s, tenant, refOf(1, 2), "too early")
	wantKey(t, s, tenant, refOf(1, 1), "one")
	noError(t, s.DestroyKey(t.Context(), tenant, refOf(1, 1)))
	wantKey(t, s, tenant, refOf(1, 1), "")
	createKey(t, s, tenant, refOf(1, 1), "again")
	createKey(t, s, tenant, refOf(1, 3), "skips one")
	wantKey(t, s, tenant, refOf(1, 1), "")
	createKey(t, s, tenant, refOf(1, 2), "two")
	createKey(t, s, tenant, refOf(1, 2), "too late")
	wantKey(t, s, tenant, refOf(1, 2), "two")
}

func keysDestroyTwice(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	createKey(t, s, tenant, refOf(1, 1), "one")
	for range 2 {
		noError(t, s.DestroyKey(t.Context(), tenant, refOf(1, 1)))
		wantKey(t, s, tenant, refOf(1, 1), "")
	}
	createKey(t, s, tenant, refOf(1, 2), "two")
	noError(t, s.DestroyKey(t.Context(), tenant, refOf(1, 1)))
	wantKey(t, s, tenant, refOf(1, 2), "two")
}

func keysDestroyAbsent(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	for _, ref := range []protect.KeyRef{protect.RootRef, refOf(1, 1)} {
		noError(t, s.DestroyKey(t.Context(), tenant, ref))
		createKey(t, s, tenant, ref, "too late")
		wantKey(t, s, tenant, ref, "")
	}
}

// keysDestroyLater destroys a generation that a store which was restored from a backup does not have.
func keysDestroyLater(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	createKey(t, s, tenant, refOf(1, 1), "one")
	for n := range 2 { // the second has no key
		noError(t, s.DestroyKey(t.Context(), tenant, refOf(n+1, 3)))
		wantKey(t, s, tenant, refOf(n+1, 3), "")
		createKey(t, s, tenant, refOf(n+1, 1), "one again")
		createKey(t, s, tenant, refOf(n+1, 3), "three again")
		wantKey(t, s, tenant, refOf(n+1, 3), "")
		createKey(t, s, tenant, refOf(n+1, 4), "four")
		wantKey(t, s, tenant, refOf(n+1, 4), "four")
	}
}

// keysDestroyWhileMade races an erasure with a first use. The first generation is gone in any order.
func keysDestroyWhileMade(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	for n := range 20 {
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.DestroyKey(t.Context(), tenant, refOf(n, 1)); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() {
			if err := s.CreateKeys(t.Context(), tenant, []protect.StoredKey{{Ref: refOf(n, 1), Wrapped: []byte("one")}}); err != nil {
				t.Error(err)
			}
		})
		running.Wait()
		wantKey(t, s, tenant, refOf(n, 1), "")
	}
}

func keysMany(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	const count = 1500
	var keys []protect.StoredKey
	var subjects []protect.SubjectID
	for n := range count {
		keys = append(keys, protect.StoredKey{Ref: refOf(n, 1), Wrapped: fmt.Appendf(nil, "key %d", n)})
		subjects = append(subjects, subjectOf(n), subjectOf(count+n))
	}
	createKey(t, s, tenant, refOf(7, 1), "earlier")
	noError(t, s.CreateKeys(t.Context(), tenant, keys))
	stored := must[[]protect.StoredKey](t)(s.Keys(t.Context(), tenant, subjects))
	if len(stored) != count {
		t.Fatalf("got %d keys, want %d", len(stored), count)
	}
	want := map[protect.KeyRef]string{}
	for _, k := range keys {
		want[k.Ref] = string(k.Wrapped)
	}
	want[refOf(7, 1)] = "earlier"
	for _, k := range stored {
		if got := string(k.Wrapped); got != want[k.Ref] {
			t.Errorf("key %v: got %q, want %q", k.Ref, got, want[k.Ref])
		}
	}
	if stored := must[[]protect.StoredKey](t)(s.Keys(t.Context(), tenant, nil)); len(stored) != 0 {
		t.Errorf("got %d keys of no subject, want 0", len(stored))
	}
}

func keysTenantsApart(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	others := []audit.TenantID{tenant + "-b", tenant[:len(tenant)-1]}
	createKey(t, s, tenant, refOf(1, 1), "one")
	for _, other := range others {
		wantNoKey(t, s, other, subjectOf(1))
		noError(t, s.DestroyKey(t.Context(), other, refOf(1, 1)))
		purgeAll(t, s, other, 10)
	}
	wantKey(t, s, tenant, refOf(1, 1), "one")
}

func tenantKeysPurge(t *testing.T, s TenantKeyStore) {
	gone, kept := newTenant(t), newTenant(t)
	for _, tenant := range []audit.TenantID{gone, kept} {
		createKey(t, s, tenant, protect.RootRef, "root")
		for n := range 5 {
			createKey(t, s, tenant, refOf(n, 1), "one")
		}
		noError(t, s.DestroyKey(t.Context(), tenant, refOf(4, 1)))
	}
	if n := purgeAll(t, s, gone, 2); n != 5 {
		t.Errorf("purged %d keys of subjects, want 5", n)
	}
	wantNoKey(t, s, gone, subjectOf(0))
	createKey(t, s, gone, protect.RootRef, "too late")
	wantKey(t, s, gone, protect.RootRef, "")
	wantKey(t, s, kept, protect.RootRef, "root")
	wantKey(t, s, kept, refOf(0, 1), "one")
}

func keysCancelled(t *testing.T, s TenantKeyStore) {
	tenant := newTenant(t)
	_, err := s.Keys(cancelled(t), tenant, []protect.SubjectID{subjectOf(1)})
	wantError(t, err, context.Canceled)
	wantError(t, s.CreateKeys(cancelled(t), tenant, []protect.StoredKey{{Ref: refOf(1, 1), Wrapped: []byte("one")}}), context.Canceled)
	wantError(t, s.DestroyKey(cancelled(t), tenant, refOf(1, 1)), context.Canceled)
}
