package cursor_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func refused(t *testing.T, s *cursor.Signer, list, text string) {
	t.Helper()
	payload, err := s.Parse(list, text)
	var invalid *audit.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("%q gives payload %q and error %v, want an error of type %T", text, payload, err, invalid)
	}
	if invalid.Fields[0].Pointer != "?cursor" {
		t.Fatalf("got pointer %q, want %q", invalid.Fields[0].Pointer, "?cursor")
	}
	if invalid.Fields[0].Code != "invalid_cursor" {
		t.Fatalf("got code %q, want %q", invalid.Fields[0].Code, "invalid_cursor")
	}
}

func TestRoundTrip(t *testing.T) {
	s := cursor.NewSigner(key)
	for _, list := range []string{"", "acme", "acme\x00q=ü", strings.Repeat("l", 100_000)} {
		for _, payload := range [][]byte{{}, {0}, []byte("payload"), bytes.Repeat([]byte{0xff}, cursor.MaxPayload)} {
			text := s.Sign(list, payload)
			if got, err := s.Parse(list, text); err != nil {
				t.Error(err)
			} else if !bytes.Equal(got, payload) {
				t.Errorf("got payload %q, want %q", got, payload)
			}
			if escaped := url.QueryEscape(text); escaped != text {
				t.Errorf("got cursor %q, which a URL writes as %q, want no difference", text, escaped)
			}
			if len(text) > cursor.MaxBytes {
				t.Errorf("got a cursor of %d bytes, want at most %d", len(text), cursor.MaxBytes)
			}
			if again := s.Sign(list, payload); again != text {
				t.Errorf("signed again: got %q, want %q", again, text)
			}
		}
	}
	refused(t, s, "l", s.Sign("l", make([]byte, cursor.MaxPayload+1)))
}

func TestForeign(t *testing.T) {
	s := cursor.NewSigner(key)
	text := s.Sign("acme|a", []byte("bc"))
	for _, list := range []string{"", "acme", "acme|ab", "acme|a\x01b", "globex|a"} {
		refused(t, s, list, text)
	}
	// The bytes behind the list's name must not pass for those of a longer name.
	raw, err := base64.RawURLEncoding.DecodeString(s.Sign("x", []byte("\x01y")))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s, "x\x01", base64.RawURLEncoding.EncodeToString(raw[1:]))
	refused(t, cursor.NewSigner([]byte("another key, also of 32 bytes...")), "acme|a", text)
}

func TestHostile(t *testing.T) {
	s := cursor.NewSigner(key)
	text := s.Sign("l", []byte("payload of some length"))
	for _, bad := range []string{
		"", "A", "AAAA", "=", text + "=", text + "A", text + "\n", text[:10] + "\r\n" + text[10:], " " + text, text + text, "%00", "ü",
		strings.Repeat("A", 44), strings.Repeat("A", cursor.MaxBytes), strings.Repeat("A", 1<<20), strings.ReplaceAll(text, text[:1], "+"),
	} {
		refused(t, s, "l", bad)
	}
	for n := range len(text) {
		refused(t, s, "l", text[:n])
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for _, c := range alphabet { // the last character has spare bits
		if last := len(text) - 1; text[last] != byte(c) {
			refused(t, s, "l", text[:last]+string(c))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range len(text) { // every place, any other character
		changed := []byte(text)
		for changed[i] == text[i] {
			changed[i] = alphabet[random.IntN(len(alphabet))]
		}
		refused(t, s, "l", string(changed))
	}
	for range 10_000 {
		noise := make([]byte, random.IntN(200))
		for i := range noise {
			noise[i] = alphabet[random.IntN(len(alphabet))]
		}
		refused(t, s, "l", string(noise))
	}
}

func TestSignerOwnsItsKey(t *testing.T) {
	own := bytes.Clone(key)
	s := cursor.NewSigner(own)
	text := s.Sign("l", []byte("p"))
	clear(own)
	if _, err := s.Parse("l", text); err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a short key: got no panic, want one")
		}
	}()
	cursor.NewSigner(key[:31])
}

// ring returns keys that begin with these letters.
func ring(letters string) [][]byte {
	keys := make([][]byte, len(letters))
	for i := range letters {
		keys[i] = bytes.Repeat([]byte(letters[i:i+1]), cursor.MinKeyBytes)
	}
	return keys
}

func TestNextRing(t *testing.T) {
	for before, want := range map[string]string{"a": "az", "ab": "bza", "abc": "bzac", "abcd": "bzacd"} {
		got := cursor.NextRing(ring(before), ring("z")[0])
		if !slices.EqualFunc(got, ring(want), bytes.Equal) {
			t.Errorf("after %s: got the keys %s, want %s", before, got, want)
		}
	}
	full := ring(strings.Repeat("a", cursor.MaxKeys-1) + "o")
	got := cursor.NextRing(full, ring("z")[0])
	if len(got) != cursor.MaxKeys {
		t.Errorf("after a full ring: got %d keys, want %d", len(got), cursor.MaxKeys)
	}
	if last := got[len(got)-1]; bytes.Equal(last, full[len(full)-1]) {
		t.Errorf("after a full ring: got the last key %s, want the oldest one left out", last)
	}
}

func TestOldKeysVerifyCursorsOnly(t *testing.T) {
	keys := ring("abcd")
	s := cursor.NewRotatingSigner(func() [][]byte { return keys })
	for i, k := range keys {
		text := cursor.NewSigner(k).Sign("l", nil)
		if _, err := s.Parse("l", text); err != nil {
			t.Errorf("key %d: a cursor: got error %v, want it valid", i+1, err)
		}
		if _, err := s.ParseRecent("l", text); (err == nil) != (i < 3) {
			t.Errorf("key %d: a ticket: got error %v, want it valid %t", i+1, err, i < 3)
		}
	}
}

func FuzzParse(f *testing.F) {
	s := cursor.NewSigner(key)
	f.Add("l", s.Sign("l", []byte("p")))
	f.Add("", "")
	f.Fuzz(func(t *testing.T, list, text string) {
		payload, err := s.Parse(list, text)
		if err != nil {
			return
		}
		if again := s.Sign(list, payload); again != text {
			t.Errorf("Parse took %q, want an error: Sign makes %q", text, again)
		}
	})
}
