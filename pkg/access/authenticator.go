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
)

// TokenVerifier checks bearer tokens. Verify returns audit.ErrUnauthenticated
// for a token that is not good, another error where it could not find out.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (Principal, error)
}

// KeyFinder finds API keys.
type KeyFinder interface {
	// KeyByHash returns the key whose secret has this SHA-256, audit.ErrNotFound where there is none.
	KeyByHash(ctx context.Context, hash [32]byte) (Key, error)
	// TouchKey records that the key was used at t.
	TouchKey(ctx context.Context, tenant audit.TenantID, id string, t time.Time) error
}

// Key is what deciding about an API key takes.
type Key struct {
	ID          string
	Tenant      audit.TenantID // the one tenant it is good for
	Permissions []Permission
	Resources   []Resource // empty: no narrowing
	ExpiresAt   time.Time  // zero: never
	LastUsedAt  time.Time  // zero: not yet used
}

// Principal returns the caller that the key stands for.
func (k Key) Principal() Principal {
	return Principal{
		Subject:   "key:" + k.ID,
		Grants:    map[audit.TenantID][]Permission{k.Tenant: k.Permissions},
		Resources: k.Resources,
		ExpiresAt: k.ExpiresAt,
	}
}

// The form of an API key's secret: a prefix that secret scanners can look for,
// and 256 random bits.
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

// DefaultKeyTTL is how long an Authenticator trusts what it read of an API key.
const DefaultKeyTTL = 5 * time.Second

// maxCachedKeys bounds an Authenticator's memory to about 2 MB.
const maxCachedKeys = 4096

// touchTimeout bounds what recording a key's last use may cost a request.
const touchTimeout = 2 * time.Second

// Authenticator turns the Authorization header into a Principal. It is safe for
// concurrent use and must not be copied. A revoked API key is good for up to
// KeyTTL longer in a process that used it just before.
type Authenticator struct {
	Tokens TokenVerifier // nil: no bearer token is accepted
	Keys   KeyFinder     // nil: no API key is accepted
	Now    func() time.Time
	Log    *slog.Logger  // gets failures to record a key's last use; nil: nobody does
	KeyTTL time.Duration // zero: DefaultKeyTTL

	mu     sync.Mutex
	cached map[[32]byte]cachedKey
}

// cachedKey is a key as it was read, and the last minute for which its use was recorded.
type cachedKey struct {
	key    Key
	readAt time.Time
	used   time.Time
}

// Authenticate verifies the value of an Authorization header, "Bearer <token>"
// or "ApiKey <secret>" with the scheme in any case. It returns
// audit.ErrUnauthenticated where the credential is missing, malformed, unknown
// or expired, and another error where it could not find out.
func (a *Authenticator) Authenticate(ctx context.Context, authorization string) (Principal, error) {
	scheme, credential, found := strings.Cut(strings.Trim(authorization, " \t"), " ")
	credential = strings.TrimLeft(credential, " ")
	if !found || !isToken68(credential) {
		return Principal{}, fmt.Errorf("authorization header: %w", audit.ErrUnauthenticated)
	}
	switch {
	case strings.EqualFold(scheme, "Bearer") && a.Tokens != nil:
		return a.Tokens.Verify(ctx, credential)
	case strings.EqualFold(scheme, "ApiKey") && a.Keys != nil:
		return a.apiKey(ctx, credential)
	}
	return Principal{}, fmt.Errorf("authorization scheme: %w", audit.ErrUnauthenticated)
}

// isToken68 reports whether s has the form that RFC 9110, section 11.2, gives a credential.
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
		return Principal{}, fmt.Errorf("API key: not of the form of one: %w", audit.ErrUnauthenticated)
	}
	now := a.Now()
	hash := HashSecret(secret)
	key, err := a.find(ctx, hash, now)
	if errors.Is(err, audit.ErrNotFound) {
		return Principal{}, fmt.Errorf("API key: unknown: %w", audit.ErrUnauthenticated)
	}
	if err != nil {
		return Principal{}, fmt.Errorf("find API key: %w", err)
	}
	if !key.ExpiresAt.IsZero() && !now.Before(key.ExpiresAt) {
		return Principal{}, fmt.Errorf("API key %s: expired: %w", key.ID, audit.ErrUnauthenticated)
	}
	a.touch(ctx, hash, key, now)
	return key.Principal(), nil
}

// find returns the key from memory while it is fresh, else from the store.
// Unknown keys are never kept: a new one is good at once, and guessing fills no memory.
func (a *Authenticator) find(ctx context.Context, hash [32]byte, now time.Time) (Key, error) {
	a.mu.Lock()
	entry, ok := a.cached[hash]
	a.mu.Unlock()
	if ok && a.fresh(entry, now) {
		return entry.key, nil
	}
	key, err := a.Keys.KeyByHash(ctx, hash)
	a.mu.Lock()
	defer a.mu.Unlock()
	if errors.Is(err, audit.ErrNotFound) {
		delete(a.cached, hash)
	}
	if err != nil {
		return Key{}, err
	}
	used := a.cached[hash].used
	if key.LastUsedAt.After(used) {
		used = key.LastUsedAt
	}
	a.makeRoom(hash, now)
	a.cached[hash] = cachedKey{key: key, readAt: now, used: used}
	return key, nil
}

func (a *Authenticator) fresh(entry cachedKey, now time.Time) bool {
	ttl := a.KeyTTL
	if ttl == 0 {
		ttl = DefaultKeyTTL
	}
	age := now.Sub(entry.readAt)
	return age >= 0 && age < ttl
}

// makeRoom keeps the cache within its bound: stale keys go first, then any.
func (a *Authenticator) makeRoom(hash [32]byte, now time.Time) {
	if a.cached == nil {
		a.cached = map[[32]byte]cachedKey{}
	}
	if _, present := a.cached[hash]; present || len(a.cached) < maxCachedKeys {
		return
	}
	for h, entry := range a.cached {
		if !a.fresh(entry, now) {
			delete(a.cached, h)
		}
	}
	for h := range a.cached {
		if len(a.cached) < maxCachedKeys {
			return
		}
		delete(a.cached, h)
	}
}

// touch records the key's use once in each minute. The request goes on whether
// that worked or not, and the next attempt is in the next minute either way.
func (a *Authenticator) touch(ctx context.Context, hash [32]byte, key Key, now time.Time) {
	minute := now.Truncate(time.Minute)
	a.mu.Lock()
	entry, ok := a.cached[hash]
	due := ok && minute.After(entry.used)
	if due {
		entry.used = minute
		a.cached[hash] = entry
	}
	a.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	if err := a.Keys.TouchKey(ctx, key.Tenant, key.ID, minute); err != nil && a.Log != nil {
		a.Log.WarnContext(ctx, "record last use of API key", "tenant", key.Tenant, "key", key.ID, "error", err)
	}
}
