package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// keys is a KeyFinder that counts what is asked of it.
type keys struct {
	mu       sync.Mutex
	byHash   map[[32]byte]access.Key
	err      error
	touchErr error
	reads    int
	touches  []time.Time
}

func (k *keys) KeyByHash(_ context.Context, hash [32]byte) (access.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reads++
	key, ok := k.byHash[hash]
	switch {
	case k.err != nil:
		return access.Key{}, k.err
	case !ok:
		return access.Key{}, fmt.Errorf("key: %w", audit.ErrNotFound)
	}
	return key, nil
}

func (k *keys) TouchKey(_ context.Context, _ audit.TenantID, id string, t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.touches = append(k.touches, t)
	if k.touchErr != nil {
		return k.touchErr
	}
	for hash, key := range k.byHash {
		if key.ID == id {
			key.LastUsedAt = t
			k.byHash[hash] = key
		}
	}
	return nil
}

// tokens is a TokenVerifier that knows one token.
type tokens string

func (good tokens) Verify(_ context.Context, token string) (access.Principal, error) {
	if token != string(good) {
		return access.Principal{}, audit.ErrUnauthenticated
	}
	return access.Principal{Subject: "u1"}, nil
}

// fixture is an Authenticator that knows one token and one key, at a time of its own.
type fixture struct {
	*access.Authenticator
	keys   *keys
	secret string
	now    time.Time
	log    bytes.Buffer
}

func newFixture() *fixture {
	f := &fixture{now: time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)}
	f.secret = secret(1)
	f.keys = &keys{byHash: map[[32]byte]access.Key{access.HashSecret(f.secret): {
		ID: "00000000000000aa", Tenant: "acme", Permissions: []access.Permission{access.LogsWrite},
		Resources: []access.Resource{{Type: "order"}}, ExpiresAt: f.now.Add(time.Hour),
	}}}
	f.Authenticator = &access.Authenticator{
		Tokens: tokens("a.b.c"), Keys: f.keys, Now: func() time.Time { return f.now }, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	return f
}

// secret returns the nth well-formed secret.
func secret(n int) string {
	return access.NewSecret(func(b []byte) { b[0], b[1] = byte(n), byte(n>>8) })
}

func TestAuthenticateHeader(t *testing.T) {
	f := newFixture()
	for _, header := range []string{"Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c\t"} {
		if p, err := f.Authenticate(t.Context(), header); err != nil {
			t.Error(err)
		} else if p.Subject != "u1" {
			t.Errorf("%q: got subject %q, want %q", header, p.Subject, "u1")
		}
	}
	for _, header := range []string{"ApiKey " + f.secret, "APIKEY " + f.secret, "apikey   " + f.secret} {
		p, err := f.Authenticate(t.Context(), header)
		if err != nil {
			t.Error(err)
		} else if p.Subject != "key:00000000000000aa" {
			t.Errorf("%s: got subject %q, want %q", header, p.Subject, "key:00000000000000aa")
		} else if len(p.Resources) != 1 {
			t.Errorf("%s: got %d resources, want 1", header, len(p.Resources))
		}
		if _, err := p.Authorize("acme", access.LogsWrite); err != nil {
			t.Error(err)
		}
		if _, err := p.Authorize("acme", access.LogsRead); err == nil {
			t.Errorf("%s: the key reads, want it without %s", header, access.LogsRead)
		}
	}
	hostile := []string{
		"", " ", "Bearer", "Bearer ", "Bearera.b.c", "Basic dXNlcjpwYXNz", "a.b.c", "Bearer\ta.b.c", "Bearer a.b.c x", "Bearer a.b.c, Bearer a.b.c",
		"Bearer \x00", "Bearer a.b.c\r\nX: y", "Bearer ü", "Bearer ====", "Bearer ApiKey " + f.secret, "ApiKey", "ApiKey a.b.c", "ApiKey " + f.secret + "A",
		"ApiKey " + f.secret[:len(f.secret)-1], "ApiKey " + secret(2), "ApiKey " + strings.ToUpper(f.secret), "Bearer " + f.secret,
		strings.Repeat("A", 1<<20), "Bearer " + strings.Repeat("é", 1<<16), "ApiKey ocelot_" + strings.Repeat("A", 1<<20),
	}
	for _, header := range hostile {
		if p, err := f.Authenticate(t.Context(), header); !errors.Is(err, audit.ErrUnauthenticated) {
			t.Errorf("%.40q: %+v, %v, want ErrUnauthenticated", header, p, err)
		}
	}
	for header, want := range map[string]string{
		"Bearer " + f.secret: "ApiKey <key>", "ApiKey a.b.c": "Bearer <token>", "Basic dXNlcjpwYXNz": "must be Bearer", "a.b.c": "scheme before the credential",
		"ApiKey " + f.secret[:20]: "50 characters",
	} {
		var refused *access.RefusedError
		if _, err := f.Authenticate(t.Context(), header); !errors.As(err, &refused) {
			t.Errorf("%.20q: got %v, want a %T", header, err, refused)
		} else if !strings.Contains(refused.Detail, want) {
			t.Errorf("%.20q: got the detail %q, want %q in it", header, refused.Detail, want)
		} else if strings.Contains(refused.Error(), f.secret[:20]) {
			t.Errorf("%.20q: got %q, want no part of the credential", header, refused)
		}
	}
	if f.keys.reads != 2 { // the good key and secret(2)
		t.Errorf("the store was asked %d times, want 2: malformed secrets must not reach it", f.keys.reads)
	}
	bare := &access.Authenticator{Now: time.Now}
	for _, header := range []string{"Bearer a.b.c", "ApiKey " + f.secret} {
		if _, err := bare.Authenticate(t.Context(), header); !errors.Is(err, audit.ErrUnauthenticated) {
			t.Errorf("without ports: got error %v, want %v", err, audit.ErrUnauthenticated)
		}
	}
}

