package cursorkey_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cursorkey"
)

// Cursors of both keys are valid during a rotation, and a secret that cannot be read ends none.
func TestCursorsSurviveARotation(t *testing.T) {
	const first, second = "11111111111111111111111111111111", "22222222222222222222222222222222"
	now := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	secret, fetchErr, failures := first, error(nil), 0
	fetch := func(context.Context) (config.Secret, error) { return config.Secret(secret), fetchErr }
	ring, err := cursorkey.NewRing(t.Context(), fetch, func() time.Time { return now }, func(error) { failures++ })
	if err != nil {
		t.Fatal(err)
	}
	s := cursor.NewRotatingSigner(ring.Keys)
	old := s.Sign("list", []byte("a"))
	wantFirst := func(step, key string) {
		t.Helper()
		if got, want := s.Sign("list", []byte("a")), cursor.NewSigner([]byte(key)).Sign("list", []byte("a")); got != want {
			t.Errorf("%s: got the cursor %s, want %s", step, got, want)
		}
	}
	valid := func(step string, want bool) {
		t.Helper()
		if _, err := s.Parse("list", old); (err == nil) != want {
			t.Errorf("%s: the old cursor: got error %v, want it valid %t", step, err, want)
		}
	}
	secret = second + "\n" + first
	wantFirst("before the next look", first)
	now = now.Add(cursorkey.RefreshEvery)
	wantFirst("after it", second)
	valid("with both keys", true)
	fetchErr = errors.New("down")
	now = now.Add(cursorkey.RefreshEvery)
	wantFirst("while the secret cannot be read", second)
	valid("while the secret cannot be read", true)
	if failures != 1 {
		t.Errorf("got %d reports of failures, want 1: it is not asked for a minute", failures)
	}
	fetchErr, secret = nil, "short"
	now = now.Add(cursorkey.RefreshEvery)
	valid("with a secret that is no key", true)
	secret = second
	now = now.Add(cursorkey.RefreshEvery)
	valid("without the old key", false)
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	key := strings.Repeat("k", 32)
	for text, want := range map[string]int{
		key: 1, key + "\n" + key: 2, key + "\r\n" + key + "\r\n": 2, strings.Repeat(key+"\n", cursor.MaxKeys): cursor.MaxKeys,
		"a key that is a sentence with several words": 1,
		"": 0, "\n": 0, "short": 0, key + "\nshort": 0, strings.Repeat(key+"\n", cursor.MaxKeys+1): 0,
	} {
		keys, err := cursor.ParseKeys([]byte(text))
		if got := err == nil; got != (want > 0) {
			t.Errorf("%d bytes: got error %v, want accepted %t", len(text), err, want > 0)
		}
		if len(keys) != want {
			t.Errorf("%d bytes: got %d keys, want %d", len(text), len(keys), want)
		}
	}
}

// While one caller fetches the keys, the others use the earlier ones and do not wait.
func TestOneCallerFetchesForAll(t *testing.T) {
	const first, second = "11111111111111111111111111111111", "22222222222222222222222222222222"
	now, fetches := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), 0
	var ring *cursorkey.Ring
	fetch := func(ctx context.Context) (config.Secret, error) {
		if fetches++; fetches == 1 {
			return config.Secret(first), nil
		}
		other := make(chan [][]byte, 1)
		go func() { other <- ring.Keys() }()
		select {
		case keys := <-other:
			if got := string(keys[0]); got != first {
				t.Errorf("meanwhile another caller got the key %s, want the earlier one %s", got, first)
			}
		case <-ctx.Done():
			t.Error("another caller waits for the fetch, want the earlier keys at once")
		}
		return config.Secret(second), nil
	}
	ring, err := cursorkey.NewRing(t.Context(), fetch, func() time.Time { return now }, func(err error) { t.Errorf("got error %v, want none", err) })
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(cursorkey.RefreshEvery)
	if got := string(ring.Keys()[0]); got != second {
		t.Errorf("got the key %s, want the new one %s", got, second)
	}
	if fetches != 2 {
		t.Errorf("the secret was fetched %d times, want 2", fetches)
	}
}
