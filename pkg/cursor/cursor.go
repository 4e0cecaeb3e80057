// Package cursor makes the opaque cursors of lists. A cursor is signed, so that
// a client can neither forge one nor use it for another list than its own.
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
	// MaxPayload is the largest payload whose cursor is within MaxBytes; Parse
	// refuses the cursor of a larger one.
	MaxPayload = MaxBytes/4*3 - 1 - sha256.Size
)

// version is the first byte of every cursor. It changes with the layout: a
// version byte, the payload, the HMAC-SHA-256 of both and the list.
const version = 1

// encoding refuses the spare bits of the last character, so that every cursor
// has one spelling only.
var encoding = base64.RawURLEncoding.Strict()

// Signer signs and checks cursors with HMAC-SHA-256. It is safe for concurrent use.
type Signer struct{ key []byte }

// NewSigner returns a signer for a secret key of at least MinKeyBytes; it panics
// where the key is shorter, because anybody could forge cursors then.
func NewSigner(key []byte) *Signer {
	if len(key) < MinKeyBytes {
		panic(fmt.Sprintf("cursor: the key must have at least %d bytes", MinKeyBytes))
	}
	return &Signer{key: bytes.Clone(key)}
}

// Sign returns the cursor of payload for the list named by list: whatever
// decides what the list holds (tenant, filter, sort). It is URL-safe. The
// payload is readable to whoever decodes the cursor.
func (s *Signer) Sign(list string, payload []byte) string {
	signed := make([]byte, 0, 1+len(payload)+sha256.Size)
	signed = append(signed, version)
	signed = append(signed, payload...)
	return encoding.EncodeToString(append(signed, s.mac(list, signed)...))
}

// Parse returns the payload of a cursor that Sign made for the same list, else
// an *audit.ValidationError at "?cursor".
func (s *Signer) Parse(list, text string) ([]byte, error) {
	if len(text) > MaxBytes {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be at most %d bytes", MaxBytes)
	}
	raw, err := encoding.DecodeString(text)
	// The decoder skips line ends, which no cursor has.
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

// mac covers the list with its length before it, so that no part of one list's
// name can pass for the beginning of a payload.
func (s *Signer) mac(list string, signed []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(list)))
	h.Write(length[:])
	h.Write([]byte(list))
	h.Write(signed)
	return h.Sum(nil)
}
