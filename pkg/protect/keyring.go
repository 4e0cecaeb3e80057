package protect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ttlcache"
)

const (
	// KeyTTL is how long a process uses a key that it has read.
	KeyTTL = 5 * time.Minute
	// refreshAge is the age at which a process that uses a root reads it again, so that requests do not
	// wait for that and an outage of a minute stops none.
	refreshAge = KeyTTL - time.Minute
	// maxRoots and maxSubjects bound the keys in memory, of about 300 bytes each.
	maxRoots    = 10_000
	maxSubjects = 100_000
	// keyTimeout bounds how long requests wait for a root that one of them fetches.
	keyTimeout = 8 * time.Second
	// maxRaces is how often a key is made again that was destroyed since it was made.
	maxRaces = 3
)

// Keyring has the keys of tenants. It keeps what it has read for KeyTTL, so that it works on while
// the store or the master key cannot be reached, and calls the master key once for each tenant. It does
// not call a master key that failed less than MasterPause ago. Its errors are *audit.UnavailableErrors
// if a retry can succeed. It is safe for concurrent use.
type Keyring struct {
	store    KeyStore
	wrapper  KeyWrapper
	now      func() time.Time
	random   func([]byte)
	roots    *ttlcache.Cache[audit.TenantID, *TenantKeys]
	subjects *ttlcache.Cache[tenantSubject, Key]
	flights  singleflight.Group
	sweptAt  atomic.Int64 // Unix seconds of the last sweep
}

type tenantSubject struct {
	tenant  audit.TenantID
	subject SubjectID
}

// NewKeyring returns a keyring. random fills its argument with random bytes.
func NewKeyring(store KeyStore, wrapper KeyWrapper, now func() time.Time, random func([]byte)) *Keyring {
	return &Keyring{
		store: store, wrapper: &pausingMaster{KeyWrapper: wrapper, now: now}, now: now, random: random,
		roots: ttlcache.New[audit.TenantID, *TenantKeys](maxRoots), subjects: ttlcache.New[tenantSubject, Key](maxSubjects),
	}
}

// Tenant returns the keys of a tenant. It makes their root at the first use. It returns ErrDestroyed
// after the tenant's deletion.
func (k *Keyring) Tenant(ctx context.Context, tenant audit.TenantID) (*TenantKeys, error) {
	return k.root(ctx, tenant, "make", k.makeRoot)
}

// Existing is Tenant without making a root. It returns audit.ErrNotFound if there is none.
func (k *Keyring) Existing(ctx context.Context, tenant audit.TenantID) (*TenantKeys, error) {
	return k.root(ctx, tenant, "read", k.readRoot)
}

// root returns the keys that the process has, or those that fetch returns. It calls fetch once for
// all that wait for it.
func (k *Keyring) root(ctx context.Context, tenant audit.TenantID, verb string, fetch func(context.Context, audit.TenantID) (*TenantKeys, error)) (*TenantKeys, error) {
	if keys, known, old := k.known(tenant); known {
		if old {
			k.flight(ctx, tenant, "refresh", k.readRoot) // nobody waits: if it fails, the next use tries again
		}
		return keys, nil
	}
	flight := k.flight(ctx, tenant, verb, fetch)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-flight:
		if result.Err != nil {
			return nil, retryable(fmt.Errorf("%s the root of %s: %w", verb, tenant, result.Err))
		}
		return result.Val.(*TenantKeys), nil
	}
}

// flight calls fetch, once for all that wait for it, unless another flight has ended just now.
func (k *Keyring) flight(ctx context.Context, tenant audit.TenantID, verb string, fetch func(context.Context, audit.TenantID) (*TenantKeys, error)) <-chan singleflight.Result {
	return k.flights.DoChan(verb+" "+string(tenant), func() (any, error) {
		if keys, known, old := k.known(tenant); known && !old {
			return keys, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyTimeout)
		defer cancel()
		return fetch(ctx, tenant)
	})
}

// sweepPeriod is the shortest time between two sweeps.
const sweepPeriod = KeyTTL / 10

