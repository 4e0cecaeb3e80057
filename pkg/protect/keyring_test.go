package protect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// memory is a protect.KeyStore as the conformance suite wants it.
type memory struct {
	mu   sync.Mutex
	keys map[audit.TenantID]map[protect.SubjectID]protect.StoredKey
	err  error // of each call; nil: the store works
	// before is called before each CreateKeys, without the lock.
	before func(keys []protect.StoredKey)
	reads  int
}

func newMemory() *memory {
	return &memory{keys: map[audit.TenantID]map[protect.SubjectID]protect.StoredKey{}}
}

func (m *memory) Keys(ctx context.Context, tenant audit.TenantID, subjects []protect.SubjectID) (found []protect.StoredKey, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reads++; m.err != nil {
		return nil, m.err
	}
	for _, s := range subjects {
		if k, is := m.keys[tenant][s]; is {
			found = append(found, k)
		}
	}
	return found, ctx.Err()
}

func (m *memory) CreateKeys(ctx context.Context, tenant audit.TenantID, keys []protect.StoredKey) error {
	if m.before != nil {
		m.before(keys)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.keys[tenant] == nil {
		m.keys[tenant] = map[protect.SubjectID]protect.StoredKey{}
	}
	for _, k := range keys {
		newest, is := m.keys[tenant][k.Ref.Subject]
		if !is && k.Ref.IsFirst() || is && newest.Wrapped == nil && !k.Ref.IsFirst() && newest.Ref.Generation == k.Ref.Generation-1 {
			m.keys[tenant][k.Ref.Subject] = k
		}
	}
	return ctx.Err()
}

func (m *memory) DestroyKey(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.keys[tenant] == nil {
		m.keys[tenant] = map[protect.SubjectID]protect.StoredKey{}
	}
	if newest, is := m.keys[tenant][ref.Subject]; !is || newest.Ref.Generation <= ref.Generation {
		m.keys[tenant][ref.Subject] = protect.StoredKey{Ref: ref}
	}
	return ctx.Err()
}

// master is a protect.KeyWrapper that counts its calls.
type master struct {
	mu    sync.Mutex
	calls int
	err   error         // of each call; nil: the key works
	delay time.Duration // of each call
}

func (m *master) call() error {
	time.Sleep(m.delay)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	return m.err
}

func (m *master) Wrap(_ context.Context, tenant audit.TenantID, key []byte) ([]byte, error) {
	return append([]byte(tenant+":"), key...), m.call()
}

func (m *master) Unwrap(_ context.Context, tenant audit.TenantID, wrapped []byte) ([]byte, error) {
	key, is := strings.CutPrefix(string(wrapped), string(tenant)+":")
	if !is {
		return nil, protect.ErrWrapped
	}
	return []byte(key), m.call()
}

// keyWorld has a keyring over a store and a master key, and its clock.
type keyWorld struct {
	*protect.Keyring
	store  *memory
	master *master
	mu     sync.Mutex // guards now
	now    time.Time
}

func (w *keyWorld) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *keyWorld) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newKeyWorld() *keyWorld {
	w := &keyWorld{store: newMemory(), master: &master{}, now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)}
	w.Keyring = w.process()
	return w
}

// process returns the keyring of another process.
func (w *keyWorld) process() *protect.Keyring {
	return protect.NewKeyring(w.store, w.master, w.clock, random)
}

func current(t *testing.T, k *protect.Keyring, subject string) protect.Key {
	t.Helper()
	keys, err := k.Current(t.Context(), "acme", []string{subject})
	if err != nil {
		t.Fatal(err)
	}
	return keys[subject]
}

