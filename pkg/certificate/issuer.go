package certificate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// keyContext stands for the tenant where the master key wraps a signing key. A tenant can have this
// name: it can do nothing with the key, because what is unwrapped only derives it.
const keyContext audit.TenantID = "ocelot-certificates"

// Issuer signs certificates. It makes the signing key at its first use. It unwraps the key for each
// certificate, which is one call of the master key.
type Issuer struct {
	Store   Store
	Wrapper protect.KeyWrapper
	Random  func([]byte) // fills its argument with random bytes
}

// Issue signs a statement and keeps the certificate. A known id keeps the certificate that it has. Its
// errors are *audit.UnavailableErrors: a retry can succeed.
func (i *Issuer) Issue(ctx context.Context, s Statement) error {
	if err := i.issue(ctx, &s); err != nil {
		err = fmt.Errorf("issue certificate %s: %w", s.ID, err)
		if audit.IsUnavailable(err) {
			return err
		}
		return &audit.UnavailableError{Err: err}
	}
	return nil
}

func (i *Issuer) issue(ctx context.Context, s *Statement) error {
	key, err := i.key(ctx)
	if err != nil {
		return err
	}
	text, err := sign(s, key)
	if err != nil {
		return err
	}
	return i.Store.AddCertificate(ctx, s.ID, text)
}

// key returns the newest signing key. It makes one if there is none, and uses what it reads back:
// another process may have made one.
func (i *Issuer) key(ctx context.Context) (ed25519.PrivateKey, error) {
	for range 2 {
		keys, err := i.Store.SigningKeys(ctx)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 {
			return i.unwrap(ctx, &keys[len(keys)-1])
		}
		if err := i.create(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("read the signing key that was made: %w", audit.ErrNotFound)
}

func (i *Issuer) create(ctx context.Context) error {
	var root [protect.KeyBytes]byte
	i.Random(root[:])
	key, err := derive(root[:])
	if err != nil {
		return err
	}
	wrapped, err := i.Wrapper.Wrap(ctx, keyContext, root[:])
	if err != nil {
		return fmt.Errorf("wrap the signing key: %w", err)
	}
	return i.Store.AddSigningKey(ctx, StoredKey{Number: 1, Public: key.Public().(ed25519.PublicKey), Wrapped: wrapped})
}

func (i *Issuer) unwrap(ctx context.Context, stored *StoredKey) (ed25519.PrivateKey, error) {
	root, err := i.Wrapper.Unwrap(ctx, keyContext, stored.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap signing key %d: %w", stored.Number, err)
	}
	key, err := derive(root)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Public().(ed25519.PublicKey), stored.Public) {
		return nil, fmt.Errorf("signing key %d is not that of its public key", stored.Number)
	}
	return key, nil
}

func derive(root []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, root, nil, "ocelot certificate key", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the signing key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// Published returns the public keys of a store.
func Published(ctx context.Context, s Store) (KeySet, error) {
	stored, err := s.SigningKeys(ctx)
	if err != nil {
		return KeySet{}, err
	}
	set := KeySet{Keys: make([]JWK, len(stored))}
	for i, key := range stored {
		set.Keys[i] = PublicKey(key.Public)
	}
	return set, nil
}
