// Package bearer verifies JSON Web Tokens: RS256, ES256 and EdDSA by the keys
// of a JWKS URL, HS256 by a shared secret for development.
package bearer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of tokens and keys.
const (
	MaxTokenBytes  = 8 << 10          // API Gateway takes 10,240 bytes of headers in all
	MinSecretBytes = 32               // RFC 7518, section 3.2: as many as the hash has
	Leeway         = 30 * time.Second // of exp, nbf and iat, for clocks that disagree
	minRSABits     = 2048             // RFC 7518, section 3.3
	maxKeyID       = 256              // bytes
)

// Defaults of a Config.
const (
	DefaultRefreshEvery = 15 * time.Minute
	DefaultRetryEvery   = 10 * time.Second
)

// Config says which tokens are good. At least one of Secret and JWKSURL is set.
type Config struct {
	// Secret verifies HS256 tokens; at least MinSecretBytes. Empty: HS256 is refused.
	Secret []byte
	// JWKSURL has the keys of RS256, ES256 and EdDSA tokens: https, or http on a
	// loopback address. Empty: these algorithms are refused.
	JWKSURL string
	// Issuer and Audience must be those of the token; an empty one is not checked.
	Issuer, Audience string

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // gets failures to fetch keys; nil: nobody does
	// Client fetches keys; nil: one with a timeout that follows no redirects.
	Client *http.Client
	// RefreshEvery is after how long keys are fetched again, hence for how long a
	// withdrawn key may still be trusted; zero: DefaultRefreshEvery.
	RefreshEvery time.Duration
	// RetryEvery is the least time between two fetches, whether an unknown key id
	// or a failure asks for one; zero: DefaultRetryEvery.
	RetryEvery time.Duration
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	secret []byte
	keys   *remoteKeys     // nil without a JWKS URL
	lookup keyfunc.Keyfunc // nil without a JWKS URL
	parser *jwt.Parser
}

// New returns a verifier. It does not wait for the JWKS URL: keys are fetched
// from now on, and while they cannot be Verify answers *audit.UnavailableError to
// tokens whose key is not known. ctx ends the fetching.
func New(ctx context.Context, config Config) (*Verifier, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Verifier{secret: bytes.Clone(config.Secret)}
	var methods []string
	switch {
	case len(config.Secret) == 0 && config.JWKSURL == "":
		return nil, errors.New("bearer: neither a secret nor a JWKS URL is set")
	case len(config.Secret) > 0 && len(config.Secret) < MinSecretBytes:
		return nil, fmt.Errorf("bearer: the secret must have at least %d bytes", MinSecretBytes)
	case len(config.Secret) > 0:
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	if config.JWKSURL != "" {
		if err := checkURL(config.JWKSURL); err != nil {
			return nil, err
		}
		v.keys = newRemoteKeys(ctx, config)
		var err error
		v.lookup, err = keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: v.keys, UseWhitelist: []jwkset.USE{"", jwkset.UseSig}})
		if err != nil {
			return nil, fmt.Errorf("bearer: %w", err)
		}
		methods = append(methods, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg())
	}
	v.parser = jwt.NewParser(parserOptions(config, methods)...)
	return v, nil
}

func parserOptions(config Config, methods []string) []jwt.ParserOption {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(config.Now),
	}
	if config.Issuer != "" {
		options = append(options, jwt.WithIssuer(config.Issuer))
	}
	if config.Audience != "" {
		options = append(options, jwt.WithAudience(config.Audience))
	}
	return options
}

// checkURL refuses what would let someone on the network hand out the keys.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("bearer: the JWKS URL must be absolute")
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return errors.New("bearer: the JWKS URL must be https, or http on a loopback address")
	}
	return nil
}

// Verify implements access.TokenVerifier: it returns audit.ErrUnauthenticated
// for every token that is not good, and *audit.UnavailableError while its key
// cannot be fetched to tell.
func (v *Verifier) Verify(ctx context.Context, token string) (access.Principal, error) {
	if len(token) > MaxTokenBytes {
		return access.Principal{}, fmt.Errorf("bearer token: over %d bytes: %w", MaxTokenBytes, audit.ErrUnauthenticated)
	}
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	var unavailable *audit.UnavailableError
	if errors.As(err, &unavailable) {
		return access.Principal{}, unavailable
	}
	if err != nil {
		return access.Principal{}, fmt.Errorf("bearer token: %w: %w", audit.ErrUnauthenticated, err)
	}
	p, err := c.access().Principal()
	if err != nil {
		return access.Principal{}, fmt.Errorf("bearer token: %w: %w", audit.ErrUnauthenticated, err)
	}
	p.ExpiresAt = c.fields.ExpiresAt.date().Add(Leeway).UTC()
	return p, nil
}

// key chooses the key by the algorithm, which the parser has found to be one of
// the allowed, so that no key ever serves another algorithm than its own.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if err := v.checkHeader(t); err != nil {
		return nil, err
	}
	if t.Method == jwt.SigningMethodHS256 {
		return v.secret, nil
	}
	kid, ok := t.Header["kid"].(string)
	if !ok || kid == "" || len(kid) > maxKeyID {
		return nil, fmt.Errorf("kid must be a text of 1 to %d bytes", maxKeyID)
	}
	key, err := v.lookup.KeyfuncCtx(ctx)(t)
	if err != nil && !v.keys.current() {
		return nil, &audit.UnavailableError{Err: errors.New("the key is not known and the JWKS cannot be fetched")}
	}
	if err != nil {
		return nil, err
	}
	return key, fits(t.Method, key)
}

// checkHeader refuses a header that says something twice or asks for an
// extension, none of which is known here (RFC 7515, section 4.1.11).
func (v *Verifier) checkHeader(t *jwt.Token) error {
	segment, _, _ := strings.Cut(t.Raw, ".")
	header, err := v.parser.DecodeSegment(segment)
	if err != nil {
		return err
	}
	if !jsontext.Value(header).IsValid() {
		return errors.New("header is not unambiguous JSON")
	}
	if _, present := t.Header["crit"]; present {
		return errors.New("header has critical extensions")
	}
	return nil
}

// fits binds an algorithm to its kind and size of key.
func fits(method jwt.SigningMethod, key any) error {
	ok := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		ok = method == jwt.SigningMethodRS256 && k.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		ok = method == jwt.SigningMethodES256 && k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		ok = method == jwt.SigningMethodEdDSA
	}
	if !ok {
		return fmt.Errorf("the key is not one for %s", method.Alg())
	}
	return nil
}
