package bearer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

var (
	testSecret = []byte("0123456789abcdef0123456789abcdef")
	epoch      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: epoch} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// issuer is an identity provider: keys, and a JWKS URL that can fail.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	set     []map[string]string
	answer  http.HandlerFunc // nil: the set
	fetches int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	if i.answer != nil {
		i.answer(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"keys": i.set}); err != nil {
		panic(err)
	}
}

func (i *issuer) publish(keys ...map[string]string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set = keys
}

func (i *issuer) answerWith(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = h
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk returns the public half of a key as a JWK with this id.
func jwk(t *testing.T, kid string, key crypto.Signer) map[string]string {
	t.Helper()
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return map[string]string{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		half := len(point) / 2
		return map[string]string{"kty": "EC", "kid": kid, "crv": k.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case ed25519.PrivateKey:
		return map[string]string{"kty": "OKP", "kid": kid, "crv": "Ed25519", "alg": "EdDSA", "x": b64(k.Public().(ed25519.PublicKey))}
	}
	t.Fatalf("got a key of type %T, want one that has a JWK", key)
	return nil
}

// testKeys are made once: RSA keys take time.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, otherRSA, smallRSA *rsa.PrivateKey
	ec, p384                *ecdsa.PrivateKey
	ed                      ed25519.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.otherRSA, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.smallRSA, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
})

// goodClaims are those of a token that passes.
func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"sub": "u1", "iss": "https://issuer.test", "aud": "ocelot", "tenants": []string{"acme"}, "role": "auditor",
		"iat": epoch.Unix(), "exp": epoch.Add(time.Hour).Unix(),
	}
}

// with returns goodClaims with the pairs of name and value; a nil value leaves the claim out.
func with(pairs ...any) jwt.MapClaims {
	c := goodClaims()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(c, pairs[i].(string))
			continue
		}
		c[pairs[i].(string)] = pairs[i+1]
	}
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, key any, kid any, claims jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	if kid != nil {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// raw signs with HS256 a header and claims of any text.
func raw(header, claims string, secret []byte) string {
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + b64(mac.Sum(nil))
}

func newVerifier(t *testing.T, config bearer.Config) *bearer.Verifier {
	t.Helper()
	if config.Now == nil {
		config.Now = newClock().Now
	}
	if config.JWKSURL != "" {
		config.Issuer, config.Audience = "https://issuer.test", "ocelot"
	}
	v, err := bearer.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func good(t *testing.T, v *bearer.Verifier, token string) access.Principal {
	t.Helper()
	p, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Errorf("refused: %v", err)
	}
	return p
}

func refused(t *testing.T, v *bearer.Verifier, token string) {
	t.Helper()
	if p, err := v.Verify(t.Context(), token); !errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("%+v, %v, want ErrUnauthenticated", p, err)
	}
}

