package protect_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// A sealed text is opened for its tenant and place alone, and only as it was sealed.
func TestSealedTextsOpenWhereTheyWereSealed(t *testing.T) {
	w := newKeyWorld()
	const place = "export 1"
	text := []byte(`{"q":"ann@example.com"}`)
	sealed, err := w.SealText(t.Context(), "acme", place, text)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("ann")) {
		t.Errorf("got %q, want no part of the text in it", sealed)
	}
	if again, err := w.SealText(t.Context(), "acme", place, text); err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed again: got the same bytes and error %v, want others", err)
	}
	others, err := w.SealText(t.Context(), "globex", place, text) // makes its keys too
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		tenant audit.TenantID
		place  string
		sealed []byte
		want   error
	}{
		{"as it was sealed", "acme", place, sealed, nil},
		{"another place", "acme", "export 2", sealed, protect.ErrUnreadable},
		{"another kind of place", "acme", "cleanup 1", sealed, protect.ErrUnreadable},
		{"no place", "acme", "", sealed, protect.ErrUnreadable},
		{"another tenant", "globex", place, sealed, protect.ErrUnreadable},
		{"the other tenant's own", "acme", place, others, protect.ErrUnreadable},
		{"a tenant without keys", "nobody", place, sealed, protect.ErrUnreadable},
		{"nothing", "acme", place, nil, protect.ErrUnreadable},
		{"the version alone", "acme", place, sealed[:1], protect.ErrUnreadable},
		{"another version", "acme", place, slices.Concat([]byte{sealed[0] + 1}, sealed[1:]), protect.ErrUnreadable},
		{"cut off", "acme", place, sealed[:len(sealed)-1], protect.ErrUnreadable},
		{"a byte more", "acme", place, append(slices.Clone(sealed), 0), protect.ErrUnreadable},
	} {
		got, err := w.process().OpenText(t.Context(), tt.tenant, tt.place, tt.sealed)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got error %v, want %v", tt.name, err, tt.want)
		}
		if want := tt.want == nil; want != bytes.Equal(got, text) || !want && got != nil {
			t.Errorf("%s: got %q, want the text: %t", tt.name, got, want)
		}
	}
	for bit := range 8 * len(sealed) {
		flipped := slices.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		if got, err := w.OpenText(t.Context(), "acme", place, flipped); !errors.Is(err, protect.ErrUnreadable) || got != nil {
			t.Errorf("with bit %d flipped: got %q and error %v, want %v", bit, got, err, protect.ErrUnreadable)
		}
	}
}