// sweep removes keys that the process may not use any more, so that they do not stay in its memory.
func (k *Keyring) sweep() {
	now, last := k.now(), k.sweptAt.Load()
	if since := now.Unix() - last; since >= 0 && since < int64(sweepPeriod/time.Second) || !k.sweptAt.CompareAndSwap(last, now.Unix()) {
		return
	}
	k.roots.RemoveStale(now, KeyTTL)
	k.subjects.RemoveStale(now, KeyTTL)
}

// known returns the keys of a tenant that the process may still use, and whether they are due to be
// read again.
func (k *Keyring) known(tenant audit.TenantID) (keys *TenantKeys, known, old bool) {
	k.sweep()
	entry, found := k.roots.Get(tenant)
	now := k.now()
	return entry.Value, found && entry.Fresh(now, KeyTTL), !entry.Fresh(now, refreshAge)
}

// makeRoot makes a root unless there is one. It returns what is read back, because another process
// may have made it.
func (k *Keyring) makeRoot(ctx context.Context, tenant audit.TenantID) (*TenantKeys, error) {
	keys, err := k.readRoot(ctx, tenant)
	if !errors.Is(err, audit.ErrNotFound) {
		return keys, err
	}
	if err := k.createRoot(ctx, tenant); err != nil {
		return nil, err
	}
	return k.readRoot(ctx, tenant)
}

func (k *Keyring) readRoot(ctx context.Context, tenant audit.TenantID) (*TenantKeys, error) {
	readAt := k.now()
	stored, err := k.store.Keys(ctx, tenant, []SubjectID{RootRef.Subject})
	switch {
	case err != nil:
		return nil, err
	case len(stored) == 0:
		return nil, audit.ErrNotFound
	case len(stored[0].Wrapped) == 0:
		k.roots.Remove(tenant)
		return nil, ErrDestroyed
	}
	root, err := k.wrapper.Unwrap(ctx, tenant, stored[0].Wrapped)
	if err != nil {
		return nil, err
	}
	keys, err := NewTenantKeys(root)
	if err != nil {
		return nil, err
	}
	k.roots.Put(tenant, ttlcache.Entry[*TenantKeys]{Value: keys, ReadAt: readAt})
	return keys, nil
}

func (k *Keyring) createRoot(ctx context.Context, tenant audit.TenantID) error {
	var root [KeyBytes]byte
	k.random(root[:])
	wrapped, err := k.wrapper.Wrap(ctx, tenant, root[:])
	if err != nil {
		return err
	}
	return k.store.CreateKeys(ctx, tenant, []StoredKey{{Ref: RootRef, Wrapped: wrapped}})
}

// Current returns the key to encrypt with for each subject. It makes keys at their first use. It
// reads all keys that it does not have at once. Beside an error it returns those that it has.
func (k *Keyring) Current(ctx context.Context, tenant audit.TenantID, subjects []string) (map[string]Key, error) {
	found := make(map[string]Key, len(subjects))
	tenantKeys, err := k.Tenant(ctx, tenant)
	if err != nil {
		return found, err
	}
	missing := map[SubjectID]string{}
	for _, name := range subjects {
		id := tenantKeys.SubjectID(name)
		if known, has := k.subjects.Get(tenantSubject{tenant, id}); has && known.Fresh(k.now(), KeyTTL) {
			found[name] = known.Value
			continue
		}
		missing[id] = name
	}
	for range maxRaces {
		if len(missing) == 0 {
			return found, nil
		}
		if err := k.fetch(ctx, tenant, tenantKeys, missing, found); err != nil {
			return found, retryable(fmt.Errorf("keys of %d subjects of %s: %w", len(missing), tenant, err))
		}
	}
	if len(missing) > 0 {
		return found, &audit.UnavailableError{Err: fmt.Errorf("keys of %d subjects of %s: they are destroyed all the time", len(missing), tenant)}
	}
	return found, nil
}

