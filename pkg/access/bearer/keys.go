package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// Limits of one fetch of keys.
const (
	fetchTimeout = 2 * time.Second // well below the timeout of an authorizer
	// refreshTimeout bounds the time that a token with a known key waits for newer
	// keys, which may no longer include that key.
	refreshTimeout = time.Second
	maxJWKSBytes   = 1 << 20
)

// maxKeyAge is how long fetched keys are used while the URL is unavailable.
const maxKeyAge = 24 * time.Hour

// remoteKeys are the keys of a JWKS URL. They are fetched on use and not by a timer,
// because a Lambda is frozen between requests. Fetched keys remain valid while the URL
// is unavailable, for maxKeyAge.
type remoteKeys struct {
	ctx                      context.Context // of the process: a fetch outlives the request that started it
	url                      string
	client                   *http.Client
	now                      func() time.Time
	log                      *slog.Logger
	refreshEvery, retryEvery time.Duration

	mu          sync.Mutex
	keys        []verificationKey
	fetching    chan struct{} // closed when the running fetch ends; nil: no fetch is running
	attemptedAt time.Time     // start of the last fetch
	loadedAt    time.Time     // start of the last successful fetch; zero: there was none
}

// verificationKey is a key that verifies signatures of one algorithm.
type verificationKey struct {
	id     string // "" if it has none
	method jwt.SigningMethod
	key    jwt.VerificationKey
}

func newRemoteKeys(ctx context.Context, config Config) *remoteKeys {
	k := &remoteKeys{
		ctx: ctx, url: config.JWKSURL, client: config.Client, now: config.Now,
		log: config.Log, refreshEvery: config.RefreshEvery, retryEvery: config.RetryEvery,
	}
	if k.client == nil {
		k.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if k.refreshEvery == 0 {
		k.refreshEvery = DefaultRefreshEvery
	}
	if k.retryEvery == 0 {
		k.retryEvery = DefaultRetryEvery
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.startFetch()
	return k
}

// upToDate reports whether the last fetch has ended with success.
func (k *remoteKeys) upToDate() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loadedAt.Equal(k.attemptedAt)
}

// find returns the keys for a token: those for its algorithm with the id, or, if the id is
// "", the only key for its algorithm. It first fetches the keys again if none fits or they are
// old, but not more often than retryEvery allows. It returns known keys even if the fetch takes
// too long.
func (k *remoteKeys) find(ctx context.Context, method jwt.SigningMethod, id string) []jwt.VerificationKey {
	found := k.known(method, id)
	wait := k.refresh(len(found) == 0)
	if wait == nil {
		return found
	}
	if len(found) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	select {
	case <-wait:
		return k.known(method, id)
	case <-ctx.Done():
		return found
	}
}

// known is find without a fetch.
func (k *remoteKeys) known(method jwt.SigningMethod, id string) (found []jwt.VerificationKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.loadedAt) > maxKeyAge {
		return nil
	}
	for _, key := range k.keys {
		if key.method == method && (id == "" || id == key.id) {
			found = append(found, key.key)
		}
	}
	if id == "" && len(found) > 1 {
		return nil // the token does not say which
	}
	return found
}

// refresh starts a fetch if one is due. It returns a channel that is closed when the
// fetch ends, or nil if the caller need not wait. The caller waits for the fetch that it
// starts. With an unknown key, it also waits for a running fetch.
func (k *remoteKeys) refresh(unknown bool) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	switch {
	case k.fetching != nil && unknown:
		return k.fetching
	case k.fetching != nil, now.Sub(k.attemptedAt) < k.retryEvery:
		return nil
	case !unknown && now.Sub(k.loadedAt) < k.refreshEvery:
		return nil
	}
	return k.startFetch()
}

// startFetch starts a fetch. The caller must have locked mu.
func (k *remoteKeys) startFetch() <-chan struct{} {
	done := make(chan struct{})
	startedAt := k.now()
	k.fetching, k.attemptedAt = done, startedAt
	go func() {
		ctx, cancel := context.WithTimeout(k.ctx, fetchTimeout)
		defer cancel()
		keys, err := k.fetch(ctx)
		if err != nil && k.log != nil {
			k.log.WarnContext(ctx, "fetch JWKS", "error", err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if err == nil {
			k.keys, k.loadedAt = keys, startedAt
		}
		k.fetching = nil
		close(done)
	}()
	return done
}

// fetch returns the keys of the URL. It passes over elements that are no keys for signatures of
// a known algorithm. It returns an error if no key is left.
func (k *remoteKeys) fetch(ctx context.Context) (keys []verificationKey, err error) {
	found, err := k.download(ctx)
	if err != nil {
		return nil, err
	}
	var faults []error
	for i, text := range found {
		key, err := parseKey(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no usable key in the JWKS: %w", errors.Join(faults...))
	}
	return keys, nil
}

// lenientKey is a JSON Web Key without its certificates. They are not used, so that a fault of
// theirs does not make the key unusable.
type lenientKey struct {
	jwkset.JWKMarshal

	X5C     json.RawMessage `json:"x5c"`
	X5T     json.RawMessage `json:"x5t"`
	X5TS256 json.RawMessage `json:"x5t#S256"`
	X5U     json.RawMessage `json:"x5u"`
}

// isFor reports whether the alg of a key is the method's. Ed25519 is another name of EdDSA with a
// key of that type (RFC 9864).
func isFor(alg jwkset.ALG, method jwt.SigningMethod) bool {
	return alg == "" || string(alg) == method.Alg() || alg == "Ed25519" && method == jwt.SigningMethodEdDSA
}

// parseKey parses a JSON Web Key (RFC 7517) that may verify signatures.
func parseKey(text []byte) (verificationKey, error) {
	var read lenientKey
	if err := json.Unmarshal(text, &read); err != nil {
		return verificationKey{}, errors.New("it has not the form of a key")
	}
	m := read.JWKMarshal
	if m.USE != "" && m.USE != jwkset.UseSig {
		return verificationKey{}, fmt.Errorf("its use is %.20q", m.USE)
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return verificationKey{}, errors.New("its key_ops do not include verify")
	}
	m.KEYOPS = nil // other values may stand beside it (RFC 7517, section 4.3)
	parsed, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verificationKey{}, err
	}
	for _, method := range remoteMethods {
		if checkKey(method, parsed.Key()) == nil && isFor(m.ALG, method) {
			return verificationKey{id: m.KID, method: method, key: parsed.Key()}, nil
		}
	}
	return verificationKey{}, errors.New("its type, size or alg is not one that this service accepts")
}

// download returns the elements of the set.
func (k *remoteKeys) download(ctx context.Context) ([]json.RawMessage, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, http.NoBody)
	if err != nil {
		return nil, errors.New("the JWKS URL is malformed")
	}
	response, err := k.client.Do(request)
	if err != nil {
		var at *url.Error // its text has the URL, which may hold a credential
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxJWKSBytes {
		return nil, fmt.Errorf("the JWKS is over %d bytes", maxJWKSBytes)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("decode JWKS: %w", err)
	}
	return set.Keys, nil
}
