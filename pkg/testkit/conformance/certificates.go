package conformance

import (
	"crypto/rand"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
)

// Certificates tests an adapter of certificate.Store. Each call of open returns the store of a service
// of its own.
func Certificates(t *testing.T, open func(t *testing.T) certificate.Store) {
	for name, test := range map[string]func(t *testing.T, s certificate.Store){
		"TheFirstTextOfAnIDStays":   certificatesFirstStays,
		"OneOfManyMakersOfAKeyWins": certificatesOneKey,
		"KeysComeByNumber":          certificatesKeys,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func randomID() (id certificate.ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func certificatesFirstStays(t *testing.T, s certificate.Store) {
	id := randomID()
	_, err := s.Certificate(t.Context(), id)
	wantError(t, err, audit.ErrNotFound)
	noError(t, s.AddCertificate(t.Context(), id, "a.b.c"))
	noError(t, s.AddCertificate(t.Context(), id, "d.e.f"))
	noError(t, s.AddCertificate(t.Context(), randomID(), "g.h.i"))
	same(t, must[string](t)(s.Certificate(t.Context(), id)), "a.b.c")
}

func certificatesOneKey(t *testing.T, s certificate.Store) {
	same(t, len(must[[]certificate.StoredKey](t)(s.SigningKeys(t.Context()))), 0)
	var makers sync.WaitGroup
	for n := range 8 {
		makers.Go(func() {
			noError(t, s.AddSigningKey(t.Context(), certificate.StoredKey{Number: 1, Public: []byte{byte(n)}, Wrapped: []byte{byte(n), 1}}))
		})
	}
	makers.Wait()
	keys := must[[]certificate.StoredKey](t)(s.SigningKeys(t.Context()))
	if len(keys) != 1 {
		t.Fatalf("got %d keys, want 1", len(keys))
	}
	same(t, keys[0].Public[0], keys[0].Wrapped[0])
}

func certificatesKeys(t *testing.T, s certificate.Store) {
	var want []certificate.StoredKey
	for n := range 12 {
		want = append(want, certificate.StoredKey{Number: n + 1, Public: []byte{byte(n), 0}, Wrapped: []byte{byte(n), 0, 255}})
	}
	for i := range want {
		noError(t, s.AddSigningKey(t.Context(), want[len(want)-1-i]))
	}
	same(t, must[[]certificate.StoredKey](t)(s.SigningKeys(t.Context())), want)
}
