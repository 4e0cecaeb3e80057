package kmskeys_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// strict is KMS by its documentation: it authenticates what it decrypts and
// refuses by key, context and state, which the engine of the tests does in part.
type strict struct {
	// fail decides on the n-th call, from 1; "" is no failure.
	fail func(n int) (status int, kind string)

	mu    sync.Mutex
	calls int
	keys  map[string]*strictKey
}

type strictKey struct {
	aead  cipher.AEAD
	state string // of KMS: Enabled, Disabled, PendingDeletion
}

func newStrict(t *testing.T) (*strict, string) {
	t.Helper()
	s := &strict{keys: map[string]*strictKey{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// newKey adds a key and returns its ARN.
func (s *strict) newKey(t *testing.T) string {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := "arn:aws:kms:eu-central-1:000000000000:key/" + uuid.NewString()
	s.keys[arn] = &strictKey{aead: aead, state: "Enabled"}
	return arn
}

// set changes the state of a key; "" removes it.
func (s *strict) set(arn, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[arn].state = state; state == "" {
		delete(s.keys, arn)
	}
}

type strictInput struct {
	KeyID      string `json:"KeyId"`
	Plaintext  []byte
	Ciphertext []byte            `json:"CiphertextBlob"`
	Context    map[string]string `json:"EncryptionContext"`
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if s.fail != nil {
		if status, kind := s.fail(s.calls); kind != "" {
			refuse(w, status, kind)
			return
		}
	}
	var input strictInput
	if err := json.NewDecoder(r.Body).Decode(&input); err != nil {
		refuse(w, http.StatusBadRequest, "SerializationException")
		return
	}
	key := s.keys[input.KeyID]
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	switch {
	case key == nil:
		refuse(w, http.StatusBadRequest, "NotFoundException")
	case action == "DescribeKey":
		answer(w, map[string]any{"KeyMetadata": map[string]any{"KeyId": input.KeyID, "KeyState": key.state, "Enabled": key.state == "Enabled"}})
	case key.state == "Disabled":
		refuse(w, http.StatusBadRequest, "DisabledException")
	case key.state != "Enabled":
		refuse(w, http.StatusBadRequest, "KMSInvalidStateException")
	case action == "Encrypt":
		s.encrypt(w, key, input)
	case action == "Decrypt":
		s.decrypt(w, key, input)
	default:
		refuse(w, http.StatusBadRequest, "UnsupportedOperationException")
	}
}

func (s *strict) encrypt(w http.ResponseWriter, key *strictKey, input strictInput) {
	if len(input.Plaintext) == 0 || len(input.Plaintext) > 4096 || len(input.Context) == 0 {
		refuse(w, http.StatusBadRequest, "ValidationException")
		return
	}
	// KMS's ciphertext names its key.
	blob := key.aead.Seal([]byte(input.KeyID), nil, input.Plaintext, contextOf(input))
	answer(w, map[string]any{"CiphertextBlob": blob, "KeyId": input.KeyID})
}

func (s *strict) decrypt(w http.ResponseWriter, key *strictKey, input strictInput) {
	if len(input.Ciphertext) == 0 || len(input.Ciphertext) > 6144 {
		refuse(w, http.StatusBadRequest, "ValidationException")
		return
	}
	for arn := range s.keys {
		sealed, found := strings.CutPrefix(string(input.Ciphertext), arn)
		if !found {
			continue
		}
		if arn != input.KeyID {
			refuse(w, http.StatusBadRequest, "IncorrectKeyException")
			return
		}
		plaintext, err := key.aead.Open(nil, nil, []byte(sealed), contextOf(input))
		if err != nil {
			break
		}
		answer(w, map[string]any{"Plaintext": plaintext, "KeyId": input.KeyID})
		return
	}
	refuse(w, http.StatusBadRequest, "InvalidCiphertextException")
}

// contextOf is an encryption context in the one order of its names.
func contextOf(input strictInput) []byte {
	text, err := json.Marshal(input.Context)
	if err != nil {
		panic(err) // strings only
	}
	return text
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.WriteHeader(status)
	answer(w, map[string]string{"__type": kind, "message": "a message"})
}

func answer(w http.ResponseWriter, value any) {
	if err := json.NewEncoder(w).Encode(value); err != nil {
		panic(http.ErrAbortHandler)
	}
}
