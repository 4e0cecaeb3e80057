package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

// TokenVerifier checks bearer tokens. Verify returns audit.ErrUnauthenticated
// for an invalid token, and another error if it could not check the token.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (Principal, error)
}

// KeyFinder finds API keys.
type KeyFinder interface {
	// KeyByHash returns the key whose secret has this SHA-256. It returns
	// audit.ErrNotFound if none exists.
	KeyByHash(ctx context.Context, hash [32]byte) (Key, error)
	// TouchKey records that the key was used at t.
	TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error
}

// Key has what a decision about an API key needs.
type Key struct {
	ID          string
	Creator     string         // the subject of who created it; "": nobody knows
	Tenant      audit.TenantID // the only tenant it is valid in
	Permissions []Permission
	Resources   []Resource // empty: no restriction
	ExpiresAt   time.Time  // zero: never
	LastUsedAt  time.Time  // up to an hour before the last use; zero: not yet used
}

// Principal returns the caller that the key authenticates.
func (k Key) Principal() Principal {
	return Principal{
		Subject:   "key:" + k.ID,
		KeyID:     k.ID,
		Creator:   k.Creator,
		Grants:    map[audit.TenantID][]Permission{k.Tenant: k.Permissions},
		Resources: k.Resources,
		ExpiresAt: k.ExpiresAt,
	}
}

// An API key's secret is a prefix that secret scanners recognize and 256 random bits.
const (
	secretPrefix = "ocelot_"
	secretBytes  = 32
)

// NewSecret returns the secret of a new API key; random fills its argument with random bytes.
func NewSecret(random func(b []byte)) string {
	var bits [secretBytes]byte
	random(bits[:])
	return secretPrefix + base64.RawURLEncoding.EncodeToString(bits[:])
}

// HashSecret returns the form in which a secret is stored and looked up.
func HashSecret(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// DefaultKeyTTL is how long an Authenticator uses an API key's record before it reads it again.
const DefaultKeyTTL = 5 * time.Second

// TokenTTL is how long an Authenticator uses the result of a token's verification, as API Gateway
// does with that of the authorizer. A token that expires earlier is refused then.
const TokenTTL = time.Minute

// maxCachedKeys and maxCachedTokens bound an Authenticator's memory to some megabytes.
const (
	maxCachedKeys   = 4096
	maxCachedTokens = 1024
)

// touchTimeout bounds the time that a request spends on recording a key's last use.
const touchTimeout = 2 * time.Second

// Authenticator turns the Authorization header into a Principal. It is safe for
// concurrent use and must not be copied. A revoked API key remains valid for up
// to KeyTTL in a process that has just used it. Callers must not change a Principal.
type Authenticator struct {
	Tokens TokenVerifier // nil: no bearer token is accepted
	Keys   KeyFinder     // nil: no API key is accepted
	Now    func() time.Time
	Log    *slog.Logger  // gets failures to record a key's last use; nil: they are dropped
	KeyTTL time.Duration // zero: DefaultKeyTTL

	once     sync.Once
	cache    *ttlcache.Cache[[32]byte, cachedKey] // by hash; see keyCache
	verified *ttlcache.Cache[[32]byte, Principal] // of tokens, by hash
}

// cachedKey is a key as it was read, and when its use was recorded last.
type cachedKey struct {
	key     Key
	touched time.Time
}

// Authenticate verifies the value of an Authorization header, "Bearer <token>"
// or "ApiKey <secret>" with the scheme in any case. It returns
// audit.ErrUnauthenticated if the credential is missing, malformed, unknown or
// expired, and another error if it could not check the credential.
func (a *Authenticator) Authenticate(ctx context.Context, authorization string) (Principal, error) {
	scheme, credential, found := strings.Cut(strings.Trim(authorization, " \t"), " ")
	credential = strings.TrimLeft(credential, " ")
	if !found {
		return Principal{}, refused("The Authorization header must have a scheme before the credential: Bearer for a token, or ApiKey for an API key.")
	}
	if !isToken68(credential) {
		return Principal{}, refused("The credential in the Authorization header has characters that no token or API key has.")
	}
	isKey := strings.HasPrefix(credential, secretPrefix)
	switch {
	case strings.EqualFold(scheme, "Bearer") && isKey:
		return Principal{}, refused("The credential is an API key, not a token: send it as Authorization: ApiKey <key>.")
	case strings.EqualFold(scheme, "Bearer") && a.Tokens != nil:
		return a.token(ctx, credential)
	case strings.EqualFold(scheme, "ApiKey") && !isKey && strings.Count(credential, ".") == tokenDots:
		return Principal{}, refused("The credential is a token, not an API key: send it as Authorization: Bearer <token>.")
	case strings.EqualFold(scheme, "ApiKey") && a.Keys != nil:
		return a.apiKey(ctx, credential)
	}
	return Principal{}, refused("The scheme of the Authorization header must be Bearer for a token, or ApiKey for an API key.")
}

// tokenDots is the number of dots in a JWT.
const tokenDots = 2

// isToken68 reports whether s has the form of a credential: RFC 9110, section 11.2.
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("-._~+/", c) < 0 {
			return false
		}
	}
	return s != ""
}

