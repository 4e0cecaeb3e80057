package protect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TenantKeys are the keys that a tenant's root gives, by HKDF-SHA-256.
type TenantKeys struct {
	// Values encrypts values without a subject.
	Values Key

	digest, index, naming *macs
	wrapping, texts       cipher.AEAD
}

// Format implements fmt.Formatter. It writes no secret, so that no log or error has one.
func (TenantKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("keys of a tenant")) }

// NewTenantKeys derives the keys from a root of KeyBytes bytes.
func NewTenantKeys(root []byte) (*TenantKeys, error) {
	if len(root) != KeyBytes {
		return nil, fmt.Errorf("a root has %d bytes, want %d", len(root), KeyBytes)
	}
	k := &TenantKeys{}
	var digest, index, naming, wrapping, texts [KeyBytes]byte
	for label, to := range map[string]*[KeyBytes]byte{
		"values": &k.Values.Secret, "digest": &digest, "index": &index, "naming": &naming, "wrapping": &wrapping, "texts": &texts,
	} {
		derived, err := hkdf.Key(sha256.New, root, nil, "ocelot tenant key: "+label, KeyBytes)
		if err != nil {
			return nil, fmt.Errorf("derive the key of %s: %w", label, err)
		}
		copy(to[:], derived)
	}
	k.digest, k.index, k.naming = newMACs(digest), newMACs(index), newMACs(naming)
	var err error
	if k.wrapping, err = newCipher(wrapping); err != nil {
		return nil, fmt.Errorf("the key that wraps: %w", err)
	}
	if k.texts, err = newCipher(texts); err != nil {
		return nil, fmt.Errorf("the key of texts: %w", err)
	}
	return k, nil
}

func newCipher(key [KeyBytes]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// SubjectID returns what the stores of keys know of a subject.
func (k *TenantKeys) SubjectID(name string) SubjectID {
	sum := k.naming.sum(name)
	return SubjectID(sum[:len(SubjectID{})])
}

// KeyedDigest returns the digest of the same content under the tenant's key. A keyed digest stays.
func (k *TenantKeys) KeyedDigest(d audit.Digest) audit.Digest {
	if d.Kind == audit.DigestKeyed {
		return d
	}
	return audit.Digest{Kind: audit.DigestKeyed, Sum: k.digest.sum(string(d.Sum[:]))}
}

// SameContent reports whether two digests stand for the same content, also if only one of them is
// keyed: a rule came in between.
func (k *TenantKeys) SameContent(a, b audit.Digest) bool {
	a, b = k.KeyedDigest(a), k.KeyedDigest(b)
	return hmac.Equal(a.Sum[:], b.Sum[:])
}

// macs computes HMAC-SHA-256 under one key. It keeps what it has prepared for the key. It is safe for
// concurrent use.
type macs struct{ pool sync.Pool }

// mac is one HMAC and memory for its input.
type mac struct {
	hash.Hash

	input []byte
}

func newMACs(key [KeyBytes]byte) *macs {
	return &macs{sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key[:])} }}}
}

// sum returns the HMAC of the parts, each after its length.
func (m *macs) sum(parts ...string) (sum [sha256.Size]byte) {
	h := m.pool.Get().(*mac)
	defer m.pool.Put(h)
	h.Reset()
	h.input = h.input[:0]
	for _, part := range parts {
		h.input = appendPart(h.input, part)
	}
	_, _ = h.Write(h.input) // never fails
	clear(h.input)
	h.Sum(sum[:0])
	return sum
}
