package protect_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// TestExpandIsHKDF compares with the standard library, with keys one after the other.
func TestExpandIsHKDF(t *testing.T) {
	for range 100 {
		var key [protect.KeyBytes]byte
		info := make([]byte, 44)
		_, _ = rand.Read(key[:])
		_, _ = rand.Read(info)
		want, err := hkdf.Expand(sha256.New, key[:], string(info), 2*sha256.Size)
		if err != nil {
			t.Fatal(err)
		}
		if got := protect.Expand(&key, info); !bytes.Equal(got, want) {
			t.Fatalf("got %x, want %x", got, want)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key := &protect.Key{Ref: protect.KeyRef{Subject: protect.SubjectID{1}, Generation: 1}}
	paths, values := []string{"/ip_address", "/session_id"}, [][]byte{[]byte(`"203.0.113.7"`), []byte(`"s-8f14e45fceea167a"`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protect.Seal(key, "acme", audit.EntryID{1}, paths, values, func([]byte) {}); err != nil {
			b.Fatalf("got %v, want no error", err)
		}
	}
}
