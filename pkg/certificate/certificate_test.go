package certificate_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

var statement = certificate.Statement{
	ID: certificate.ID{1, 2, 3}, Kind: certificate.KindErasure, Tenant: "acme", RequestedBy: "ada",
	Erasure:     &certificate.Erasure{Job: "e", Subject: "00ff", Generation: 2, Masks: []certificate.Mask{}},
	DestroyedAt: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), Remains: []string{"masks"},
}

func random(b []byte) { _, _ = rand.Read(b) }

// newIssuer returns an issuer over an empty file.
func newIssuer(t *testing.T) *certificate.Issuer {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	master, err := localkeys.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &certificate.Issuer{Store: db.Certificates(), Wrapper: master, Random: random}
}

func issue(t *testing.T, i *certificate.Issuer, s certificate.Statement) (text string, keys certificate.KeySet) {
	t.Helper()
	if err := i.Issue(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	text, err := i.Store.Certificate(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = certificate.Published(t.Context(), i.Store); err != nil {
		t.Fatal(err)
	}
	return text, keys
}

func TestACertificateVerifiesWithThePublishedKey(t *testing.T) {
	i := newIssuer(t)
	text, keys := issue(t, i, statement)
	if n := len(keys.Keys); n != 1 {
		t.Fatalf("%d keys are published, want 1", n)
	}
	payload, err := certificate.Verify(text, keys)
	if err != nil {
		t.Fatal(err)
	}
	var got certificate.Statement
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != statement.ID || !got.DestroyedAt.Equal(statement.DestroyedAt) {
		t.Errorf("it says %+v, want %+v", got, statement)
	}
	other := statement
	other.ID[0]++
	if _, again := issue(t, i, other); again.Keys[0] != keys.Keys[0] {
		t.Errorf("the next certificate has the key %v, want %v", again.Keys[0], keys.Keys[0])
	}
}

// A library that knows nothing of Ocelot verifies it too.
func TestAJWTLibraryVerifiesACertificate(t *testing.T) {
	text, keys := issue(t, newIssuer(t), statement)
	x, err := base64.RawURLEncoding.DecodeString(keys.Keys[0].X)
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	token, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return ed25519.PublicKey(x), nil }, jwt.WithValidMethods([]string{"EdDSA"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := token.Header["kid"]; got != keys.Keys[0].ID {
		t.Errorf("it names the key %v, want %s", got, keys.Keys[0].ID)
	}
	if got := claims["tenant_id"]; got != "acme" {
		t.Errorf("it is about the tenant %v, want acme", got)
	}
}

func TestThumbprintsAreThoseOfTheRFC(t *testing.T) {
	const x, want = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" // RFC 8037, appendix A.3
	key, err := base64.RawURLEncoding.DecodeString(x)
	if err != nil {
		t.Fatal(err)
	}
	if got := certificate.PublicKey(key).ID; got != want {
		t.Errorf("got the thumbprint %s, want %s", got, want)
	}
}

func TestAnotherTextIsNoCertificate(t *testing.T) {
	text, keys := issue(t, newIssuer(t), statement)
	_, foreign := issue(t, newIssuer(t), statement)
	parts := strings.Split(text, ".")
	encode := base64.RawURLEncoding.EncodeToString
	forged := foreign.Keys[0]
	forged.ID = keys.Keys[0].ID
	for name, test := range map[string]struct {
		text string
		keys certificate.KeySet
	}{
		"empty":                 {"", keys},
		"two parts":             {parts[0] + "." + parts[1], keys},
		"four parts":            {text + ".", keys},
		"another statement":     {parts[0] + "." + encode([]byte(`{"tenant_id":"globex"}`)) + "." + parts[2], keys},
		"no JSON":               {parts[0] + "." + encode([]byte(`x`)) + "." + parts[2], keys},
		"no signature":          {parts[0] + "." + parts[1] + ".", keys},
		"no algorithm":          {encode([]byte(`{"alg":"none","kid":"`+keys.Keys[0].ID+`","typ":"ocelot-certificate+jws"}`)) + "." + parts[1] + ".", keys},
		"another type":          {encode([]byte(`{"alg":"EdDSA","kid":"`+keys.Keys[0].ID+`","typ":"JWT"}`)) + "." + parts[1] + "." + parts[2], keys},
		"no keys":               {text, certificate.KeySet{}},
		"foreign keys":          {text, foreign},
		"a foreign key renamed": {text, certificate.KeySet{Keys: []certificate.JWK{forged}}},
		"a key that is none":    {text, certificate.KeySet{Keys: []certificate.JWK{{ID: keys.Keys[0].ID}}}},
	} {
		if _, err := certificate.Verify(test.text, test.keys); !errors.Is(err, certificate.ErrInvalid) {
			t.Errorf("%s: got error %v, want %v", name, err, certificate.ErrInvalid)
		}
	}
	for i := range text { // every flipped bit of a character
		changed := []byte(text)
		changed[i] ^= 1
		if _, err := certificate.Verify(string(changed), keys); !errors.Is(err, certificate.ErrInvalid) {
			t.Errorf("with another character at %d: got error %v, want %v", i, err, certificate.ErrInvalid)
		}
	}
}

func TestTheFirstCertificateOfAnIDStays(t *testing.T) {
	i := newIssuer(t)
	first, _ := issue(t, i, statement)
	other := statement
	other.RequestedBy = "bob"
	if second, _ := issue(t, i, other); second != first {
		t.Error("a repeated slice replaced the certificate, want the first one")
	}
}

var errDown = errors.New("down")

// downKeys is a master key that cannot be reached.
type downKeys struct{}

func (downKeys) Wrap(context.Context, audit.TenantID, []byte) ([]byte, error) { return nil, errDown }
func (downKeys) Unwrap(context.Context, audit.TenantID, []byte) ([]byte, error) {
	return nil, errDown
}

func TestWithoutTheMasterKeyNothingIsIssued(t *testing.T) {
	i := newIssuer(t)
	master := i.Wrapper
	for range 2 {
		i.Wrapper = downKeys{}
		if err := i.Issue(t.Context(), statement); !audit.IsUnavailable(err) {
			t.Errorf("got error %v, want one that a retry can heal", err)
		}
		i.Wrapper = master
		issue(t, i, certificate.Statement{ID: certificate.ID{9}})
	}
	if _, err := i.Store.Certificate(t.Context(), statement.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, audit.ErrNotFound)
	}
}

func TestParseID(t *testing.T) {
	const text = "00112233445566778899aabbccddeeff"
	id, err := certificate.ParseID(text)
	if err != nil || id.String() != text {
		t.Errorf("got %s and error %v, want %s", id, err, text)
	}
	for _, text := range []string{"", "keys", text[2:], text + "00", strings.ToUpper(text), text[:31] + "g"} {
		if _, err := certificate.ParseID(text); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%q: got error %v, want %v", text, err, audit.ErrNotFound)
		}
	}
}
