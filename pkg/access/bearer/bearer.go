// Package bearer verifies JSON Web Tokens: RS256, ES256 and EdDSA with the keys of a
// JWKS URL, and HS256 with a shared secret for development.
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

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Limits of tokens and keys.
const (
	MaxTokenBytes  = 8 << 10          // API Gateway accepts 10,240 bytes of headers in total
	MinSecretBytes = 32               // RFC 7518, section 3.2: at least the size of the hash
	Leeway         = 30 * time.Second // of exp, nbf and iat, for clock skew
	minRSABits     = 2048             // RFC 7518, section 3.3
	maxKeyID       = 256              // bytes
)

// Defaults of a Config.
const (
	DefaultRefreshEvery = 15 * time.Minute
	DefaultRetryEvery   = 10 * time.Second
)

// Config says which tokens are valid. Either Secret or JWKSURL must be set.
type Config struct {
	// Secret verifies HS256 tokens; at least MinSecretBytes. Empty: HS256 is refused.
	Secret []byte
	// JWKSURL serves the keys of RS256, ES256 and EdDSA tokens. It must be https, or
	// http on a loopback address. Empty: these algorithms are refused.
	JWKSURL string
	// Issuer and Audience must equal the token's. They must be set with a JWKSURL: a provider
	// signs tokens for other services with the same keys. With a Secret, an empty one is not checked.
	Issuer, Audience string

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // gets failures to fetch keys; nil: they are dropped
	// Client fetches keys; nil: a client that does not follow redirects.
	Client *http.Client
	// RefreshEvery is the interval after which keys are fetched again. A withdrawn key
	// may be trusted for this long. Zero: DefaultRefreshEvery.
	RefreshEvery time.Duration
	// RetryEvery is the minimum interval between two fetches, after an unknown key id
	// or a failure. Zero: DefaultRetryEvery.
	RetryEvery time.Duration
}

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	secret []byte
	keys   *remoteKeys // nil without a JWKS URL
	parser *jwt.Parser
}

// New returns a verifier. It starts to fetch the keys and does not wait for them. While
// the JWKS URL is unavailable, Verify returns an *audit.UnavailableError for tokens
// with an unknown key. Canceling ctx stops the fetching.
func New(ctx context.Context, config Config) (*Verifier, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Verifier{secret: bytes.Clone(config.Secret)}
	var methods []string
	switch {
	case len(config.Secret) == 0 && config.JWKSURL == "":
		return nil, errors.New("bearer: neither a secret nor a JWKS URL is set")
	case len(config.Secret) > 0 && config.JWKSURL != "":
		return nil, errors.New("bearer: a secret and a JWKS URL exclude each other")
	case config.JWKSURL != "" && (config.Issuer == "" || config.Audience == ""):
		return nil, errors.New("bearer: a JWKS URL needs an issuer and an audience")
	case config.JWKSURL != "":
		if err := checkURL(config.JWKSURL); err != nil {
			return nil, err
		}
		v.keys = newRemoteKeys(ctx, config)
		for _, method := range remoteMethods {
			methods = append(methods, method.Alg())
		}
	case len(config.Secret) < MinSecretBytes:
		return nil, fmt.Errorf("bearer: the secret must have at least %d bytes", MinSecretBytes)
	default:
		methods = append(methods, jwt.SigningMethodHS256.Alg())
	}
	v.parser = jwt.NewParser(parserOptions(config, methods)...)
	return v, nil
}

// remoteMethods are the algorithms of tokens whose keys a JWKS URL serves.
var remoteMethods = []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodES256, jwt.SigningMethodEdDSA}

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

// checkURL refuses a URL over which an attacker on the network could inject keys.
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

// Verify implements access.TokenVerifier. It returns audit.ErrUnauthenticated for an
// invalid token, and an *audit.UnavailableError if the token's key is unknown and the
// keys cannot be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (access.Principal, error) {
	if len(token) > MaxTokenBytes {
		return access.Principal{}, &access.RefusedError{Detail: fmt.Sprintf("The token has more than %d bytes.", MaxTokenBytes)}
	}
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) { return v.key(ctx, t) })
	var unavailable *audit.UnavailableError
	if errors.As(err, &unavailable) {
		return access.Principal{}, unavailable
	}
	if err != nil {
		return access.Principal{}, &access.RefusedError{Detail: reason(err, &c), Err: err}
	}
	p, err := c.access().Principal()
	if err = errors.Join(c.fault, err); err != nil {
		return access.Principal{}, &access.RefusedError{Detail: badClaims, Err: err}
	}
	if len(p.Grants) == 0 {
		return access.Principal{}, &access.RefusedError{Detail: grantsNothing(c.access()), Err: errNoGrants}
	}
	p.ExpiresAt = c.fields.ExpiresAt.date().Add(Leeway).UTC()
	return p, nil
}

// reason says why the parser refused a token with these claims. The parser checks the signature
// before it checks the claims, so that nobody learns from a forged token what would be accepted.
func reason(err error, c *claims) string {
	var malformed *claimsError
	if errors.As(err, &malformed) {
		return malformed.Error()
	}
	if errors.Is(err, jwt.ErrTokenRequiredClaimMissing) {
		return "The token lacks the claim " + c.missing() + ". Have its issuer add it."
	}
	for _, r := range []struct {
		err    error
		detail string
	}{
		{jwt.ErrTokenMalformed, "The credential is not a JSON Web Token."},
		{jwt.ErrTokenUnverifiable, "The token is not signed with a key that this service accepts. It may be for another service, or of another data folder."},
		{jwt.ErrTokenSignatureInvalid, "The token is not signed with a key that this service accepts. It may be for another service, or of another data folder."},
		{jwt.ErrTokenExpired, "The token has expired. Get a new one."},
		{jwt.ErrTokenNotValidYet, "The token is not valid yet. Wait until the time of its claim nbf, or check the clock of its issuer."},
		{jwt.ErrTokenUsedBeforeIssued, "The token was issued in the future. Check the clock of its issuer."},
		{jwt.ErrTokenInvalidIssuer, "The token has another issuer than this service expects. Get one from the identity provider of this service."},
		{jwt.ErrTokenInvalidAudience, "The token is for another audience than this service. Request one for this service."},
	} {
		if errors.Is(err, r.err) {
			return r.detail
		}
	}
	return badClaims
}

var errNoGrants = errors.New("the claims grant nothing")

const badClaims = "The claims of the token are not those of a caller: it needs sub, tenants, and role or permissions."

// key returns the key for the token's algorithm, so that a key is only used with its
// own algorithm. The parser has checked that the algorithm is allowed.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if err := v.checkHeader(t); err != nil {
		return nil, err
	}
	if t.Method == jwt.SigningMethodHS256 {
		return v.secret, nil
	}
	id, named := t.Header["kid"]
	text, ok := id.(string)
	if named && (!ok || text == "" || len(text) > maxKeyID) {
		return nil, fmt.Errorf("kid must be a text of 1 to %d bytes", maxKeyID)
	}
	found := v.keys.find(ctx, t.Method, text)
	switch {
	case len(found) == 0 && !v.keys.upToDate():
		return nil, &audit.UnavailableError{Err: errors.New("the key is not known and the JWKS cannot be fetched")}
	case len(found) == 0:
		return nil, errors.New("no key is known for the token")
	}
	return jwt.VerificationKeySet{Keys: found}, nil
}

// checkHeader refuses a header with duplicate names or with critical extensions, which
// this package does not support (RFC 7515, section 4.1.11).
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

// checkKey returns an error unless the type and size of the key fit the algorithm.
func checkKey(method jwt.SigningMethod, key any) error {
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
