package protect

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TenantKeys are the keys that a tenant's root gives, by HKDF-SHA-256.
type TenantKeys struct {
	// Values encrypts values without a subject.
	Values Key

	digest, index, naming, wrapping [KeyBytes]byte
}

// Format implements fmt.Formatter. It writes no secret, so that no log or error has one.
func (TenantKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("keys of a tenant")) }

// NewTenantKeys derives the keys from a root of KeyBytes bytes.
func NewTenantKeys(root []byte) (*TenantKeys, error) {
	if len(root) != KeyBytes {
		return nil, fmt.Errorf("a root has %d bytes, want %d", len(root), KeyBytes)
	}
	k := &TenantKeys{}
	for label, to := range map[string]*[KeyBytes]byte{
		"values": &k.Values.Secret, "digest": &k.digest, "index": &k.index, "naming": &k.naming, "wrapping": &k.wrapping,
	} {
		derived, err := hkdf.Key(sha256.New, root, nil, "ocelot tenant key: "+label, KeyBytes)
		if err != nil {
			return nil, fmt.Errorf("derive the key of %s: %w", label, err)
		}
		copy(to[:], derived)
	}
	return k, nil
}

// SubjectID returns what the stores of keys know of a subject.
func (k *TenantKeys) SubjectID(name string) SubjectID {
	return SubjectID(k.sum(k.naming, name)[:len(SubjectID{})])
}

// KeyedDigest returns the digest of the same content under the tenant's key. A keyed digest stays.
func (k *TenantKeys) KeyedDigest(d audit.Digest) audit.Digest {
	if d.Kind == audit.DigestKeyed {
		return d
	}
	return audit.Digest{Kind: audit.DigestKeyed, Sum: [32]byte(k.sum(k.digest, string(d.Sum[:])))}
}

// SameContent reports whether two digests stand for the same content, also if only one of them is
// keyed: a rule came in between.
func (k *TenantKeys) SameContent(a, b audit.Digest) bool {
	a, b = k.KeyedDigest(a), k.KeyedDigest(b)
	return hmac.Equal(a.Sum[:], b.Sum[:])
}

// sum returns the HMAC-SHA-256 of the parts.
func (*TenantKeys) sum(key [KeyBytes]byte, parts ...string) []byte {
	mac := hmac.New(sha256.New, key[:])
	for _, part := range parts {
		_, _ = mac.Write(appendPart(nil, part)) // never fails
	}
	return mac.Sum(nil)
}
