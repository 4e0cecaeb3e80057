package cursor_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

func TestSealedTextsOpenInTheirPlaceAlone(t *testing.T) {
	oldest, older, old, current := bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 32), bytes.Repeat([]byte("c"), 32), bytes.Repeat([]byte("d"), 32)
	signer := func(keys ...[]byte) *cursor.Signer { return cursor.NewRotatingSigner(func() [][]byte { return keys }) }
	const place, text = "subscription 1 of acme", "ann@example.com"
	sealed, err := signer(old).Seal(place, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(text)) {
		t.Errorf("got %q, want it without %s", sealed, text)
	}
	for name, test := range map[string]struct {
		signer *cursor.Signer
		place  string
		sealed []byte
		opens  bool
	}{
		"the same key":        {signer(old), place, sealed, true},
		"after a rotation":    {signer(current, older, old), place, sealed, true},
		"a key that is past":  {signer(current, older, oldest, old), place, sealed, false},
		"another place":       {signer(old), "subscription 1 of globex", sealed, false},
		"nothing":             {signer(old), place, nil, false},
		"cut":                 {signer(old), place, sealed[:len(sealed)-1], false},
		"the version alone":   {signer(old), place, sealed[:1], false},
		"text of a signature": {signer(old), place, []byte(signer(old).Sign(place, []byte(text))), false},
	} {
		opened, err := test.signer.Open(test.place, test.sealed)
		if got := err == nil; got != test.opens {
			t.Errorf("%s: got error %v, want it to open: %t", name, err, test.opens)
		}
		if test.opens && string(opened) != text {
			t.Errorf("%s: got %q, want %q", name, opened, text)
		}
		if !test.opens && !errors.Is(err, cursor.ErrSealed) {
			t.Errorf("%s: got error %v, want %v", name, err, cursor.ErrSealed)
		}
	}
	for i := range sealed {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if _, err := signer(old).Open(place, altered); !errors.Is(err, cursor.ErrSealed) {
			t.Errorf("with byte %d altered: got error %v, want %v", i, err, cursor.ErrSealed)
		}
	}
}