// fetch moves subjects from missing to found. It makes the keys that are missing first. A stored key
// that was altered is an error of its subject alone.
func (k *Keyring) fetch(ctx context.Context, tenant audit.TenantID, keys *TenantKeys, missing map[SubjectID]string, found map[string]Key) error {
	next := make(map[SubjectID]uint32, len(missing))
	for id := range missing {
		next[id] = id.first()
	}
	var altered error
	for range 2 { // the second time with what was made
		readAt := k.now()
		stored, err := k.store.Keys(ctx, tenant, slices.Collect(maps.Keys(missing)))
		if err != nil {
			return err
		}
		for _, s := range stored {
			if len(s.Wrapped) == 0 {
				next[s.Ref.Subject] = s.Ref.Generation + 1
				continue
			}
			name := missing[s.Ref.Subject]
			delete(missing, s.Ref.Subject)
			key, err := keys.unwrap(tenant, s)
			if err != nil {
				altered = err
				continue
			}
			k.subjects.Put(tenantSubject{tenant, s.Ref.Subject}, ttlcache.Entry[Key]{Value: key, ReadAt: readAt})
			found[name] = key
		}
		if len(missing) == 0 {
			return altered
		}
		if err := k.create(ctx, tenant, keys, missing, next); err != nil {
			return err
		}
	}
	return altered
}

func (k *Keyring) create(ctx context.Context, tenant audit.TenantID, keys *TenantKeys, missing map[SubjectID]string, next map[SubjectID]uint32) error {
	made := make([]StoredKey, 0, len(missing))
	for id := range missing {
		key := Key{Ref: KeyRef{Subject: id, Generation: next[id]}}
		k.random(key.Secret[:])
		made = append(made, StoredKey{Ref: key.Ref, Wrapped: keys.wrap(tenant, &key)})
	}
	return k.store.CreateKeys(ctx, tenant, made)
}

// Opening has keys that decrypt.
type Opening struct {
	Keys map[KeyRef]Key
	// Destroyed are keys that no longer exist. A key in neither never existed, or was altered where
	// it is stored.
	Destroyed map[KeyRef]bool
}

// Opening returns the keys that decrypt what the refs name.
func (k *Keyring) Opening(ctx context.Context, tenant audit.TenantID, refs []KeyRef) (Opening, error) {
	o := Opening{Keys: map[KeyRef]Key{}, Destroyed: map[KeyRef]bool{}}
	tenantKeys, err := k.Existing(ctx, tenant)
	if errors.Is(err, ErrDestroyed) {
		for _, ref := range refs {
			o.Destroyed[ref] = true
		}
		return o, nil
	}
	if err != nil {
		return o, err
	}
	unknown := map[SubjectID]bool{}
	for _, ref := range refs {
		if ref == tenantKeys.Values.Ref {
			o.Keys[ref] = tenantKeys.Values
			continue
		}
		known, has := k.subjects.Get(tenantSubject{tenant, ref.Subject})
		if has && known.Fresh(k.now(), KeyTTL) && known.Value.Ref == ref {
			o.Keys[ref] = known.Value
			continue
		}
		unknown[ref.Subject] = true
	}
	if len(unknown) == 0 {
		return o, nil
	}
	return o, k.open(ctx, tenant, tenantKeys, slices.Collect(maps.Keys(unknown)), refs, &o)
}

// Destroyed implements Destruction. It reads the store each time.
func (k *Keyring) Destroyed(ctx context.Context, tenant audit.TenantID, refs []KeyRef) (map[KeyRef]bool, error) {
	subjects := make([]SubjectID, len(refs))
	for i, ref := range refs {
		subjects[i] = ref.Subject
	}
	newest, err := k.newest(ctx, tenant, subjects)
	if err != nil {
		return nil, err
	}
	destroyed := map[KeyRef]bool{}
	for _, ref := range refs {
		if s, is := newest[ref.Subject]; is && s.destroyed(ref) {
			destroyed[ref] = true
		}
	}
	return destroyed, nil
}

// newest returns the newest generation of the key of each subject that has one.
func (k *Keyring) newest(ctx context.Context, tenant audit.TenantID, subjects []SubjectID) (map[SubjectID]StoredKey, error) {
	stored, err := k.store.Keys(ctx, tenant, subjects)
	if err != nil {
		return nil, retryable(fmt.Errorf("keys of %d subjects of %s: %w", len(subjects), tenant, err))
	}
	newest := make(map[SubjectID]StoredKey, len(stored))
	for _, s := range stored {
		newest[s.Ref.Subject] = s
	}
	return newest, nil
}

