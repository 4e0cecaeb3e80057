package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// KeyWrapperUnderTest has the ports that the KeyWrapper suite calls.
type KeyWrapperUnderTest struct {
	Wrapper protect.KeyWrapper
	// Disable makes the master key unusable.
	Disable func(t *testing.T)
	Gaps    []Gap
}

// KeyWrapper tests an adapter of protect.KeyWrapper. open
// returns one with a new master key.
func KeyWrapper(t *testing.T, open func(t *testing.T) KeyWrapperUnderTest) {
	for name, test := range map[string]func(t *testing.T, open func() KeyWrapperUnderTest){
		"UnwrapsWhatWasWrapped":          wrapperUnwraps,
		"WrappedAnewEachTime":            wrapperHidesEquality,
		"TenantsAreApart":                wrapperKeepsTenantsApart,
		"NonsenseIsRefused":              wrapperRefusesNonsense,
		"AlteredIsRefused":               wrapperRefusesAltered,
		"AnotherMasterKeyDoesNotUnwrap":  wrapperRefusesForeign,
		"UnfitKeysAreRefused":            wrapperRefusesKeys,
		"NothingWithoutTheMasterKey":     wrapperNeedsItsMasterKey,
		"CallsAtOnceDoNotMix":            wrapperConcurrently,
		"CancelledCallsReturnTheirCause": wrapperCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func() KeyWrapperUnderTest { return open(t) })
		})
	}
}

func randomKey(n int) []byte {
	key := make([]byte, n)
	_, _ = rand.Read(key) // never fails
	return key
}

func wrapperUnwraps(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant := open().Wrapper, newTenant(t)
	for _, size := range []int{1, 16, 32, 1000, protect.MaxKey} {
		key := randomKey(size)
		wrapped := must[[]byte](t)(w.Wrap(t.Context(), tenant, key))
		if size >= 16 && bytes.Contains(wrapped, key) {
			t.Fatalf("the wrapped key of %d bytes contains the key, want it hidden", size)
		}
		for range 2 {
			if got := must[[]byte](t)(w.Unwrap(t.Context(), tenant, wrapped)); !bytes.Equal(got, key) {
				t.Fatalf("a key of %d bytes came back changed, want the same key", size)
			}
		}
	}
}

func wrapperHidesEquality(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant, key := open().Wrapper, newTenant(t), randomKey(32)
	seen := map[string]bool{}
	for range 5 {
		seen[string(must[[]byte](t)(w.Wrap(t.Context(), tenant, key)))] = true
	}
	if len(seen) != 5 {
		t.Fatalf("a key wrapped 5 times has %d forms, want 5", len(seen))
	}
}

func wrapperKeepsTenantsApart(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant := open().Wrapper, newTenant(t)
	wrapped := must[[]byte](t)(w.Wrap(t.Context(), tenant, randomKey(32)))
	for _, other := range []audit.TenantID{tenant + "-b", tenant[:len(tenant)-1], newTenant(t), ""} {
		_, err := w.Unwrap(t.Context(), other, wrapped)
		wantError(t, err, protect.ErrWrapped)
	}
}

func wrapperRefusesNonsense(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant := open().Wrapper, newTenant(t)
	for _, nonsense := range [][]byte{nil, {}, {0}, {1}, {1, 2}, bytes.Repeat([]byte{1}, 29), randomKey(40), randomKey(200), randomKey(6000)} {
		_, err := w.Unwrap(t.Context(), tenant, nonsense)
		wantError(t, err, protect.ErrWrapped)
	}
}

func wrapperRefusesAltered(t *testing.T, open func() KeyWrapperUnderTest) {
	x, tenant := open(), newTenant(t)
	needs(t, x.Gaps, NoAuthentication)
	wrapped := must[[]byte](t)(x.Wrapper.Wrap(t.Context(), tenant, randomKey(32)))
	altered := [][]byte{wrapped[:len(wrapped)-1], wrapped[1:], append(bytes.Clone(wrapped), 0)}
	for i := 0; i < len(wrapped); i += 5 {
		flipped := bytes.Clone(wrapped)
		flipped[i] ^= 1 << (i % 8)
		altered = append(altered, flipped)
	}
	for _, text := range altered {
		_, err := x.Wrapper.Unwrap(t.Context(), tenant, text)
		wantError(t, err, protect.ErrWrapped)
	}
}

func wrapperRefusesForeign(t *testing.T, open func() KeyWrapperUnderTest) {
	one, two, tenant := open(), open(), newTenant(t)
	needs(t, one.Gaps, NoAuthentication)
	wrapped := must[[]byte](t)(one.Wrapper.Wrap(t.Context(), tenant, randomKey(32)))
	_, err := two.Wrapper.Unwrap(t.Context(), tenant, wrapped)
	wantError(t, err, protect.ErrWrapped)
}

func wrapperRefusesKeys(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant := open().Wrapper, newTenant(t)
	_, err := w.Wrap(t.Context(), tenant, randomKey(protect.MaxKey+1))
	wantError(t, err, audit.ErrTooLarge)
	for _, empty := range [][]byte{nil, {}} {
		if _, err := w.Wrap(t.Context(), tenant, empty); err == nil {
			t.Fatal("an empty key was wrapped, want an error")
		}
	}
	for _, unfit := range []audit.TenantID{"", "..", "A", "a b", "a\nb"} {
		if _, err := w.Wrap(t.Context(), unfit, randomKey(32)); err == nil {
			t.Fatalf("a key was wrapped for the tenant %q, want an error", unfit)
		}
	}
}

func wrapperNeedsItsMasterKey(t *testing.T, open func() KeyWrapperUnderTest) {
	x, tenant := open(), newTenant(t)
	wrapped := must[[]byte](t)(x.Wrapper.Wrap(t.Context(), tenant, randomKey(32)))
	x.Disable(t)
	_, err := x.Wrapper.Wrap(t.Context(), tenant, randomKey(32))
	wantError(t, err, protect.ErrMasterKey)
	_, err = x.Wrapper.Unwrap(t.Context(), tenant, wrapped)
	wantError(t, err, protect.ErrMasterKey)
}

func wrapperConcurrently(t *testing.T, open func() KeyWrapperUnderTest) {
	w := open().Wrapper
	var running sync.WaitGroup
	for range 8 {
		tenant := newTenant(t)
		running.Go(func() {
			for range 10 {
				if err := roundTrip(t, w, tenant); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
}

func roundTrip(t *testing.T, w protect.KeyWrapper, tenant audit.TenantID) error {
	key := randomKey(32)
	wrapped, err := w.Wrap(t.Context(), tenant, key)
	if err != nil {
		return err
	}
	got, err := w.Unwrap(t.Context(), tenant, wrapped)
	if err == nil && !bytes.Equal(got, key) {
		err = fmt.Errorf("another key came back for %s", tenant)
	}
	return err
}

func wrapperCancelled(t *testing.T, open func() KeyWrapperUnderTest) {
	w, tenant := open().Wrapper, newTenant(t)
	wrapped := must[[]byte](t)(w.Wrap(t.Context(), tenant, randomKey(32)))
	_, err := w.Wrap(cancelled(t), tenant, randomKey(32))
	wantError(t, err, context.Canceled)
	_, err = w.Unwrap(cancelled(t), tenant, wrapped)
	wantError(t, err, context.Canceled)
}
