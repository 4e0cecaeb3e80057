package protect

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"hash"
	"sync"
)

// derivation derives the keys of elements, one after the other. It uses its memory again: this is
// done for each key of each entry, and crypto/hkdf costs three times as much.
type derivation struct {
	hash    hash.Hash // SHA-256
	pad     [sha256.BlockSize]byte
	info    [nonceBytes + sha256.Size]byte
	inner   [sha256.Size]byte
	derived [2 * sha256.Size]byte
	counter [1]byte
	context []byte
}

var derivations = sync.Pool{New: func() any { return &derivation{hash: sha256.New()} }}

// entryCipher derives the key of one element and the commitment to it, which is valid until the next
// call. Without the commitment, a ciphertext could be made that two keys open. The derivation is
// HKDF-SHA-256 without its first step, which RFC 5869 (section 3.3) leaves out for keys that are
// random. Its info is the nonce and the SHA-256 of the context.
func (d *derivation) entryCipher(key *Key, nonce, context []byte) (cipher.AEAD, []byte, error) {
	d.hash.Reset()
	_, _ = d.hash.Write(context) // never fails
	d.hash.Sum(append(d.info[:0], nonce...))
	d.expand(&key.Secret)
	defer clear(d.derived[:KeyBytes])
	block, err := aes.NewCipher(d.derived[:KeyBytes])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, d.derived[KeyBytes : KeyBytes+commitmentBytes], err
}

// expand sets derived to two blocks of HKDF-Expand for the info: RFC 5869, section 2.3.
func (d *derivation) expand(key *[KeyBytes]byte) {
	for n := range len(d.derived) / sha256.Size {
		d.counter[0] = byte(n + 1)
		before := d.derived[max(0, n-1)*sha256.Size : n*sha256.Size]
		d.mac(d.derived[:n*sha256.Size], key, before, d.info[:], d.counter[:])
	}
}

// mac appends the HMAC-SHA-256 of the parts to dst: RFC 2104.
func (d *derivation) mac(dst []byte, key *[KeyBytes]byte, parts ...[]byte) {
	const innerPad, outerPad = 0x36, 0x5c
	d.start(key, innerPad)
	for _, part := range parts {
		_, _ = d.hash.Write(part)
	}
	d.hash.Sum(d.inner[:0])
	d.start(key, outerPad)
	_, _ = d.hash.Write(d.inner[:])
	d.hash.Sum(dst)
	clear(d.pad[:])
}

// start begins a hash with the padded key, each byte of it changed by with.
func (d *derivation) start(key *[KeyBytes]byte, with byte) {
	copy(d.pad[:], key[:])
	clear(d.pad[len(key):])
	for i := range d.pad {
		d.pad[i] ^= with
	}
	d.hash.Reset()
	_, _ = d.hash.Write(d.pad[:])
}