// destroyed reports whether a key of the same subject was destroyed.
func (s *StoredKey) destroyed(ref KeyRef) bool {
	return ref.Generation >= ref.Subject.first() && (ref.Generation < s.Ref.Generation || ref == s.Ref && len(s.Wrapped) == 0)
}

func (k *Keyring) open(ctx context.Context, tenant audit.TenantID, keys *TenantKeys, subjects []SubjectID, refs []KeyRef, o *Opening) error {
	readAt := k.now()
	newest, err := k.newest(ctx, tenant, subjects)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		s, is := newest[ref.Subject]
		switch {
		case is && s.destroyed(ref):
			o.Destroyed[ref] = true
		case is && ref == s.Ref:
			key, err := keys.unwrap(tenant, s)
			if err != nil {
				continue // the stored key was altered: only what it encrypted cannot be read
			}
			k.subjects.Put(tenantSubject{tenant, ref.Subject}, ttlcache.Entry[Key]{Value: key, ReadAt: readAt})
			o.Keys[ref] = key
		}
	}
	return nil
}

// SubjectID returns what the stores of keys know of a subject. It makes the tenant's root at its first
// use.
func (k *Keyring) SubjectID(ctx context.Context, tenant audit.TenantID, subject string) (SubjectID, error) {
	keys, err := k.Tenant(ctx, tenant)
	if err != nil {
		return SubjectID{}, err
	}
	return keys.SubjectID(subject), nil
}

// NewestRef returns the newest generation of a subject's key, or the first if there is none. It needs
// no root.
func (k *Keyring) NewestRef(ctx context.Context, tenant audit.TenantID, subject SubjectID) (KeyRef, error) {
	stored, err := k.store.Keys(ctx, tenant, []SubjectID{subject})
	if err != nil {
		return KeyRef{}, retryable(fmt.Errorf("key of a subject of %s: %w", tenant, err))
	}
	if len(stored) == 0 {
		return KeyRef{Subject: subject, Generation: subject.first()}, nil
	}
	return stored[0].Ref, nil
}

// Destroy destroys a generation of a subject's key, or the root. Other processes may use it for KeyTTL
// more.
func (k *Keyring) Destroy(ctx context.Context, tenant audit.TenantID, ref KeyRef) error {
	if err := k.store.DestroyKey(ctx, tenant, ref); err != nil {
		return retryable(fmt.Errorf("destroy a key of a subject of %s: %w", tenant, err))
	}
	if ref == RootRef {
		k.roots.Remove(tenant)
	}
	k.subjects.Remove(tenantSubject{tenant, ref.Subject})
	return nil
}

// retryable returns the error as an *audit.UnavailableError, unless a retry cannot succeed. An
// operator can bring back a master key.
func retryable(err error) error {
	if audit.IsUnavailable(err) || errors.Is(err, audit.ErrNotFound) || errors.Is(err, ErrDestroyed) {
		return err
	}
	return &audit.UnavailableError{Err: err}
}

// wrapVersion is the first byte of a wrapped key. A random nonce and the sealed key follow.
const wrapVersion = 1

// wrap encrypts the key of a subject.
func (k *TenantKeys) wrap(tenant audit.TenantID, key *Key) []byte {
	return k.wrapping.Seal([]byte{wrapVersion}, nil, key.Secret[:], wrapContext(tenant, key.Ref))
}

// unwrap decrypts the key of a subject.
func (k *TenantKeys) unwrap(tenant audit.TenantID, s StoredKey) (Key, error) {
	failed := fmt.Errorf("key of a subject of %s: %w", tenant, ErrWrapped)
	if len(s.Wrapped) == 0 || s.Wrapped[0] != wrapVersion {
		return Key{}, failed
	}
	secret, err := k.wrapping.Open(nil, nil, s.Wrapped[1:], wrapContext(tenant, s.Ref))
	if err != nil || len(secret) != KeyBytes {
		return Key{}, failed
	}
	return Key{Ref: s.Ref, Secret: [KeyBytes]byte(secret)}, nil
}

func wrapContext(tenant audit.TenantID, ref KeyRef) []byte {
	b := appendPart(nil, "ocelot subject key")
	b = appendPart(b, string(tenant))
	b = appendPart(b, string(ref.Subject[:]))
	return binary.BigEndian.AppendUint32(b, ref.Generation)
}