func TestNewRefusesConfig(t *testing.T) {
	tests := map[string]bearer.Config{
		"nothing":             {},
		"short secret":        {Secret: testSecret[:31]},
		"relative URL":        {JWKSURL: "/keys", Issuer: "i", Audience: "a"},
		"not a URL":           {JWKSURL: "http://[::1", Issuer: "i", Audience: "a"},
		"plain http":          {JWKSURL: "http://issuer.test/keys", Issuer: "i", Audience: "a"},
		"plain http by trick": {JWKSURL: "http://localhost.issuer.test/keys", Issuer: "i", Audience: "a"},
		"file":                {JWKSURL: "file://localhost/etc/keys", Issuer: "i", Audience: "a"},
		"secret beside":       {Secret: testSecret, JWKSURL: "https://issuer.test/keys", Issuer: "i", Audience: "a"},
		"no issuer":           {JWKSURL: "https://issuer.test/keys", Audience: "a"},
		"no audience":         {JWKSURL: "https://issuer.test/keys", Issuer: "i"},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := bearer.New(t.Context(), config); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
}

func TestAlgorithms(t *testing.T) {
	k, idp := testKeys(), newIssuer(t)
	oct := map[string]string{"kty": "oct", "kid": "oct", "k": b64(testSecret)}
	forEncryption := jwk(t, "enc", k.rsa)
	forEncryption["use"] = "enc"
	idp.publish(jwk(t, "rsa", k.rsa), jwk(t, "ec", k.ec), jwk(t, "ed", k.ed), jwk(t, "p384", k.p384), jwk(t, "small", k.smallRSA),
		oct, forEncryption, map[string]string{"kty": "OKP", "crv": "Ed448", "kid": "448", "x": "AAAA"}, map[string]string{"kty": "?"})
	onlyKeys := newVerifier(t, bearer.Config{JWKSURL: idp.URL})
	onlySecret := newVerifier(t, bearer.Config{Secret: testSecret})
	c := goodClaims()
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: mustDER(t, &k.rsa.PublicKey)})
	tests := []struct {
		name                 string
		token                string
		onlyKeys, onlySecret bool
	}{
		{"RS256", sign(t, jwt.SigningMethodRS256, k.rsa, "rsa", c), true, false},
		{"ES256", sign(t, jwt.SigningMethodES256, k.ec, "ec", c), true, false},
		{"EdDSA", sign(t, jwt.SigningMethodEdDSA, k.ed, "ed", c), true, false},
		{"HS256", sign(t, jwt.SigningMethodHS256, testSecret, nil, c), false, true},
		{"HS256 with a kid", sign(t, jwt.SigningMethodHS256, testSecret, "rsa", c), false, true},
		{"HS256 by another secret", sign(t, jwt.SigningMethodHS256, bytes.Repeat([]byte("x"), 32), nil, c), false, false},
		{"HS256 by an empty secret", sign(t, jwt.SigningMethodHS256, []byte{}, nil, c), false, false},
		{"HS256 by the RSA public key in PEM", sign(t, jwt.SigningMethodHS256, rsaPEM, "rsa", c), false, false},
		{"HS256 by the RSA public key in DER", sign(t, jwt.SigningMethodHS256, mustDER(t, &k.rsa.PublicKey), "rsa", c), false, false},
		{"HS256 by the modulus", sign(t, jwt.SigningMethodHS256, k.rsa.N.Bytes(), "rsa", c), false, false},
		{"HS384", sign(t, jwt.SigningMethodHS384, testSecret, nil, c), false, false},
		{"HS512", sign(t, jwt.SigningMethodHS512, testSecret, "oct", c), false, false},
		{"none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, c), false, false},
		{"none with a kid", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "rsa", c), false, false},
		{"None", b64([]byte(`{"alg":"None"}`)) + "." + b64([]byte(`{"sub":"u1"}`)) + ".", false, false},
		{"no alg", raw(`{"typ":"JWT"}`, `{}`, testSecret), false, false},
		{"alg a number", raw(`{"alg":256}`, `{}`, testSecret), false, false},
		{"RS384", sign(t, jwt.SigningMethodRS384, k.rsa, "rsa", c), false, false},
		{"PS256", sign(t, jwt.SigningMethodPS256, k.rsa, "rsa", c), false, false},
		{"ES384", sign(t, jwt.SigningMethodES384, k.p384, "p384", c), false, false},
		{"RS256 by a small key", sign(t, jwt.SigningMethodRS256, k.smallRSA, "small", c), false, false},
		{"RS256 by a key for encryption", sign(t, jwt.SigningMethodRS256, k.rsa, "enc", c), false, false},
		{"RS256 by another key under the kid", sign(t, jwt.SigningMethodRS256, k.otherRSA, "rsa", c), false, false},
		{"RS256 with the kid of an EC key", sign(t, jwt.SigningMethodRS256, k.rsa, "ec", c), false, false},
		{"ES256 with the kid of a P-384 key", sign(t, jwt.SigningMethodES256, k.ec, "p384", c), false, false},
		{"EdDSA with the kid of an RSA key", sign(t, jwt.SigningMethodEdDSA, k.ed, "rsa", c), false, false},
		{"no kid, and one key fits", sign(t, jwt.SigningMethodRS256, k.rsa, nil, c), true, false},
		{"empty kid", sign(t, jwt.SigningMethodRS256, k.rsa, "", c), false, false},
		{"kid a number", sign(t, jwt.SigningMethodRS256, k.rsa, 1, c), false, false},
		{"kid a list", sign(t, jwt.SigningMethodRS256, k.rsa, []string{"rsa"}, c), false, false},
		{"kid a path", sign(t, jwt.SigningMethodRS256, k.rsa, "../../dev/null", c), false, false},
		{"kid an injection", sign(t, jwt.SigningMethodRS256, k.rsa, "rsa' OR '1'='1", c), false, false},
		{"kid with NUL", sign(t, jwt.SigningMethodRS256, k.rsa, "rsa\x00", c), false, false},
		{"kid long", sign(t, jwt.SigningMethodRS256, k.rsa, strings.Repeat("k", 257), c), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range []struct {
				name     string
				verifier *bearer.Verifier
				want     bool
			}{{"JWKS", onlyKeys, tt.onlyKeys}, {"secret", onlySecret, tt.onlySecret}} {
				_, err := v.verifier.Verify(t.Context(), tt.token)
				if (err == nil) != v.want {
					t.Errorf("%s: got error %v, want good %v", v.name, err, v.want)
				}
				if err != nil && !errors.Is(err, audit.ErrUnauthenticated) {
					t.Errorf("%s: got error %v, want %v", v.name, err, audit.ErrUnauthenticated)
				}
			}
		})
	}
}

func mustDER(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestHeaderIsNoKeySource puts the attacker's own key into every place of a
// header that some libraries take keys from.
func TestHeaderIsNoKeySource(t *testing.T) {
	k, idp, evil := testKeys(), newIssuer(t), newIssuer(t)
	idp.publish(jwk(t, "rsa", k.rsa))
	evil.publish(jwk(t, "evil", k.otherRSA), jwk(t, "rsa", k.otherRSA))
	v := newVerifier(t, bearer.Config{JWKSURL: idp.URL})
	for name, value := range map[string]any{
		"jwk": jwk(t, "rsa", k.otherRSA), "jku": evil.URL, "x5u": evil.URL, "x5c": []string{base64.StdEncoding.EncodeToString(mustDER(t, &k.otherRSA.PublicKey))},
	} {
		for _, kid := range []string{"rsa", "evil"} {
			token := jwt.NewWithClaims(jwt.SigningMethodRS256, goodClaims())
			token.Header["kid"], token.Header[name] = kid, value
			text, err := token.SignedString(k.otherRSA)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, v, text)
		}
	}
	if n := evil.count(); n != 0 {
		t.Errorf("asked the attacker's URL %d times, want 0", n)
	}
	critical := jwt.NewWithClaims(jwt.SigningMethodRS256, goodClaims())
	critical.Header["kid"], critical.Header["crit"] = "rsa", []string{"exp"}
	text, err := critical.SignedString(k.rsa)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, v, text)
}

