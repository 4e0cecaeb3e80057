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
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
)

// Limits of one fetch of keys.
const (
	fetchTimeout = 2 * time.Second // well below the timeout of an authorizer
	// refreshTimeout bounds the time that a token with a known key waits for newer
	// keys, which may no longer include that key.
	refreshTimeout = time.Second
	maxJWKSBytes   = 1 << 20
)

// remoteKeys are the keys of a JWKS URL. They are fetched on use and not by a timer,
// because a Lambda is frozen between requests. Fetched keys remain valid while the URL
// is unavailable.
type remoteKeys struct {
	*jwkset.MemoryJWKSet
	ctx                      context.Context // of the process: a fetch outlives the request that started it
	url                      string
	client                   *http.Client
	now                      func() time.Time
	log                      *slog.Logger
	refreshEvery, retryEvery time.Duration

	mu          sync.Mutex
	fetching    chan struct{} // closed when the running fetch ends; nil: no fetch is running
	attemptedAt time.Time     // start of the last fetch
	loadedAt    time.Time     // start of the last successful fetch; zero: there was none
}

func newRemoteKeys(ctx context.Context, config Config) *remoteKeys {
	k := &remoteKeys{
		MemoryJWKSet: jwkset.NewMemoryStorage(), ctx: ctx, url: config.JWKSURL, client: config.Client, now: config.Now,
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

// KeyRead returns the key with this id. It first fetches the keys again if the id is
// unknown or the keys are old, but not more often than retryEvery allows. It returns a
// known key even if the fetch takes too long.
func (k *remoteKeys) KeyRead(ctx context.Context, id string) (jwkset.JWK, error) {
	key, err := k.MemoryJWKSet.KeyRead(ctx, id)
	unknown := err != nil
	wait := k.refresh(unknown)
	if wait == nil {
		return key, err
	}
	if !unknown {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	select {
	case <-wait:
		return k.MemoryJWKSet.KeyRead(ctx, id)
	case <-ctx.Done():
		return key, err
	}
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
		err := k.fetch(ctx)
		if err != nil && k.log != nil {
			k.log.WarnContext(ctx, "fetch JWKS", "error", err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if err == nil {
			k.loadedAt = startedAt
		}
		k.fetching = nil
		close(done)
	}()
	return done
}

// fetch replaces the keys by those of the URL. It ignores keys of unknown types. It
// returns an error, and replaces nothing, if no key is usable.
func (k *remoteKeys) fetch(ctx context.Context) error {
	set, err := k.download(ctx)
	if err != nil {
		return err
	}
	var keys []jwkset.JWK
	var faults []error
	for i, found := range set.Keys {
		key, err := jwkset.NewJWKFromMarshal(found, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			faults = append(faults, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return fmt.Errorf("no usable key in the JWKS: %w", errors.Join(faults...))
	}
	return k.KeyReplaceAll(ctx, keys)
}

func (k *remoteKeys) download(ctx context.Context) (jwkset.JWKSMarshal, error) {
	var set jwkset.JWKSMarshal
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, http.NoBody)
	if err != nil {
		return set, errors.New("the JWKS URL is malformed")
	}
	response, err := k.client.Do(request)
	if err != nil {
		var at *url.Error // its text has the URL, which may hold a credential
		if errors.As(err, &at) {
			err = at.Err
		}
		return set, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return set, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxJWKSBytes+1))
	if err != nil {
		return set, err
	}
	if len(body) > maxJWKSBytes {
		return set, fmt.Errorf("the JWKS is over %d bytes", maxJWKSBytes)
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return set, fmt.Errorf("decode JWKS: %w", err)
	}
	return set, nil
}
