package protect

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The data of audit.Encrypted is: version, nonce, key commitment, AES-256-GCM ciphertext with its
// tag. The plaintext is a JSON array with the value of each path, padded with spaces. See
// docs/design/encrypted-values.md.
const (
	sealVersion     = 1
	nonceBytes      = 12
	commitmentBytes = 16
	tagBytes        = 16
	paddingBytes    = 64 // so that the length of a short value stays hidden
	headerBytes     = 1 + nonceBytes + commitmentBytes
)

// ErrUnreadable means that data was not encrypted for this place with this key: it was altered, or
// comes from another entry, tenant or place.
var ErrUnreadable = errors.New("the encrypted values do not belong to this place or were altered")

// Seal encrypts the JSON texts of the values at the paths, JSON pointers of the entry. random fills
// its argument with random bytes.
func Seal(key *Key, tenant audit.TenantID, entry audit.EntryID, paths []string, values [][]byte, random func([]byte)) (audit.Encrypted, error) {
	e := audit.Encrypted{Paths: paths, Key: key.Ref.Subject.name(), Generation: key.Ref.Generation}
	var nonce [nonceBytes]byte
	random(nonce[:])
	d := derivations.Get().(*derivation)
	defer derivations.Put(d)
	context := d.sealContext(tenant, entry, &e, sealVersion)
	aead, commitment, err := d.entryCipher(key, nonce[:], context)
	if err != nil {
		return audit.Encrypted{}, fmt.Errorf("encrypt values of %s: %w", entry, err)
	}
	plain := appendPadded(values)
	e.Data = make([]byte, 0, headerBytes+len(plain)+tagBytes)
	e.Data = append(append(append(e.Data, sealVersion), nonce[:]...), commitment...)
	e.Data = aead.Seal(e.Data, nonce[:], plain, context)
	return e, nil
}

// Open returns the JSON texts of the values, one for each path of the element. It returns
// ErrUnreadable unless Seal made the element with this key for this entry.
func Open(key *Key, tenant audit.TenantID, entry audit.EntryID, e *audit.Encrypted) ([][]byte, error) {
	if len(e.Data) < headerBytes+tagBytes || e.Data[0] != sealVersion {
		return nil, ErrUnreadable
	}
	if ref, err := RefOf(e); err != nil || ref != key.Ref {
		return nil, ErrUnreadable
	}
	nonce, sealed := e.Data[1:1+nonceBytes], e.Data[headerBytes:]
	d := derivations.Get().(*derivation)
	defer derivations.Put(d)
	context := d.sealContext(tenant, entry, e, e.Data[0])
	aead, commitment, err := d.entryCipher(key, nonce, context)
	if err != nil {
		return nil, fmt.Errorf("decrypt values of %s: %w", entry, err)
	}
	if subtle.ConstantTimeCompare(commitment, e.Data[1+nonceBytes:headerBytes]) != 1 {
		return nil, ErrUnreadable
	}
	plain, err := aead.Open(nil, nonce, sealed, context)
	if err != nil {
		return nil, ErrUnreadable
	}
	var values []json.RawMessage
	if err := json.Unmarshal(plain, &values); err != nil || len(values) != len(e.Paths) {
		return nil, ErrUnreadable
	}
	texts := make([][]byte, len(values))
	for i, v := range values {
		texts[i] = v
	}
	return texts, nil
}

// sealContext is the associated data: what an element belongs to. It is valid until the next call.
func (d *derivation) sealContext(tenant audit.TenantID, entry audit.EntryID, e *audit.Encrypted, version byte) []byte {
	b := appendPart(d.context[:0], "ocelot encrypted values")
	b = appendPart(b, string(tenant))
	b = appendPart(b, string(entry[:]))
	b = appendPart(b, e.Key)
	b = binary.BigEndian.AppendUint32(b, e.Generation)
	b = append(b, version)
	for _, path := range e.Paths {
		b = appendPart(b, path)
	}
	d.context = b
	return b
}

// appendPart appends the part after its length, so that no two lists of parts are alike.
func appendPart(dst []byte, part string) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(len(part))), part...)
}

// appendPadded returns a JSON array of the values, padded to a multiple of paddingBytes.
func appendPadded(values [][]byte) []byte {
	size := 2
	for _, v := range values {
		size += len(v) + 1
	}
	plain := append(make([]byte, 0, size+paddingBytes), '[')
	for i, v := range values {
		if i > 0 {
			plain = append(plain, ',')
		}
		plain = append(plain, v...)
	}
	plain = append(plain, ']')
	for len(plain)%paddingBytes > 0 {
		plain = append(plain, ' ')
	}
	return plain
}