func TestClaimChecks(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret, Issuer: "https://issuer.test", Audience: "ocelot"})
	at := func(d time.Duration) int64 { return epoch.Add(d).Unix() }
	tests := []struct {
		name   string
		claims jwt.MapClaims
		want   bool
	}{
		{"good", with(), true},
		{"expired", with("exp", at(-31*time.Second)), false},
		{"expired at the end of the leeway", with("exp", at(-30*time.Second)), false},
		{"expired within the leeway", with("exp", at(-29*time.Second)), true},
		{"no exp", with("exp", nil), false},
		{"exp a text", with("exp", "2030-01-01"), false},
		{"exp a quoted number", with("exp", "1900000000"), false},
		{"exp null", with("exp", json.RawMessage("null")), false},
		{"exp with a fraction", with("exp", json.RawMessage("1900000000.5")), true},
		{"exp without end", with("exp", json.RawMessage("1e300")), false},
		{"exp negative", with("exp", -1), false},
		{"nbf in the leeway", with("nbf", at(30*time.Second)), true},
		{"nbf in the future", with("nbf", at(31*time.Second)), false},
		{"nbf overflowing", with("nbf", json.RawMessage("1e300")), false},
		{"iat in the leeway", with("iat", at(30*time.Second)), true},
		{"iat in the future", with("iat", at(31*time.Second)), false},
		{"no iat", with("iat", nil), true},
		{"another issuer", with("iss", "https://issuer.test/"), false},
		{"no issuer", with("iss", nil), false},
		{"issuers", with("iss", []string{"https://issuer.test"}), false},
		{"another audience", with("aud", "ocelots"), false},
		{"no audience", with("aud", nil), false},
		{"empty audiences", with("aud", []string{}), false},
		{"audiences", with("aud", []string{"x", "ocelot"}), true},
		{"no sub", with("sub", nil), false},
		{"empty sub", with("sub", ""), false},
		{"sub a number", with("sub", 42), false},
		{"sub at its limit", with("sub", strings.Repeat("s", 256)), true},
		{"sub over its limit", with("sub", strings.Repeat("s", 257)), false},
		{"tenants a number", with("tenants", 1), false},
		{"tenants of numbers", with("tenants", []int{1}), false},
		{"tenants an object", with("tenants", map[string]string{"acme": "admin"}), false},
		{"role a list", with("role", []string{"admin"}), false},
		{"role a number", with("role", 1), false},
		{"permissions a text", with("permissions", "logs:read"), false},
		{"resources a text", with("resources", "order"), false},
		{"resource malformed", with("resources", []string{"order", "user:"}), false},
		{"unknown claims", with("scope", "openid", "nested", map[string]any{"sub": "admin"}), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := sign(t, jwt.SigningMethodHS256, testSecret, nil, tt.claims)
			if tt.want {
				good(t, v, token)
			} else {
				refused(t, v, token)
			}
		})
	}
}

// TestRefusalsSayWhy: the reason is told only of a token whose signature is valid.
func TestRefusalsSayWhy(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret, Issuer: "https://issuer.test", Audience: "ocelot"})
	ours := func(pairs ...any) string { return sign(t, jwt.SigningMethodHS256, testSecret, nil, with(pairs...)) }
	forged := func(pairs ...any) string {
		return sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, with(pairs...))
	}
	hour := time.Hour
	for token, want := range map[string]string{
		ours("exp", epoch.Add(-hour).Unix()):                "has expired. Get a new one",
		ours("exp", nil):                                    "lacks the claim exp",
		ours("exp", "2030-01-01"):                           "claim exp of the token must be a number",
		ours("exp", json.RawMessage("1e300")):               "claim exp of the token must be a number: seconds since 1970, up to the year 9999",
		ours("nbf", epoch.Add(hour).Unix()):                 "not valid yet. Wait until the time of its claim nbf",
		ours("nbf", []int{1}):                               "claim nbf of the token must be a number",
		ours("iat", epoch.Add(hour).Unix()):                 "Check the clock of its issuer",
		ours("iss", "https://other.test"):                   "another issuer than this service expects. Get one from the identity provider",
		ours("iss", nil):                                    "lacks the claim iss",
		ours("aud", "x"):                                    "another audience than this service. Request one for this service",
		ours("aud", nil):                                    "lacks the claim aud",
		ours("sub", nil):                                    "needs sub",
		ours("tenants", 1):                                  "claim tenants of the token has a value of the wrong type",
		raw(`{"alg":"HS256"}`, `[]`, testSecret):            "must be a JSON object with each name once",
		raw(`{"alg":"HS256"}`, `{"a":1,"a":2}`, testSecret): "must be a JSON object with each name once",
		forged("exp", epoch.Add(-hour).Unix()):              "not signed with a key that this service accepts",
		forged("exp", "2030-01-01"):                         "not signed with a key that this service accepts",
		"abc":                                               "not a JSON Web Token",
	} {
		var refused *access.RefusedError
		if _, err := v.Verify(t.Context(), token); !errors.As(err, &refused) {
			t.Errorf("%q: got %v, want a %T", want, err, refused)
		} else if !strings.Contains(refused.Detail, want) {
			t.Errorf("got the detail %q, want %q in it", refused.Detail, want)
		}
	}
}

