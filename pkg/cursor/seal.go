package cursor

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
)

// ErrSealed means that no key of the ring sealed this text for this place, or that it was altered.
var ErrSealed = errors.New("the text was not sealed for this place")

// sealVersion is the first byte of every sealed text. What follows is the nonce and the AES-256-GCM
// ciphertext, whose associated data is the place.
const sealVersion = 1

// Seal encrypts a text that a record keeps for some hours. place names the record. Only Open with
// the same place decrypts it.
func (s *Signer) Seal(place string, text []byte) ([]byte, error) {
	aead, err := sealing(s.keys()[0])
	if err != nil {
		return nil, err
	}
	return aead.Seal([]byte{sealVersion}, nil, text, []byte(place)), nil
}

// Open returns the text that Seal was given, if one of the three newest keys sealed it. It returns
// ErrSealed otherwise.
func (s *Signer) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, ErrSealed
	}
	keys := s.keys()
	for _, key := range keys[:min(len(keys), recentKeys)] {
		aead, err := sealing(key)
		if err != nil {
			return nil, err
		}
		if text, err := aead.Open(nil, nil, sealed[1:], []byte(place)); err == nil {
			return text, nil
		}
	}
	return nil, ErrSealed
}

// sealing derives another key from a key of the ring, by HKDF-SHA-256, and returns its cipher.
func sealing(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "ocelot sealed text", sha256.Size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