func (a *Authenticator) apiKey(ctx context.Context, secret string) (Principal, error) {
	bits, hasPrefix := strings.CutPrefix(secret, secretPrefix)
	if !hasPrefix || len(bits) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return Principal{}, refused("The API key is not complete, or is none: one begins with ocelot_ and has 50 characters.")
	}
	now := a.Now()
	hash := HashSecret(secret)
	key, err := a.find(ctx, hash, now)
	if errors.Is(err, audit.ErrNotFound) {
		return Principal{}, refused("The API key does not exist here. It may have been revoked, or belong to another service.")
	}
	if err != nil {
		return Principal{}, fmt.Errorf("find API key: %w", err)
	}
	if !key.ExpiresAt.IsZero() && !now.Before(key.ExpiresAt) {
		return Principal{}, refused("The API key has expired. Create a new one.")
	}
	a.touch(ctx, hash, key, now)
	return key.Principal(), nil
}

// find returns the key from the cache while it is fresh, else from the store.
// An unknown key is never cached: a new one is accepted at once, and guessing
// fills no memory.
func (a *Authenticator) find(ctx context.Context, hash [32]byte, now time.Time) (Key, error) {
	ttl := a.KeyTTL
	if ttl == 0 {
		ttl = DefaultKeyTTL
	}
	cache := a.keyCache()
	if entry, found := cache.Get(hash); found && entry.Fresh(now, ttl) {
		return entry.Value.key, nil
	}
	key, err := a.Keys.KeyByHash(ctx, hash)
	if errors.Is(err, audit.ErrNotFound) {
		cache.Remove(hash)
	}
	if err != nil {
		return Key{}, err
	}
	cache.Update(hash, func(old keyEntry, _ bool) (keyEntry, bool) {
		touched := old.Value.touched
		if key.LastUsedAt.After(touched) {
			touched = key.LastUsedAt
		}
		return keyEntry{Value: cachedKey{key: key, touched: touched}, ReadAt: now}, true
	})
	return key, nil
}

type keyEntry = ttlcache.Entry[cachedKey]

func (a *Authenticator) keyCache() *ttlcache.Cache[[32]byte, cachedKey] {
	a.makeCaches()
	return a.cache
}

func (a *Authenticator) makeCaches() {
	a.once.Do(func() {
		a.cache = ttlcache.New[[32]byte, cachedKey](maxCachedKeys)
		a.verified = ttlcache.New[[32]byte, Principal](maxCachedTokens)
	})
}

// token verifies a token, unless it did so less than TokenTTL ago. A token that is refused is
// never cached.
func (a *Authenticator) token(ctx context.Context, token string) (Principal, error) {
	a.makeCaches()
	hash, now := sha256.Sum256([]byte(token)), a.Now()
	if entry, found := a.verified.Get(hash); found && entry.Fresh(now, TokenTTL) && now.Before(entry.Value.ExpiresAt) {
		return entry.Value, nil
	}
	p, err := a.Tokens.Verify(ctx, token)
	if err == nil && len(token) <= maxCachedToken {
		a.verified.Put(hash, ttlcache.Entry[Principal]{Value: p, ReadAt: now})
	}
	return p, err
}

// maxCachedToken is the length of the longest token that is cached, in bytes.
const maxCachedToken = 4 << 10

const (
	// touchInterval is the time between two records of a key's use. A record each minute
	// would be the most frequent write of a service whose keys are in constant use.
	touchInterval = time.Hour
	// touchRetry is the time between two attempts to record a use.
	touchRetry = time.Minute
)

// touch records the key's use, to the minute, unless a use within touchInterval is
// recorded. A failure does not fail the request.
func (a *Authenticator) touch(ctx context.Context, hash [32]byte, key Key, now time.Time) {
	minute := now.Truncate(time.Minute)
	due := false
	a.keyCache().Update(hash, func(entry keyEntry, found bool) (keyEntry, bool) {
		due = found && minute.Sub(entry.Value.touched) >= touchInterval
		entry.Value.touched = minute
		return entry, due
	})
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	err := a.Keys.TouchKey(ctx, key.Tenant, key.ID, minute)
	if err == nil {
		return
	}
	a.keyCache().Update(hash, func(entry keyEntry, found bool) (keyEntry, bool) {
		entry.Value.touched = minute.Add(touchRetry - touchInterval)
		return entry, found
	})
	if a.Log != nil {
		a.Log.WarnContext(ctx, "record last use of API key", "tenant", key.Tenant, "key", key.ID, "error", err)
	}
}