// TestATokenThatGrantsNothing is refused, and the claim is named.
func TestATokenThatGrantsNothing(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret})
	null := json.RawMessage("null")
	for name, test := range map[string]struct {
		claims jwt.MapClaims
		want   string
	}{
		"no tenants":              {with("tenants", nil), "lacks the claim tenants"},
		"empty tenants":           {with("tenants", []string{}), "lacks the claim tenants"},
		"malformed tenants":       {with("tenants", []string{"Acme Corp", ""}), "The claim tenants of the token must have ids"},
		"unknown role":            {with("role", "king"), "The claim role of the token must be one of [admin "},
		"no role":                 {with("role", nil), "neither the claim role nor permissions"},
		"empty role":              {with("role", "", "permissions", []string{}), "neither the claim role nor permissions"},
		"operator of one tenant":  {with("role", "operator"), "needs the tenant *"},
		"role of another tenant":  {with("role", map[string]string{"globex": "admin"}), "to a tenant that is in the claim tenants"},
		"unknown role by tenant":  {with("role", map[string]string{"acme": "king"}), "must give one of [admin "},
		"no role by tenant":       {with("role", map[string]string{}), "neither the claim role nor permissions"},
		"unknown permission":      {with("role", nil, "permissions", []string{"logs:raed"}), "The claim permissions of the token must have some of [logs:"},
		"null everywhere":         {with("tenants", null, "role", null, "permissions", null), "lacks the claim tenants"},
		"unknown role and others": {with("role", "king", "permissions", []string{"x"}), "The claim role of the token must be one of"},
	} {
		var refused *access.RefusedError
		if _, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, testSecret, nil, test.claims)); !errors.As(err, &refused) {
			t.Errorf("%s: got %v, want a %T", name, err, refused)
		} else if !strings.Contains(refused.Detail, test.want) {
			t.Errorf("%s: got the detail %q, want %q in it", name, refused.Detail, test.want)
		}
	}
}

func TestAmbiguousTokens(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret})
	const header, claims = `{"alg":"HS256","typ":"JWT"}`, `{"sub":"u1","exp":1900000000,"tenants":["acme"],"role":"user"}`
	plain := raw(header, claims, testSecret)
	good(t, v, plain)
	parts := strings.Split(plain, ".")
	refusedTokens := map[string]string{
		"claim twice":            raw(header, `{"sub":"u1","exp":1900000000,"tenants":["acme"],"tenants":["*"]}`, testSecret),
		"claim twice by escape":  raw(header, `{"sub":"u1","exp":1900000000,"tenants":["acme"],"t\u0065nants":["*"]}`, testSecret),
		"role twice in object":   raw(header, `{"sub":"u1","exp":1900000000,"tenants":["acme"],"role":{"acme":"user","acme":"admin"}}`, testSecret),
		"unknown claim twice":    raw(header, `{"sub":"u1","exp":1900000000,"x":1,"x":2}`, testSecret),
		"header twice":           raw(`{"alg":"none","alg":"HS256"}`, claims, testSecret),
		"claims a list":          raw(header, `[]`, testSecret),
		"claims null":            raw(header, `null`, testSecret),
		"claims twice":           raw(header, claims+claims, testSecret),
		"claims of invalid text": raw(header, "{\"sub\":\"u\xff\",\"exp\":1900000000}", testSecret),
		"header null":            raw(`null`, claims, testSecret),
		"tampered claims":        parts[0] + "." + b64([]byte(strings.Replace(claims, "user", "admin", 1))) + "." + parts[2],
		"tampered header":        b64([]byte(`{"alg":"HS256","typ":"jwt"}`)) + "." + parts[1] + "." + parts[2],
		"no signature":           parts[0] + "." + parts[1] + ".",
		"short signature":        plain[:len(plain)-4],
		"padding":                plain + "=",
		"two parts":              parts[0] + "." + parts[1],
		"four parts":             plain + ".x",
		"five parts":             plain + "..",
		"nothing":                "",
		"dots":                   "..",
		"standard base64":        strings.ReplaceAll(plain, parts[2], strings.Repeat("+/", 21)+"A"),
		"spaces":                 " " + plain,
		"giant":                  strings.Repeat("A", 8<<20),
		"giant of dots":          strings.Repeat(".", 8<<20),
	}
	for name, token := range refusedTokens {
		t.Run(name, func(t *testing.T) { refused(t, v, token) })
	}
	otherCase := good(t, v, raw(header, `{"sub":"u1","exp":1900000000,"tenants":["acme"],"role":"user","Tenants":["*"],"ROLE":"operator"}`, testSecret))
	if ids, all := otherCase.TenantIDs(); all {
		t.Errorf("a claim with a name in another case: got tenants %v and all others, want only %q", ids, "acme")
	}
	last := plain[len(plain)-1]
	for c := byte('A'); c <= 'z'; c++ { // the last character carries four bits; the others must be zero
		if c != last {
			refused(t, v, plain[:len(plain)-1]+string(c))
		}
	}
}

