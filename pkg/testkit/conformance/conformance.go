// Package conformance holds one suite of tests for each port. Every adapter of
// a port runs its suite; what a suite asks is what a use case may rely on.
//
// A suite opens the adapter anew for each of its tests. Tests use tenants of
// their own, so that an adapter over a shared server may return the same one.
package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// patience is how long a suite waits for what an adapter may do a little later,
// such as the refresh of an index.
const patience = 15 * time.Second

// eventually waits until check holds.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newTenant returns a tenant id that no other test has. All of them share a
// beginning, and one may be the beginning of another's.
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
func purgeAll(t *testing.T, p jobs.Purger, tenant audit.TenantID, step int) int {
	t.Helper()
	total := 0
	for {
		n := must[int](t)(p.Purge(t.Context(), tenant, step))
		if n > step {
			t.Fatalf("Purge removed %d records, more than its limit of %d", n, step)
		}
		if n == 0 {
			return total
		}
		total += n
	}
}

// hostile are strings that mean something to one engine or another.
var hostile = []string{
	`'`, `"`, `''; DROP TABLE entries; --`, `" OR "1"="1`, `a AND b`, `NOT x`, `NEAR(a b)`, `foo*`, `-x`, `^x`, `terms:x`, `{x} : y`,
	`a=b`, `metadata.a=b`, "nul\x00inside", "\x00", `$where`, `{"$gt":""}`, `$`, `.`, `..`, `a..b`, `%`, `_`, `*`, `?`, `\`, `\u0000`, `/`,
	"line\nbreak", "\t", " ", "  two  spaces ", "\u2028", "\u00e9", "e\u0301", "Straße", "STRASSE", "ſ", "İ", "日本語", "👩‍👩‍👧", "\U0010FFFF",
	"null", "true", "0", "-0", "1e400", "9007199254740993", "ocelot", strings.Repeat("x", 256), strings.Repeat("é", 128),
}
