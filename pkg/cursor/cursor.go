// Package cursor makes the opaque cursors of lists. Cursors are signed: a client cannot
// forge one, and cannot use one for another list.
package cursor

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of cursors and keys.
const (
	MaxBytes    = 4 << 10 // of a cursor's text
	MinKeyBytes = 32
	// MaxPayload is the largest payload whose cursor has at most MaxBytes, in bytes. Parse
	// rejects the cursor of a larger payload.
	MaxPayload = MaxBytes/4*3 - 1 - sha256.Size
)

// version is the first byte of every cursor. It changes with the layout, which is: the
// version, the payload, and the HMAC-SHA-256 of the list, the version and the payload.
const version = 1

// encoding rejects set spare bits in the last character, so that every cursor has
// exactly one spelling.
var encoding = base64.RawURLEncoding.Strict()

const (
	// MaxKeys is the most keys that are valid at the same time. If a key is added every 90 days, a
	// cursor is valid for 15 years at least. A foreign cursor costs about 0.1 ms.
	MaxKeys = 64
	// recentKeys are the key that signs, the one that will sign next, and the one before.
	recentKeys = 3
)

// Signer signs and checks cursors with HMAC-SHA-256. It is safe for concurrent use.
type Signer struct{ keys func() [][]byte }

// NewSigner returns a signer with a secret key. It panics if the key has fewer than
// MinKeyBytes bytes, because cursors could be forged.
func NewSigner(key []byte) *Signer {
	if len(key) < MinKeyBytes {
		panic(fmt.Sprintf("cursor: the key must have at least %d bytes", MinKeyBytes))
	}
	keys := [][]byte{bytes.Clone(key)}
	return &Signer{keys: func() [][]byte { return keys }}
}

// NewRotatingSigner returns a signer whose keys may change. keys returns those of ParseKeys and
// is called for each cursor. The first key signs, and each of them verifies.
func NewRotatingSigner(keys func() [][]byte) *Signer { return &Signer{keys: keys} }

// ParseKeys reads up to MaxKeys keys, one a line. A key may have spaces. Its errors repeat nothing
// of the text.
func ParseKeys(text []byte) ([][]byte, error) {
	keys := bytes.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("there must be 1 to %d keys, not %d", MaxKeys, len(keys))
	}
	for i, key := range keys {
		if len(key) < MinKeyBytes {
			return nil, fmt.Errorf("key %d must have at least %d bytes", i+1, MinKeyBytes)
		}
	}
	return keys, nil
}

// NextRing returns the keys after a rotation. The second key becomes the first one, which signs:
// every process knows it since the rotation before. fresh becomes the second one. The others stay,
// the latest first. If there are too many, the oldest one is left out. If there is one key only, it
// goes on signing.
func NextRing(keys [][]byte, fresh []byte) [][]byte {
	if len(keys) == 1 {
		return [][]byte{keys[0], fresh}
	}
	next := append([][]byte{keys[1], fresh, keys[0]}, keys[2:]...)
	return next[:min(len(next), MaxKeys)]
}

// Sign returns the cursor of the payload for a list. list names everything that
// determines the list's contents: tenant, filter and sort. The cursor is URL-safe. The
// payload is signed and not encrypted.
func (s *Signer) Sign(list string, payload []byte) string {
	signed := make([]byte, 0, 1+len(payload)+sha256.Size)
	signed = append(signed, version)
	signed = append(signed, payload...)
	return encoding.EncodeToString(append(signed, mac(s.keys()[0], list, signed)...))
}

// Parse returns the payload of a cursor that Sign made for the same list. For any other
// text it returns an *audit.ValidationError with the pointer "?cursor".
func (s *Signer) Parse(list, text string) ([]byte, error) { return parse(s.keys(), list, text) }

// ParseRecent is Parse for texts that live for minutes and give rights. It takes those of the three
// newest keys only, so that an older key that somebody found out is worth nothing.
func (s *Signer) ParseRecent(list, text string) ([]byte, error) {
	keys := s.keys()
	return parse(keys[:min(len(keys), recentKeys)], list, text)
}

func parse(keys [][]byte, list, text string) ([]byte, error) {
	if len(text) > MaxBytes {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be at most %d bytes", MaxBytes)
	}
	raw, err := encoding.DecodeString(text)
	// The decoder skips line ends, but no cursor contains one.
	if err != nil || len(raw) < 1+sha256.Size || raw[0] != version || encoding.EncodedLen(len(raw)) != len(text) {
		return nil, invalid()
	}
	signed, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	for _, key := range keys {
		if hmac.Equal(sum, mac(key, list, signed)) {
			return signed[1:], nil
		}
	}
	return nil, invalid()
}

func invalid() error {
	return audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list gave, with the same filters and sort")
}

// mac returns the HMAC of the list's length, the list and the signed bytes. The length
// keeps a part of a list's name from being read as the beginning of a payload.
func mac(key []byte, list string, signed []byte) []byte {
	h := hmac.New(sha256.New, key)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(list)))
	h.Write(length[:])
	h.Write([]byte(list))
	h.Write(signed)
	return h.Sum(nil)
}