func TestTokenSize(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret})
	sized := func(size int) string {
		pad := 0
		for {
			token := raw(`{"alg":"HS256"}`, `{"sub":"u1","exp":1900000000,"tenants":"acme","role":"admin","pad":"`+strings.Repeat("x", pad)+`"}`, testSecret)
			if len(token) >= size {
				return token
			}
			pad += max(1, (size-len(token))*3/4-3)
		}
	}
	good(t, v, sized(bearer.MaxTokenBytes-2))
	if token := sized(bearer.MaxTokenBytes + 1); len(token) <= bearer.MaxTokenBytes {
		t.Fatalf("the test's token has %d bytes, want more than %d", len(token), bearer.MaxTokenBytes)
	} else {
		refused(t, v, token)
	}
}

func TestPrincipalOfToken(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret})
	tests := []struct {
		name   string
		claims jwt.MapClaims
		tenant audit.TenantID
		perm   access.Permission
		want   bool
	}{
		{"role of one of the tenants", with("tenants", []string{"acme", "globex"}), "globex", access.LogsSearch, true},
		{"another tenant", with(), "globex", access.LogsSearch, false},
		{"one tenant as a text", with("tenants", "acme"), "acme", access.LogsSearch, true},
		{"* as a text", with("tenants", "*", "role", "operator"), "globex", access.TenantsDelete, true},
		{"* as a list", with("tenants", []string{"*"}, "role", "operator"), "globex", access.LogsSearch, true},
		{"a tenant beside a malformed one", with("tenants", []string{"A B", "acme"}), "acme", access.LogsSearch, true},
		{"an unknown role beside a permission", with("role", "king", "permissions", []string{"logs:read"}), "acme", access.LogsRead, true},
		{"role by tenant", with("tenants", []string{"acme", "globex"}, "role", map[string]string{"acme": "admin", "globex": "user"}), "acme", access.KeysManage, true},
		{"role by tenant, the other", with("tenants", []string{"acme", "globex"}, "role", map[string]string{"acme": "admin", "globex": "user"}), "globex", access.KeysManage, false},
		{"permission", with("permissions", []string{"logs:reveal", "unknown:word"}), "acme", access.LogsReveal, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := good(t, v, sign(t, jwt.SigningMethodHS256, testSecret, nil, tt.claims))
			if p.Subject != "u1" {
				t.Errorf("got subject %q, want %q", p.Subject, "u1")
			}
			if _, err := p.Authorize(tt.tenant, tt.perm); (err == nil) != tt.want {
				t.Errorf("Authorize = %v, want allowed %v", err, tt.want)
			}
		})
	}
	p := good(t, v, sign(t, jwt.SigningMethodHS256, testSecret, nil, with("resources", []string{"order", "user:42"})))
	if scope, err := p.Authorize("acme", access.LogsSearch); err != nil {
		t.Error(err)
	} else if len(scope.Resources) != 2 {
		t.Errorf("got %d resources in the scope, want 2: %+v", len(scope.Resources), scope)
	}
}

func TestRotation(t *testing.T) {
	k, idp, now := testKeys(), newIssuer(t), newClock()
	idp.publish(jwk(t, "old", k.rsa))
	v := newVerifier(t, bearer.Config{JWKSURL: idp.URL, Now: now.Now})
	oldToken := sign(t, jwt.SigningMethodRS256, k.rsa, "old", goodClaims())
	newToken := sign(t, jwt.SigningMethodRS256, k.otherRSA, "new", goodClaims())
	good(t, v, oldToken)

	idp.publish(jwk(t, "old", k.rsa), jwk(t, "new", k.otherRSA))
	now.Advance(bearer.DefaultRetryEvery)
	var group sync.WaitGroup
	for range 20 { // all at once: one fetch, and nobody is turned away meanwhile
		group.Go(func() { good(t, v, newToken) })
	}
	group.Wait()
	good(t, v, oldToken)
	if n := idp.count(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}

	for i := range 50 { // an attacker makes up key ids
		refused(t, v, sign(t, jwt.SigningMethodRS256, k.rsa, strings.Repeat("x", i+1), goodClaims()))
	}
	if n := idp.count(); n != 2 {
		t.Errorf("%d fetches after made-up key ids, want still 2", n)
	}

	idp.publish(jwk(t, "new", k.otherRSA)) // the old key is withdrawn
	now.Advance(bearer.DefaultRefreshEvery - time.Second)
	good(t, v, oldToken)
	now.Advance(2 * time.Second)
	refused(t, v, oldToken)
	good(t, v, newToken)
}