func destroy(t *testing.T, k *protect.Keyring, subject string) protect.KeyRef {
	t.Helper()
	id, err := k.SubjectID(t.Context(), "acme", subject)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := k.NewestRef(t.Context(), "acme", id)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Destroy(t.Context(), "acme", ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

func wantRef(t *testing.T, key protect.Key, generation uint32) {
	t.Helper()
	if got := key.Ref.Generation; got != generation {
		t.Errorf("got generation %d, want %d", got, generation)
	}
}

// A hundred requests of a process that has no key wait for one call of each kind.
func TestABurstCallsTheMasterKeyOnce(t *testing.T) {
	w := newKeyWorld()
	w.master.delay = 20 * time.Millisecond
	burst := func(k *protect.Keyring) {
		var running sync.WaitGroup
		for i := range 100 {
			running.Go(func() {
				if _, err := k.Current(t.Context(), "acme", []string{fmt.Sprint("user-", i%10)}); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	burst(w.Keyring)
	if got, want := w.master.calls, 2; got != want { // wrap, and unwrap what is read back
		t.Errorf("the first use called the master key %d times, want %d", got, want)
	}
	burst(w.process())
	if got, want := w.master.calls, 3; got != want {
		t.Errorf("a second process made it %d calls, want %d", got, want)
	}
	burst(w.Keyring)
	if got, want := w.master.calls, 3; got != want {
		t.Errorf("a second burst made it %d calls, want %d", got, want)
	}
}

func TestABulkReadsTheStoreTwiceAtItsFirstUse(t *testing.T) {
	w := newKeyWorld()
	var subjects []string
	for i := range 1000 {
		subjects = append(subjects, fmt.Sprint("user-", i))
	}
	if _, err := w.Tenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	for use, want := range []int{2, 0, 0} {
		w.store.reads = 0
		keys, err := w.Current(t.Context(), "acme", subjects)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != len(subjects) {
			t.Errorf("use %d: got %d keys, want %d", use, len(keys), len(subjects))
		}
		if got := w.store.reads; got != want {
			t.Errorf("use %d read the store %d times, want %d", use, got, want)
		}
	}
}

func TestProcessesShareKeysAndTenantsDoNot(t *testing.T) {
	w := newKeyWorld()
	ours := current(t, w.Keyring, "user-1")
	if theirs := current(t, w.process(), "user-1"); theirs.Secret != ours.Secret {
		t.Error("another process got another key, want the same")
	}
	others, err := w.Current(t.Context(), "globex", []string{"user-1"})
	if err != nil {
		t.Fatal(err)
	}
	if others["user-1"].Ref.Subject == ours.Ref.Subject {
		t.Error("two tenants name a subject alike, want different names")
	}
}

// Whoever loses the race of making a key uses the winner's.
func TestTheLoserOfARaceUsesWhatIsStored(t *testing.T) {
	for _, raced := range []string{"root", "subject"} {
		w := newKeyWorld()
		other, once := w.process(), sync.Once{}
		var theirs protect.Key
		w.store.before = func(keys []protect.StoredKey) {
			if isRoot := keys[0].Ref == protect.RootRef; isRoot != (raced == "root") {
				return
			}
			once.Do(func() { // while this CreateKeys waits, the other process makes its own
				w.store.before = nil
				theirs = current(t, other, "user-1")
			})
		}
		if ours := current(t, w.Keyring, "user-1"); ours.Secret != theirs.Secret {
			t.Errorf("%s: the loser uses another key, want that of the winner", raced)
		}
	}
}

// An erasure between making a key and reading it back leaves nobody with the destroyed key.
func TestAnErasureDuringTheFirstUse(t *testing.T) {
	w := newKeyWorld()
	if _, err := w.Tenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	eraser := w.process()
	w.store.before = func([]protect.StoredKey) {
		w.store.before = nil
		wantRef(t, protect.Key{Ref: destroy(t, eraser, "user-1")}, 1)
	}
	key := current(t, w.Keyring, "user-1")
	wantRef(t, key, 2)
	if again := current(t, w.process(), "user-1"); again.Secret != key.Secret {
		t.Error("another process got another key, want the stored one")
	}
}

func TestErasureEndsInOtherProcessesWithinTheTTL(t *testing.T) {
	w := newKeyWorld()
	other := w.process()
	old := current(t, w.Keyring, "user-1")
	current(t, other, "user-1")
	ref := destroy(t, w.Keyring, "user-1")
	wantRef(t, current(t, w.Keyring, "user-1"), 2) // at once where it was destroyed
	w.pass(protect.KeyTTL - time.Second)
	wantRef(t, current(t, other, "user-1"), 1)
	w.pass(time.Second)
	wantRef(t, current(t, other, "user-1"), 2)
	for name, k := range map[string]*protect.Keyring{"eraser": w.Keyring, "other": other} {
		o, err := k.Opening(t.Context(), "acme", []protect.KeyRef{old.Ref, {Subject: protect.SubjectID{9}, Generation: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Keys) != 0 {
			t.Errorf("%s: got %d keys, want none", name, len(o.Keys))
		}
		if len(o.Destroyed) != 1 || !o.Destroyed[ref] {
			t.Errorf("%s: got %v destroyed, want %v alone", name, o.Destroyed, ref)
		}
	}
}

func TestADeletedTenantsKeysEndWithinTheTTL(t *testing.T) {
	w := newKeyWorld()
	key := current(t, w.Keyring, "user-1")
	if err := w.store.DestroyKey(t.Context(), "acme", protect.RootRef); err != nil {
		t.Fatal(err)
	}
	w.pass(protect.KeyTTL)
	if _, err := w.Current(t.Context(), "acme", []string{"user-1"}); !errors.Is(err, protect.ErrDestroyed) {
		t.Errorf("got error %v, want %v", err, protect.ErrDestroyed)
	}
	o, err := w.Opening(t.Context(), "acme", []protect.KeyRef{key.Ref})
	if err != nil {
		t.Fatal(err)
	}
	if !o.Destroyed[key.Ref] || len(o.Keys) != 0 {
		t.Errorf("got %d keys and %v destroyed, want the key destroyed", len(o.Keys), o.Destroyed)
	}
}

func TestOutagesStopWhatIsNotCached(t *testing.T) {
	down := &audit.UnavailableError{Err: errors.New("down")}
	for name, c := range map[string]struct {
		fail     func(w *keyWorld)
		want     error
		newFails bool // whether a subject's first use fails although the root is cached
	}{
		"store":                {func(w *keyWorld) { w.store.err = down }, down, true},
		"throttled master key": {func(w *keyWorld) { w.master.err = down }, down, false},
		"disabled master key":  {func(w *keyWorld) { w.master.err = protect.ErrMasterKey }, protect.ErrMasterKey, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newKeyWorld()
			current(t, w.Keyring, "user-1")
			c.fail(w)
			keys, err := w.Current(t.Context(), "acme", []string{"user-1", "user-2"})
			if _, has := keys["user-1"]; !has {
				t.Error("the cached key does not work, want it to")
			}
			if got := err != nil; got != c.newFails {
				t.Errorf("a new subject: got error %v, want failure %t", err, c.newFails)
			}
			w.pass(protect.KeyTTL)
			_, err = w.Current(t.Context(), "acme", []string{"user-1"})
			if !audit.IsUnavailable(err) {
				t.Errorf("without cached keys: got error %v, want one of type %T", err, down)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("without cached keys: got error %v, want %v in it", err, c.want)
			}
		})
	}
}

// fails sets the error of each call of the master key, and returns how many calls there were.
func (m *master) fails(err error) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	return m.calls
}

// TestAFailingMasterKeyIsLeftAlone: however many requests and tenants need it.
func TestAFailingMasterKeyIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		calls int // for 200 requests at once, one pause later for 200 more
	}{
		"throttled": {&audit.UnavailableError{Err: errors.New("throttled")}, 2},
		"disabled":  {protect.ErrMasterKey, 2},
		"too slow":  {context.DeadlineExceeded, 2},
		"denied":    {errors.New("AccessDeniedException"), 2},
		"an altered key, which is no failure of the master key": {protect.ErrWrapped, 400},
	} {
		t.Run(name, func(t *testing.T) {
			w := newKeyWorld()
			tenants := make([]audit.TenantID, 200)
			for i := range tenants {
				tenants[i] = audit.TenantID(fmt.Sprint("tenant-", i))
				if _, err := w.Tenant(t.Context(), tenants[i]); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(protect.KeyTTL)
			before := w.master.fails(c.err)
			for range 2 {
				for _, tenant := range tenants {
					if _, err := w.Tenant(t.Context(), tenant); !errors.Is(err, c.err) || !audit.IsUnavailable(err) {
						t.Fatalf("got error %v, want %v as %T", err, c.err, &audit.UnavailableError{})
					}
				}
				w.pass(protect.MasterPause)
			}
			if got := w.master.fails(nil) - before; got != c.calls {
				t.Errorf("called the master key %d times, want %d", got, c.calls)
			}
			for _, tenant := range tenants {
				if _, err := w.Tenant(t.Context(), tenant); err != nil {
					t.Errorf("%s after the failure: got error %v, want none", tenant, err)
				}
			}
		})
	}
}

// TestRootsAreReadAgainBeforeTheirTime: so that an outage at their end stops nobody.
func TestRootsAreReadAgainBeforeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyWorld()
		current(t, w.Keyring, "user-1")
		for _, c := range []struct {
			after time.Duration
			calls int
		}{{protect.KeyTTL - time.Minute - time.Second, 0}, {time.Second, 1}} {
			w.pass(c.after)
			before := w.master.fails(nil)
			for range 3 {
				current(t, w.Keyring, "user-1")
				synctest.Wait()
			}
			if got := w.master.fails(nil) - before; got != c.calls {
				t.Errorf("called the master key %d times, want %d", got, c.calls)
			}
		}
		w.master.fails(protect.ErrMasterKey)
		w.pass(2 * time.Minute)
		if _, err := w.Tenant(t.Context(), "acme"); err != nil {
			t.Errorf("during an outage: got error %v, want the root that was read again", err)
		}
	})
}

// A request that does not wait for a slow master key ends alone: the others get its answer.
func TestASlowMasterKeyDelaysOnlyThoseThatWait(t *testing.T) {
	w := newKeyWorld()
	w.master.delay = 50 * time.Millisecond
	impatient, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := w.Tenant(impatient, "acme")
		ended <- err
	}()
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if _, err := w.Tenant(t.Context(), "acme"); err != nil {
		t.Errorf("the next request: got error %v, want the answer of the first call", err)
	}
	if got, want := w.master.calls, 2; got != want {
		t.Errorf("called the master key %d times, want %d", got, want)
	}
}

func TestAnAlteredStoredKeyFailsAlone(t *testing.T) {
	w := newKeyWorld()
	good, bad := current(t, w.Keyring, "user-1"), current(t, w.Keyring, "user-2")
	w.store.keys["acme"][bad.Ref.Subject].Wrapped[20] ^= 1
	o, err := w.process().Opening(t.Context(), "acme", []protect.KeyRef{good.Ref, bad.Ref})
	if err != nil {
		t.Fatal(err)
	}
	if o.Keys[good.Ref].Secret != good.Secret {
		t.Error("the key beside an altered one is missing, want it")
	}
	if _, has := o.Keys[bad.Ref]; has || o.Destroyed[bad.Ref] {
		t.Error("the altered key was opened or taken for destroyed, want neither")
	}
	keys, err := w.process().Current(t.Context(), "acme", []string{"user-1", "user-2", "user-3"})
	if !errors.Is(err, protect.ErrWrapped) || !audit.IsUnavailable(err) {
		t.Errorf("got error %v, want %v as %T", err, protect.ErrWrapped, &audit.UnavailableError{})
	}
	if len(keys) != 2 || keys["user-1"].Secret != good.Secret {
		t.Errorf("got %v to encrypt with, want those of user-1 and user-3", keys)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	w := newKeyWorld()
	key := current(t, w.Keyring, "user-1")
	keys, err := w.Tenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("key %x/1", key.Ref.Subject[:])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for value, want := range map[any]string{key: name, &key: name, keys: "keys of a tenant", *keys: "keys of a tenant"} {
			if got := fmt.Sprintf(verb, value); got != want {
				t.Errorf("%s of a %T: got %q, want %q", verb, value, got, want)
			}
		}
	}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `"`+name+`"`; got != want {
		t.Errorf("got the JSON %s, want %s", got, want)
	}
}

// TestOldKeysLeaveTheMemory: also those of tenants that send nothing any more.
func TestOldKeysLeaveTheMemory(t *testing.T) {
	w := newKeyWorld()
	current(t, w.Keyring, "ann")
	if got, want := w.Kept(), 2; got != want {
		t.Fatalf("%d keys in memory, want %d", got, want)
	}
	w.pass(protect.KeyTTL)
	if _, err := w.Tenant(t.Context(), "globex"); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Kept(), 1; got != want {
		t.Errorf("%d keys in memory after their time, want %d", got, want)
	}
}