func TestKeyExpires(t *testing.T) {
	f := newFixture()
	f.KeyTTL = 24 * time.Hour
	expiry := f.now.Add(time.Hour)
	for _, step := range []struct {
		at   time.Time
		good bool
	}{{f.now, true}, {expiry.Add(-time.Millisecond), true}, {expiry, false}, {expiry.Add(time.Hour), false}} {
		f.now = step.at
		if _, err := f.Authenticate(t.Context(), "ApiKey "+f.secret); (err == nil) != step.good {
			t.Errorf("at %s: %v, want good %v", step.at, err, step.good)
		}
	}
}

func TestKeyCache(t *testing.T) {
	f := newFixture()
	use := func() error {
		_, err := f.Authenticate(t.Context(), "ApiKey "+f.secret)
		return err
	}
	for range 100 {
		if err := use(); err != nil {
			t.Fatal(err)
		}
	}
	if f.keys.reads != 1 {
		t.Errorf("read %d times for 100 requests, want 1", f.keys.reads)
	}
	hash := access.HashSecret(f.secret)
	key := f.keys.byHash[hash]
	delete(f.keys.byHash, hash) // revoked
	f.now = f.now.Add(access.DefaultKeyTTL - time.Millisecond)
	if err := use(); err != nil {
		t.Errorf("within the TTL: %v", err)
	}
	f.now = f.now.Add(time.Millisecond)
	if err := use(); !errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("revoked and past the TTL: got error %v, want %v", err, audit.ErrUnauthenticated)
	}
	f.keys.byHash[hash] = key
	if err := use(); err != nil {
		t.Errorf("a key that is there again is refused: %v", err)
	}
	f.now = f.now.Add(access.DefaultKeyTTL)
	f.keys.err = errors.New("down")
	err := use()
	if err == nil {
		t.Error("store down: got no error, want one")
	}
	if errors.Is(err, audit.ErrUnauthenticated) {
		t.Errorf("store down: got error %v, want one that is not %v", err, audit.ErrUnauthenticated)
	}
}

// counter counts the verifications of any token.
type counter struct {
	calls   int
	expires time.Time
	err     error
}

func (c *counter) Verify(_ context.Context, token string) (access.Principal, error) {
	c.calls++
	return access.Principal{Subject: token, ExpiresAt: c.expires}, c.err
}