func TestOutage(t *testing.T) {
	k := testKeys()
	outages := map[string]http.HandlerFunc{
		"500":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"cut":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"HTML":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error":"busy"}`)) },
		"empty set":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"broken keys": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[{"kty":"RSA"},{}]}`)) },
		"flood": func(w http.ResponseWriter, _ *http.Request) {
			flood := map[string]any{"keys": []any{jwk(t, "rsa", k.rsa), jwk(t, "unknown", k.rsa)}, "pad": strings.Repeat("x", 2<<20)}
			_ = json.NewEncoder(w).Encode(flood)
		},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			idp, now := newIssuer(t), newClock()
			idp.publish(jwk(t, "rsa", k.rsa))
			var log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			token := sign(t, jwt.SigningMethodRS256, k.rsa, "rsa", with("exp", epoch.Add(24*time.Hour).Unix()))

			idp.answerWith(outage)
			v := newVerifier(t, bearer.Config{JWKSURL: idp.URL, Now: now.Now, Log: logger}) // starts all the same
			var unavailable *audit.UnavailableError
			if _, err := v.Verify(t.Context(), token); !errors.As(err, &unavailable) {
				t.Errorf("without keys: %v, want *UnavailableError", err)
			}
			idp.answerWith(nil)
			now.Advance(bearer.DefaultRetryEvery)
			good(t, v, token) // recovers

			idp.answerWith(outage)
			for range 10 {
				now.Advance(time.Hour)
				good(t, v, token) // lives on the keys it has
			}
			// A key that is not known may be new: nobody can tell as yet.
			unknown := sign(t, jwt.SigningMethodRS256, k.rsa, "unknown", with("exp", epoch.Add(24*time.Hour).Unix()))
			if _, err := v.Verify(t.Context(), unknown); !errors.As(err, &unavailable) {
				t.Errorf("unknown key during an outage: %v, want *UnavailableError", err)
			}
			idp.answerWith(nil)
			now.Advance(bearer.DefaultRetryEvery)
			refused(t, v, unknown)
			if log.Len() == 0 {
				t.Error("got an empty log, want the failures in it")
			}
		})
	}
}

// TestLenientJWKS: a set of a provider that serves other services too.
// certificate returns the base64 text of a self-signed certificate of a key.
func certificate(t *testing.T, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: epoch, NotAfter: epoch.Add(time.Hour)}
	text, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}

func TestLenientJWKS(t *testing.T) {
	k := testKeys()
	edit := func(kid string, key crypto.Signer, members ...any) map[string]any {
		m := map[string]any{}
		for name, value := range jwk(t, kid, key) {
			m[name] = value
		}
		for i := 0; i < len(members); i += 2 {
			m[members[i].(string)] = members[i+1]
		}
		return m
	}
	with := func(m map[string]any, name string, value any) map[string]any {
		m[name] = value
		return m
	}
	signed := func(method jwt.SigningMethod, key any, kid any) string {
		return sign(t, method, key, kid, goodClaims())
	}
	rsaToken, ecToken := signed(jwt.SigningMethodRS256, k.rsa, "1"), signed(jwt.SigningMethodES256, k.ec, "1")
	noID := signed(jwt.SigningMethodRS256, k.rsa, nil)
	tests := []struct {
		name  string
		keys  []any
		token string
		want  bool
	}{
		{"elements that are no keys", []any{1, "x", nil, []int{1}, map[string]any{"kty": 7}, edit("1", k.rsa)}, rsaToken, true},
		{"a twin for encryption before it", []any{edit("1", k.otherRSA, "use", "enc"), edit("1", k.rsa)}, rsaToken, true},
		{"a twin of another type for encryption before it", []any{edit("1", k.rsa, "use", "enc"), edit("1", k.ec)}, ecToken, true},
		{"a twin of another type for encryption after it", []any{edit("1", k.ec), edit("1", k.rsa, "use", "enc")}, ecToken, true},
		{"a twin for encryption by key_ops before it", []any{with(edit("1", k.otherRSA), "key_ops", []string{"wrapKey"}), edit("1", k.rsa)}, rsaToken, true},
		{"a twin for encryption by alg before it", []any{edit("1", k.otherRSA, "alg", "RSA-OAEP"), edit("1", k.rsa)}, rsaToken, true},
		{"a token of its twin for encryption", []any{edit("1", k.rsa, "use", "enc"), edit("1", k.ec)}, rsaToken, false},
		{"a twin for encryption after it", []any{edit("1", k.rsa), edit("1", k.otherRSA, "use", "enc")}, rsaToken, true},
		{"a twin of another type after it", []any{edit("1", k.rsa), edit("1", k.ec)}, rsaToken, true},
		{"a twin of another type before it", []any{edit("1", k.rsa), edit("1", k.ec)}, ecToken, true},
		{"an EC key before an RSA key", []any{edit("1", k.ec), edit("1", k.rsa)}, rsaToken, true},
		{"a twin of the same type", []any{edit("1", k.otherRSA), edit("1", k.rsa)}, rsaToken, true},
		{"only twins that do not fit", []any{edit("1", k.otherRSA), edit("1", k.ec)}, rsaToken, false},
		{"key_ops with verify", []any{with(edit("1", k.rsa), "key_ops", []string{"encrypt", "verify"})}, rsaToken, true},
		{"key_ops without verify", []any{edit("2", k.ec), with(edit("1", k.rsa), "key_ops", []string{"encrypt"})}, rsaToken, false},
		{"key_ops with an unknown value", []any{with(edit("1", k.rsa), "key_ops", []string{"verify", "https://example.com/op"})}, rsaToken, true},
		{"a certificate of another key", []any{edit("1", k.rsa, "x5c", []string{certificate(t, k.otherRSA)}, "x5t", "AAAA", "x5t#S256", "AAAA")}, rsaToken, true},
		{"certificates that are none", []any{edit("1", k.rsa, "x5c", []string{"no certificate"}, "x5u", "http://localhost/x")}, rsaToken, true},
		{"certificates of the wrong type", []any{edit("1", k.rsa, "x5c", "x", "x5t", 1, "x5t#S256", nil, "x5u", []int{1})}, rsaToken, true},
		{"only the certificate fits", []any{edit("1", k.otherRSA, "x5c", []string{certificate(t, k.rsa)})}, rsaToken, false},
		{"alg Ed25519", []any{edit("1", k.ed, "alg", "Ed25519")}, signed(jwt.SigningMethodEdDSA, k.ed, "1"), true},
		{"alg Ed25519 of an RSA key", []any{edit("2", k.ec), edit("1", k.rsa, "alg", "Ed25519")}, rsaToken, false},
		{"another alg", []any{edit("2", k.ec), edit("1", k.rsa, "alg", "PS256")}, rsaToken, false},
		{"no kid and one key of the type", []any{edit("1", k.rsa), edit("2", k.ec)}, noID, true},
		{"no kid and a key without one", []any{edit("", k.rsa)}, noID, true},
		{"no kid and two keys of the type", []any{edit("1", k.rsa), edit("2", k.otherRSA)}, noID, false},
		{"no kid and one key for signatures", []any{edit("1", k.rsa), edit("2", k.otherRSA, "use", "enc")}, noID, true},
		{"a kid, and a key without one", []any{edit("", k.rsa)}, rsaToken, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			idp := newIssuer(t)
			idp.answerWith(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]any{"keys": test.keys})
			})
			v := newVerifier(t, bearer.Config{JWKSURL: idp.URL})
			if test.want {
				good(t, v, test.token)
			} else {
				refused(t, v, test.token)
			}
		})
	}
}

// TestKeysEnd: keys that cannot be fetched again are trusted for a day.
func TestKeysEnd(t *testing.T) {
	k, idp, now := testKeys(), newIssuer(t), newClock()
	idp.publish(jwk(t, "rsa", k.rsa))
	v := newVerifier(t, bearer.Config{JWKSURL: idp.URL, Now: now.Now})
	token := sign(t, jwt.SigningMethodRS256, k.rsa, "rsa", with("exp", epoch.Add(72*time.Hour).Unix()))
	good(t, v, token)
	idp.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	now.Advance(24 * time.Hour)
	good(t, v, token)
	now.Advance(time.Minute)
	var unavailable *audit.UnavailableError
	if _, err := v.Verify(t.Context(), token); !errors.As(err, &unavailable) {
		t.Errorf("after a day without keys: %v, want *UnavailableError", err)
	}
}

// TestSlowJWKS: a fetch that hangs holds up only those who need its answer, and
// those no longer than they want to wait.
func TestSlowJWKS(t *testing.T) {
	k, idp, now := testKeys(), newIssuer(t), newClock()
	idp.publish(jwk(t, "rsa", k.rsa))
	v := newVerifier(t, bearer.Config{JWKSURL: idp.URL, Now: now.Now})
	token := sign(t, jwt.SigningMethodRS256, k.rsa, "rsa", goodClaims())
	good(t, v, token)
	release := make(chan struct{})
	idp.answerWith(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	now.Advance(bearer.DefaultRetryEvery)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var unavailable *audit.UnavailableError
	if _, err := v.Verify(ctx, sign(t, jwt.SigningMethodRS256, k.rsa, "unknown", goodClaims())); !errors.As(err, &unavailable) {
		t.Errorf("an unknown key: %v, want *UnavailableError", err)
	}
	good(t, v, token)
}

// TestHangingJWKS: keys that are due for a refresh stay good while the URL hangs.
func TestHangingJWKS(t *testing.T) {
	k, idp, now := testKeys(), newIssuer(t), newClock()
	idp.publish(jwk(t, "rsa", k.rsa))
	v := newVerifier(t, bearer.Config{JWKSURL: idp.URL, Now: now.Now})
	token := sign(t, jwt.SigningMethodRS256, k.rsa, "rsa", with("exp", epoch.Add(24*time.Hour).Unix()))
	good(t, v, token)
	release := make(chan struct{})
	idp.answerWith(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	now.Advance(bearer.DefaultRefreshEvery)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, token); err != nil {
		t.Errorf("with little time left: %v", err)
	}
	now.Advance(bearer.DefaultRefreshEvery)
	good(t, v, token)
}

func TestMint(t *testing.T) {
	v := newVerifier(t, bearer.Config{Secret: testSecret, Issuer: "iss", Audience: "aud"})
	minted := bearer.Token{
		Claims: access.Claims{Subject: "u1", Tenants: []string{"acme"}, Role: access.RoleAdmin, Permissions: []string{"logs:read"}, Resources: []string{"order"}},
		Issuer: "iss", Audience: "aud", IssuedAt: epoch, ExpiresAt: epoch.Add(time.Hour),
	}
	text, err := bearer.Mint(testSecret, minted)
	if err != nil {
		t.Fatal(err)
	}
	p := good(t, v, text)
	if scope, err := p.Authorize("acme", access.KeysManage); err != nil {
		t.Error(err)
	} else if len(scope.Resources) != 1 {
		t.Errorf("got %d resources in the scope, want 1: %+v", len(scope.Resources), scope)
	}
	roles := minted
	roles.Role, roles.Roles, roles.Tenants = "", map[string]access.Role{"*": access.RoleOperator, "acme": access.RoleAdmin}, []string{"*"}
	if text, err = bearer.Mint(testSecret, roles); err != nil {
		t.Fatal(err)
	}
	if _, err := good(t, v, text).Authorize(access.AnyTenant, access.TenantsCreate); err != nil {
		t.Error(err)
	}
	if _, err := bearer.Mint(testSecret[:31], minted); err == nil {
		t.Error("a secret of 31 bytes: got no error, want one")
	}
	faults := map[string]func(*bearer.Token){
		"no subject":           func(m *bearer.Token) { m.Subject = "" },
		"long subject":         func(m *bearer.Token) { m.Subject = strings.Repeat("s", 257) },
		"no tenant":            func(m *bearer.Token) { m.Tenants = nil },
		"malformed tenant":     func(m *bearer.Token) { m.Tenants = []string{"Acme"} },
		"unknown role":         func(m *bearer.Token) { m.Role = "root" },
		"operator of a tenant": func(m *bearer.Token) { m.Role = access.RoleOperator },
		"role and roles":       func(m *bearer.Token) { m.Roles = map[string]access.Role{"acme": access.RoleUser} },
		"role elsewhere":       func(m *bearer.Token) { m.Role, m.Roles = "", map[string]access.Role{"globex": access.RoleUser} },
		"unknown permission":   func(m *bearer.Token) { m.Permissions = []string{"logs:all"} },
		"malformed resource":   func(m *bearer.Token) { m.Resources = []string{"user:"} },
		"already expired":      func(m *bearer.Token) { m.ExpiresAt = m.IssuedAt },
		"expires too late":     func(m *bearer.Token) { m.ExpiresAt = m.IssuedAt.AddDate(9000, 0, 0) },
		"too large": func(m *bearer.Token) {
			m.Resources = []string{"r:" + strings.Repeat("x", 500)}
			m.Tenants = manyTenants()
		},
	}
	for name, spoil := range faults {
		t.Run(name, func(t *testing.T) {
			bad := minted
			spoil(&bad)
			if text, err := bearer.Mint(testSecret, bad); err == nil {
				t.Errorf("minted %s, want an error", text)
			}
		})
	}
}

func manyTenants() []string {
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = strings.Repeat("t", 60)
	}
	return ids
}

func BenchmarkVerifyRS256(b *testing.B) {
	idp := &issuer{}
	idp.Server = httptest.NewServer(idp)
	defer idp.Close()
	key := testKeys().rsa
	idp.publish(map[string]string{"kty": "RSA", "kid": "rsa", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())})
	v, err := bearer.New(b.Context(), bearer.Config{JWKSURL: idp.URL, Issuer: "https://issuer.test", Audience: "ocelot", Now: newClock().Now})
	if err != nil {
		b.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, goodClaims())
	token.Header["kid"] = "rsa"
	text, err := token.SignedString(key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := v.Verify(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}

func TestOnlyTenant(t *testing.T) {
	mint := func(tenants ...string) string {
		text, err := bearer.Mint(testSecret, bearer.Token{
			Claims:   access.Claims{Subject: "u1", Tenants: tenants, Permissions: []string{"logs:read"}},
			IssuedAt: epoch, ExpiresAt: epoch.Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, tt := range []struct{ name, token, want string }{
		{"one", mint("acme"), "acme"},
		{"two", mint("acme", "globex"), ""},
		{"all", mint("*"), ""},
		{"API key", "ocelot_0123", ""},
		{"no token", "", ""},
		{"too long", mint("acme") + strings.Repeat("A", bearer.MaxTokenBytes), ""},
	} {
		if got := bearer.OnlyTenant(tt.token); got != tt.want {
			t.Errorf("%s: got tenant %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestCaller: a token that was issued later is of the same caller, one with other rights is not.
func TestCaller(t *testing.T) {
	mint := func(subject, permission string, at time.Time) string {
		text, err := bearer.Mint(testSecret, bearer.Token{
			Claims:   access.Claims{Subject: subject, Tenants: []string{"acme"}, Permissions: []string{permission}},
			IssuedAt: at, ExpiresAt: at.Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		return bearer.Caller(text)
	}
	first := mint("u1", "logs:read", epoch)
	if got := mint("u1", "logs:read", epoch.Add(24*time.Hour)); got != first {
		t.Errorf("a token of the next day is of %q, want %q", got, first)
	}
	for name, other := range map[string]string{"another subject": mint("u2", "logs:read", epoch), "other rights": mint("u1", "logs:export", epoch), "an API key": bearer.Caller("ocelot_0123"), "nothing": bearer.Caller("")} {
		if other == first {
			t.Errorf("%s is the same caller", name)
		}
	}
	if got := bearer.Caller("ocelot_0123"); got != "ocelot_0123" {
		t.Errorf("an API key is of %q, want itself", got)
	}
}
