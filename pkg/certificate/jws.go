package certificate

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// mediaType is the type in the header of a certificate, so that no other signature passes for one.
const mediaType = "ocelot-certificate+jws"

// ErrInvalid says that a text is no certificate of the given keys.
var ErrInvalid = errors.New("the certificate is not valid")

// JWK is a public key as RFC 8037 writes it.
type JWK struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"` // the thumbprint of RFC 7638
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// KeySet is a set of public keys as RFC 7517 writes it.
type KeySet struct {
	Keys []JWK `json:"keys"`
}

// PublicKey returns a public key as a JWK.
func PublicKey(key ed25519.PublicKey) JWK {
	x := base64.RawURLEncoding.EncodeToString(key)
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return JWK{
		Type: "OKP", Curve: "Ed25519", X: x, ID: base64.RawURLEncoding.EncodeToString(thumbprint[:]), Use: "sig", Algorithm: "EdDSA",
	}
}

// bytes returns the key, or false if it is none of Ed25519.
func (k JWK) bytes() (ed25519.PublicKey, bool) {
	b, err := base64.RawURLEncoding.DecodeString(k.X)
	return b, err == nil && k.Type == "OKP" && k.Curve == "Ed25519" && len(b) == ed25519.PublicKeySize
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// sign returns the certificate.
func sign(s *Statement, key ed25519.PrivateKey) (string, error) {
	public := PublicKey(key.Public().(ed25519.PublicKey)) // documented to be of this type
	head, err := json.Marshal(header{Algorithm: public.Algorithm, KeyID: public.ID, Type: mediaType})
	if err != nil {
		return "", fmt.Errorf("sign certificate %s: %w", s.ID, err)
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("sign certificate %s: %w", s.ID, err)
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text))), nil
}

// strict refuses texts that differ from what was signed in bits that decoders ignore.
var strict = base64.RawURLEncoding.Strict()

// Payload returns the statement of a certificate as JSON, unverified.
func Payload(certificate string) (json.RawMessage, error) {
	parts := strings.Split(certificate, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: it does not have three parts", ErrInvalid)
	}
	payload, err := strict.DecodeString(parts[1])
	if err != nil || !json.Valid(payload) {
		return nil, fmt.Errorf("%w: the statement is damaged", ErrInvalid)
	}
	return payload, nil
}

// Verify returns the statement of a certificate as JSON. It returns an ErrInvalid, which says why,
// unless one of the keys signed it.
func Verify(certificate string, keys KeySet) (json.RawMessage, error) {
	payload, err := Payload(certificate)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(certificate, ".")
	var head header
	text, err := strict.DecodeString(parts[0])
	if err != nil || json.Unmarshal(text, &head) != nil {
		return nil, fmt.Errorf("%w: the header is damaged", ErrInvalid)
	}
	if head.Algorithm != "EdDSA" || head.Type != mediaType {
		return nil, fmt.Errorf("%w: it is another kind of signature", ErrInvalid)
	}
	signature, err := strict.DecodeString(parts[2])
	if err != nil {
		return nil, fmt.Errorf("%w: the signature is damaged", ErrInvalid)
	}
	for _, key := range keys.Keys {
		public, usable := key.bytes()
		if !usable || key.ID != head.KeyID {
			continue
		}
		if !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), signature) {
			return nil, fmt.Errorf("%w: the signature is not that of key %s", ErrInvalid, key.ID)
		}
		return payload, nil
	}
	return nil, fmt.Errorf("%w: none of the keys is %q, which it names", ErrInvalid, head.KeyID)
}