func TestTokenCache(t *testing.T) {
	f := newFixture()
	start := f.now
	c := &counter{expires: start.Add(access.TokenTTL + 10*time.Second)}
	f.Tokens = c
	for _, step := range []struct {
		what, token string
		at          time.Duration
		err         error
		calls       int
	}{
		{"first", "a", 0, nil, 1},
		{"again", "a", access.TokenTTL - time.Millisecond, nil, 1},
		{"another", "b", 0, nil, 2},
		{"old", "a", access.TokenTTL, nil, 3},
		{"again, then", "a", access.TokenTTL + 10*time.Second - time.Millisecond, nil, 3},
		{"expired", "a", access.TokenTTL + 10*time.Second, audit.ErrUnauthenticated, 4},
		{"refused", "c", 0, audit.ErrUnauthenticated, 5},
		{"refused again", "c", 0, audit.ErrUnauthenticated, 6},
		{"the clock was set back", "a", -time.Hour, nil, 7},
		{"too long", strings.Repeat("A", 5000), 0, nil, 8},
		{"too long again", strings.Repeat("A", 5000), 0, nil, 9},
	} {
		f.now, c.err = start.Add(step.at), step.err
		p, err := f.Authenticate(t.Context(), "Bearer "+step.token)
		if !errors.Is(err, step.err) {
			t.Errorf("%s: got error %v, want %v", step.what, err, step.err)
		}
		if p.Subject != step.token {
			t.Errorf("%s: got the principal of %.20q, want %.20q", step.what, p.Subject, step.token)
		}
		if got, want := c.calls, step.calls; got != want {
			t.Errorf("%s: %d verifications, want %d", step.what, got, want)
		}
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	f := newFixture()
	f.KeyTTL = time.Hour
	const n = 6000
	for i := range n {
		f.keys.byHash[access.HashSecret(secret(i))] = access.Key{ID: fmt.Sprint(i), Tenant: "acme"}
	}
	for i := range n {
		if p, err := f.Authenticate(t.Context(), "ApiKey "+secret(i)); err != nil {
			t.Fatal(err)
		} else if p.Subject != fmt.Sprintf("key:%d", i) {
			t.Fatalf("key %d: got subject %q, want %q", i, p.Subject, fmt.Sprintf("key:%d", i))
		}
	}
	before := f.keys.reads
	for i := range n {
		if _, err := f.Authenticate(t.Context(), "ApiKey "+secret(i)); err != nil {
			t.Fatal(err)
		}
	}
	if again, least := f.keys.reads-before, n-access.MaxCachedKeys; again < least {
		t.Errorf("read %d of %d keys again, want at least %d: the cache holds at most %d", again, n, least, access.MaxCachedKeys)
	}
}

// use authenticates with the fixture's key once every five seconds for a time.
func (f *fixture) use(t *testing.T, d time.Duration) {
	t.Helper()
	for end := f.now.Add(d); f.now.Before(end); f.now = f.now.Add(5 * time.Second) {
		if _, err := f.Authenticate(t.Context(), "ApiKey "+f.secret); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLastUseIsRecordedOnceAnHour(t *testing.T) {
	f := newFixture()
	f.keys.byHash[access.HashSecret(f.secret)] = access.Key{ID: "00000000000000aa", Tenant: "acme"} // does not expire
	f.use(t, 130*time.Minute)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := []time.Time{noon, noon.Add(time.Hour), noon.Add(2 * time.Hour)}
	if !slices.Equal(f.keys.touches, want) {
		t.Errorf("recorded at %v, want %v", f.keys.touches, want)
	}

	other := newFixture() // another process in the same hour
	other.keys, other.Keys, other.secret, other.now = f.keys, f.keys, f.secret, f.now
	other.use(t, time.Minute)
	if got := len(f.keys.touches); got != len(want) {
		t.Errorf("recorded %d times after the use by another process, want %d", got, len(want))
	}
}

func TestLastUseIsTriedAgainInTheNextMinute(t *testing.T) {
	f := newFixture()
	f.keys.touchErr = errors.New("down")
	f.use(t, 2*time.Minute)
	if got, want := len(f.keys.touches), 3; got != want { // from half past the minute
		t.Errorf("tried %d times, want %d", got, want)
	}
	if log, want := f.log.String(), "00000000000000aa"; !strings.Contains(log, want) {
		t.Errorf("got log %q, want it to contain %q", log, want)
	}
	if log := f.log.String(); strings.Contains(log, f.secret) {
		t.Errorf("got log %q, want it without the secret", log)
	}
	f.keys.touchErr = nil
	f.use(t, 3*time.Minute)
	if got, want := len(f.keys.touches), 4; got != want {
		t.Errorf("tried %d times once it succeeds, want %d", got, want)
	}
}

func TestAuthenticateConcurrently(t *testing.T) {
	f := newFixture()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if _, err := f.Authenticate(t.Context(), "ApiKey "+f.secret); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if len(f.keys.touches) != 1 {
		t.Errorf("touched %d times in one minute, want 1", len(f.keys.touches))
	}
}
