package protect_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// withTokens returns an entry with one token beside a value of each key.
func withTokens(refs ...protect.KeyRef) []audit.Entry {
	e := audit.Entry{Tenant: "acme"}
	for _, ref := range refs {
		e.Encrypted = append(e.Encrypted, audit.Encrypted{Key: ref.Subject.String(), Generation: ref.Generation, Tokens: []audit.ValueToken{{1}}})
	}
	return []audit.Entry{e}
}

func TestTokensOfErasedValuesAreDropped(t *testing.T) {
	w := newKeyWorld()
	erased, alive := current(t, w.Keyring, "user-1").Ref, current(t, w.Keyring, "user-2").Ref
	destroy(t, w.Keyring, "user-1")
	next := current(t, w.Keyring, "user-1").Ref
	unknown := protect.KeyRef{Subject: protect.SubjectID{9}, Generation: 1}
	entries := withTokens(erased, alive, next, unknown)
	entries[0].Encrypted = append(entries[0].Encrypted, audit.Encrypted{Key: "tenant", Tokens: []audit.ValueToken{{1}}}, audit.Encrypted{Key: "?", Tokens: []audit.ValueToken{{1}}})
	if err := protect.DropErasedTokens(t.Context(), w.process(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries[0].Encrypted {
		got = append(got, fmt.Sprint(len(e.Tokens)))
	}
	if want := "0 1 1 1 1 1"; strings.Join(got, " ") != want {
		t.Errorf("the elements have %v tokens, want %s", got, want)
	}
}

func TestDroppingTokensNeedsTheStoreOnlyForTokens(t *testing.T) {
	w := newKeyWorld()
	ref := current(t, w.Keyring, "user-1").Ref
	w.store.err = errors.New("down")
	plain := withTokens(ref)
	plain[0].Encrypted[0].Tokens = nil
	if err := protect.DropErasedTokens(t.Context(), w.Keyring, "acme", plain); err != nil {
		t.Errorf("without a token: got error %v, want none", err)
	}
	if err := protect.DropErasedTokens(t.Context(), w.Keyring, "acme", withTokens(ref)); !audit.IsUnavailable(err) {
		t.Errorf("with a token: got error %v, want one of type %T", err, &audit.UnavailableError{})
	}
}
