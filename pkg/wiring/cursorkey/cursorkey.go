// Package cursorkey reads the keys with which a Lambda signs and verifies cursors and tickets.
package cursorkey

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

// FromEnv reads the keys that the environment holds or names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyCursorKey, Open: open}

const variable = "OCELOT_CURSOR_KEY"

func open(ctx context.Context, o *fromenv.Opening) error {
	fetch := func(ctx context.Context) (config.Secret, error) {
		return secretvalue.Resolve(ctx, o, variable, o.Settings.CursorKey)
	}
	failed := func(err error) { o.Log.Warn("the earlier cursor keys remain in use", "error", err) }
	ring, err := NewRing(ctx, fetch, time.Now, failed)
	if err != nil {
		return err
	}
	o.Security.CursorKeys, o.Security.KeyVersions = ring.Keys, versions(o)
	return nil
}

const (
	// RefreshEvery is how often the secret is read again. What is read may come from a cache of
	// secrets, where it is up to a minute old.
	RefreshEvery = 5 * time.Minute
	// fetchTimeout bounds the time for which a request waits for fresh keys.
	fetchTimeout = 2 * time.Second
)

// Ring has the keys of a secret that may change. It is safe for concurrent use.
type Ring struct {
	fetch  func(ctx context.Context) (config.Secret, error)
	now    func() time.Time
	failed func(err error)

	mu   sync.Mutex
	keys [][]byte
	next time.Time // when the secret is fetched again
}

// NewRing fetches the keys. Later ones are fetched while the ring is used. failed gets the error
// if that fails: the ring then keeps the keys that it has.
func NewRing(ctx context.Context, fetch func(ctx context.Context) (config.Secret, error), now func() time.Time, failed func(err error)) (*Ring, error) {
	r := &Ring{fetch: fetch, now: now, failed: failed}
	r.claim()
	return r, r.refresh(ctx)
}

// Keys returns the keys that were read at most RefreshEvery ago, or when the secret could be read
// last. One caller fetches them again. The others get the earlier ones meanwhile.
func (r *Ring) Keys() [][]byte {
	if r.claim() {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		if err := r.refresh(ctx); err != nil {
			r.failed(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}

// claim reports whether the caller is to fetch the secret, because its time has come.
func (r *Ring) claim() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now().Before(r.next) {
		return false
	}
	r.next = r.now().Round(0).Add(RefreshEvery) // by the wall clock: a frozen process's other one may stand still
	return true
}

// refresh fetches the keys. It holds no lock while it waits.
func (r *Ring) refresh(ctx context.Context) error {
	secret, err := r.fetch(ctx)
	if err != nil {
		return err
	}
	keys, err := cursor.ParseKeys(secret)
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = keys
	return nil
}
