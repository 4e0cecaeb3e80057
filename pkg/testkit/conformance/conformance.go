// Package conformance has one suite of tests for each port. Every adapter of a port runs its
// suite. A use case may rely on what the suite tests.
//
// A suite opens the adapter again for each of its tests. Each test uses its own tenants, so
// that an adapter over a shared server can return the same one.
package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// timeout is how long a suite waits for what an adapter may do later, such as refreshing an
// index.
const timeout = 15 * time.Second

// eventually waits until check returns true.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited %v, want it sooner", what, timeout)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newTenant returns a tenant id that no other test has. All ids share a prefix, and one can be
// a prefix of another.
func newTenant(t *testing.T) audit.TenantID {
	t.Helper()
	return audit.TenantID("conf-" + randomHex(8))
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %v", err, want)
	}
}

// cancelled returns a context that has ended.
func cancelled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// purgeAll purges a tenant in steps and returns how many records there were.
func purgeAll(t *testing.T, p jobs.CountedPurger, tenant audit.TenantID, step int) int {
	t.Helper()
	return purge(t, p, tenant, step, step)
}

// purgeWhole is purgeAll for a store that may drop many records at once.
func purgeWhole(t *testing.T, p jobs.CountedPurger, tenant audit.TenantID, step int) int {
	t.Helper()
	return purge(t, p, tenant, step, math.MaxInt)
}

func purge(t *testing.T, p jobs.CountedPurger, tenant audit.TenantID, step, most int) int {
	t.Helper()
	left := must[int64](t)(p.CountRecords(t.Context(), tenant))
	total := 0
	for {
		n := must[int](t)(p.Purge(t.Context(), tenant, step))
		if n > most {
			t.Fatalf("Purge removed %d records, want at most %d", n, most)
		}
		if n == 0 {
			if int64(total) != left {
				t.Errorf("CountRecords counted %d records, and Purge removed %d", left, total)
			}
			return total
		}
		total += n
	}
}

// hostile are strings that have a special meaning in some engine.
var hostile = []string{
	`'`, `"`, `''; DROP TABLE entries; --`, `" OR "1"="1`, `a AND b`, `NOT x`, `NEAR(a b)`, `foo*`, `-x`, `^x`, `terms:x`, `{x} : y`,
	`a=b`, `metadata.a=b`, "nul\x00inside", "\x00", `$where`, `{"$gt":""}`, `$`, `.`, `..`, `a..b`, `%`, `_`, `*`, `?`, `\`, `\u0000`, `/`,
	"line\nbreak", "\t", " ", "  two  spaces ", "\u2028", "\u00e9", "e\u0301", "Straße", "STRASSE", "ſ", "İ", "日本語", "👩‍👩‍👧", "\U0010FFFF",
	"null", "true", "0", "-0", "1e400", "9007199254740993", "ocelot", strings.Repeat("x", 256), strings.Repeat("é", 128),
}
