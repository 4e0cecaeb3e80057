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

// Signer signs and checks cursors with HMAC-SHA-256. It is safe for concurrent use.
type Signer struct{ key []byte }

// NewSigner returns a signer with a secret key. It panics if the key has fewer than
// MinKeyBytes bytes, because cursors could be forged.
func NewSigner(key []byte) *Signer {
	if len(key) < MinKeyBytes {
		panic(fmt.Sprintf("cursor: the key must have at least %d bytes", MinKeyBytes))
	}
	return &Signer{key: bytes.Clone(key)}
}

// Sign returns the cursor of the payload for a list. list names everything that
// determines the list's contents: tenant, filter and sort. The cursor is URL-safe. The
// payload is signed and not encrypted.
func (s *Signer) Sign(list string, payload []byte) string {
	signed := make([]byte, 0, 1+len(payload)+sha256.Size)
	signed = append(signed, version)
	signed = append(signed, payload...)
	return encoding.EncodeToString(append(signed, s.mac(list, signed)...))
}

// Parse returns the payload of a cursor that Sign made for the same list. For any other
// text it returns an *audit.ValidationError with the pointer "?cursor".
func (s *Signer) Parse(list, text string) ([]byte, error) {
	if len(text) > MaxBytes {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be at most %d bytes", MaxBytes)
	}
	raw, err := encoding.DecodeString(text)
	// The decoder skips line ends, but no cursor contains one.
	if err != nil || len(raw) < 1+sha256.Size || raw[0] != version || encoding.EncodedLen(len(raw)) != len(text) {
		return nil, invalid()
	}
	signed, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if !hmac.Equal(mac, s.mac(list, signed)) {
		return nil, invalid()
	}
	return signed[1:], nil
}

func invalid() error {
	return audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list gave, with the same filters and sort")
}

// mac returns the HMAC of the list's length, the list and the signed bytes. The length
// keeps a part of a list's name from being read as the beginning of a payload.
func (s *Signer) mac(list string, signed []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(list)))
	h.Write(length[:])
	h.Write([]byte(list))
	h.Write(signed)
	return h.Sum(nil)
}
