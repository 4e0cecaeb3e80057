package protect

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// KeyBytes is the length of a key that encrypts values, in bytes.
const KeyBytes = 32

// SubjectID is the HMAC-SHA-256 of a subject's name under a key of the tenant, cut to 16 bytes. So
// no store has the name beside the subject's key.
type SubjectID [16]byte

// String returns the id in hexadecimal digits.
func (s SubjectID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText returns the id in hexadecimal digits.
func (s SubjectID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (s *SubjectID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(s) {
		return errKeyName
	}
	*s = SubjectID(b)
	return nil
}

// KeyRef names one key of a tenant. The zero Subject is the tenant's own key, of generation 0. The
// generations of a subject's keys begin with 1.
type KeyRef struct {
	Subject    SubjectID
	Generation uint32
}

// Key encrypts values of one subject, or those of a tenant without a subject.
type Key struct {
	Ref    KeyRef
	Secret [KeyBytes]byte
}

// Format implements fmt.Formatter. It writes no secret, so that no log or error has one.
func (k Key) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "key %s/%d", k.Ref.Subject.name(), k.Ref.Generation)
}

// MarshalJSON implements json.Marshaler, which logs use. It writes no secret.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprint(k)) }

// tenantKey is the name of the tenant's own key.
const tenantKey = "tenant"

var errKeyName = errors.New("not the name of a key")

// name returns what audit.Encrypted.Key has.
func (s SubjectID) name() string {
	if s == (SubjectID{}) {
		return tenantKey
	}
	return s.String()
}

// Token returns what stands for the key in a search index; see audit.KeyToken.
func (r KeyRef) Token() audit.ValueToken { return audit.KeyToken(r.Subject.name(), r.Generation) }

// RefOf returns the key that encrypts the element. The error is about a name that no key has.
func RefOf(e *audit.Encrypted) (KeyRef, error) {
	ref := KeyRef{Generation: e.Generation}
	if e.Key == tenantKey {
		return ref, nil
	}
	if err := ref.Subject.UnmarshalText([]byte(e.Key)); err != nil || ref.Subject == (SubjectID{}) {
		return KeyRef{}, errKeyName
	}
	return ref, nil
}
