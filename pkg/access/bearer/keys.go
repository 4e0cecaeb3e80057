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
	fetchTimeout = 2 * time.Second // well under the time of an authorizer
	// patience is how long a token whose key is known waits for newer keys, which
	// may lack it.
	patience     = time.Second
	maxJWKSBytes = 1 << 20
)

// remoteKeys are the keys of a JWKS URL. They are fetched on use, so that a
// process that sleeps between requests, as a Lambda does, needs no timer; those
// that were fetched stay good while the URL cannot be reached.
type remoteKeys struct {
	*jwkset.MemoryJWKSet
	ctx                      context.Context // ends fetches with the process, not with the request that began one
	url                      string
	client                   *http.Client
	now                      func() time.Time
	log                      *slog.Logger
	refreshEvery, retryEvery time.Duration

	mu          sync.Mutex
	underWay    chan struct{} // closed at the end of the fetch that is under way; nil: none is
	attemptedAt time.Time     // when the last fetch began
	loadedAt    time.Time     // when the last successful fetch began; zero: there was none
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
	k.begin()
	return k
}

// current reports whether the last fetch that was begun has succeeded.
func (k *remoteKeys) current() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loadedAt.Equal(k.attemptedAt)
}

// KeyRead returns the key with this id. An unknown id has the keys fetched again
// first, and so does their age; neither more often than retryEvery allows. A key
// that is known is returned even where that takes too long.
func (k *remoteKeys) KeyRead(ctx context.Context, id string) (jwkset.JWK, error) {
	key, err := k.MemoryJWKSet.KeyRead(ctx, id)
	unknown := err != nil
	wait := k.refresh(unknown)
	if wait == nil {
		return key, err
	}
	if !unknown {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case <-wait:
		return k.MemoryJWKSet.KeyRead(ctx, id)
	case <-ctx.Done():
		return key, err
	}
}

// refresh begins a fetch where one is due and returns what its caller has to
// wait for, nil for nothing: whoever asks for an unknown key waits for the fetch
// under way, whoever finds the keys old for the one it begins.
func (k *remoteKeys) refresh(unknown bool) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	switch {
	case k.underWay != nil && unknown:
		return k.underWay
	case k.underWay != nil, now.Sub(k.attemptedAt) < k.retryEvery:
		return nil
	case !unknown && now.Sub(k.loadedAt) < k.refreshEvery:
		return nil
	}
	return k.begin()
}

// begin starts a fetch; the caller holds mu.
func (k *remoteKeys) begin() <-chan struct{} {
	done := make(chan struct{})
	began := k.now()
	k.underWay, k.attemptedAt = done, began
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
			k.loadedAt = began
		}
		k.underWay = nil
		close(done)
	}()
	return done
}

// fetch replaces the keys by those of the URL. Keys of a kind that is not known
// are left out; a set without a single usable one is taken for a fault of the
// URL and changes nothing.
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
		return set, errors.New("the JWKS URL makes no request")
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
