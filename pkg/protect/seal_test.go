package protect_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

func random(b []byte) { _, _ = rand.Read(b) }

var (
	entryID   = audit.EntryID{1, 2, 3}
	subjectID = protect.SubjectID{7}
)

func subjectKey(secret byte) *protect.Key {
	return &protect.Key{Ref: protect.KeyRef{Subject: subjectID, Generation: 3}, Secret: [protect.KeyBytes]byte{secret}}
}

func sealed(t *testing.T, paths []string, values [][]byte) audit.Encrypted {
	t.Helper()
	e, err := protect.Seal(subjectKey(1), "acme", entryID, paths, values, random)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	values := [][]byte{[]byte(`"ann@example.com"`), []byte(`1.50`), []byte(`{"a":[null]}`)}
	e := sealed(t, []string{"/metadata/a", "/message", "/metadata/b"}, values)
	if bytes.Contains(e.Data, []byte("ann")) {
		t.Error("the data has the value in plain, want it encrypted")
	}
	got, err := protect.Open(subjectKey(1), "acme", entryID, &e)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(values, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if ref, err := protect.RefOf(&e); err != nil || ref != subjectKey(1).Ref {
		t.Errorf("got the key %v and error %v, want %v", ref, err, subjectKey(1).Ref)
	}
}

// TestTheLengthOfShortValuesIsHidden: all of them are padded to one length.
func TestTheLengthOfShortValuesIsHidden(t *testing.T) {
	short := sealed(t, []string{"/message"}, [][]byte{[]byte(`"a"`)})
	longer := sealed(t, []string{"/message"}, [][]byte{[]byte(`"` + string(bytes.Repeat([]byte("a"), 50)) + `"`)})
	if len(short.Data) != len(longer.Data) {
		t.Errorf("values of 1 and of 50 characters take %d and %d bytes, want the same", len(short.Data), len(longer.Data))
	}
}

// TestOpenRefusesWhatWasAltered: each bit, each place, each owner counts.
func TestOpenRefusesWhatWasAltered(t *testing.T) {
	original := sealed(t, []string{"/metadata/a", "/metadata/b"}, [][]byte{[]byte("1"), []byte("2")})
	refused := func(what string, key *protect.Key, tenant audit.TenantID, id audit.EntryID, e audit.Encrypted) {
		t.Helper()
		if _, err := protect.Open(key, tenant, id, &e); !errors.Is(err, protect.ErrUnreadable) {
			t.Errorf("%s: got error %v, want ErrUnreadable", what, err)
		}
	}
	for i := range original.Data {
		for bit := range 8 {
			e := original
			e.Data = bytes.Clone(e.Data)
			e.Data[i] ^= 1 << bit
			refused("a flipped bit", subjectKey(1), "acme", entryID, e)
		}
		e := original
		e.Data = e.Data[:i]
		refused("a cut end", subjectKey(1), "acme", entryID, e)
	}
	refused("another tenant", subjectKey(1), "globex", entryID, original)
	refused("another entry", subjectKey(1), "acme", audit.EntryID{9}, original)
	refused("another key", subjectKey(2), "acme", entryID, original)
	for what, change := range map[string]func(e *audit.Encrypted){
		"another generation": func(e *audit.Encrypted) { e.Generation++ },
		"another subject":    func(e *audit.Encrypted) { e.Key = "09" + e.Key[2:] },
		"the tenant's key":   func(e *audit.Encrypted) { e.Key = "tenant" },
		"another place":      func(e *audit.Encrypted) { e.Paths = []string{"/metadata/a", "/metadata/c"} },
		"swapped places":     func(e *audit.Encrypted) { e.Paths = []string{"/metadata/b", "/metadata/a"} },
		"one place less":     func(e *audit.Encrypted) { e.Paths = e.Paths[:1] },
		"joined places":      func(e *audit.Encrypted) { e.Paths = []string{"/metadata/a/metadata/b"} },
	} {
		e := original
		e.Paths = slices.Clone(e.Paths)
		change(&e)
		key := subjectKey(1)
		if ref, err := protect.RefOf(&e); err == nil {
			key.Ref = ref // as a reader would
		}
		refused(what, key, "acme", entryID, e)
	}
}

func TestKeysOfTenantsDiffer(t *testing.T) {
	one, two := tenantKeys(t, 1), tenantKeys(t, 2)
	digest := audit.Digest{Sum: [32]byte{1}}
	if one.SubjectID("u") == two.SubjectID("u") {
		t.Error("two tenants have the same id of a subject, want different ones")
	}
	if one.KeyedDigest(digest) == two.KeyedDigest(digest) {
		t.Error("two tenants have the same keyed digest, want different ones")
	}
	if one.Token("metadata.a", protect.ValueString, "x") == two.Token("metadata.a", protect.ValueString, "x") {
		t.Error("two tenants have the same token, want different ones")
	}
}

func TestSameContentAcrossARule(t *testing.T) {
	keys := tenantKeys(t, 1)
	plain, other := audit.Digest{Sum: [32]byte{1}}, audit.Digest{Sum: [32]byte{2}}
	keyed := keys.KeyedDigest(plain)
	if keyed == plain || keyed.Kind != audit.DigestKeyed {
		t.Errorf("got %v, want a keyed digest", keyed)
	}
	for _, test := range []struct {
		a, b audit.Digest
		want bool
	}{{plain, keyed, true}, {keyed, plain, true}, {keyed, keyed, true}, {other, keyed, false}, {keyed, keys.KeyedDigest(other), false}} {
		if got := keys.SameContent(test.a, test.b); got != test.want {
			t.Errorf("%v and %v: got %t, want %t", test.a, test.b, got, test.want)
		}
	}
}

// TestTokens: a number counts by its value, and the type and the path count.
func TestTokens(t *testing.T) {
	keys := tenantKeys(t, 1)
	token := keys.Token
	if token("metadata.a", protect.ValueNumber, "1") != token("metadata.a", protect.ValueNumber, "1.0") {
		t.Error("1 and 1.0 have different tokens, want the same")
	}
	if token("ip_address", protect.ValueString, "::ffff:203.0.113.7") != token("ip_address", protect.ValueString, "203.0.113.7") {
		t.Error("two spellings of an address have different tokens, want the same")
	}
	if token("metadata.a", protect.ValueNumber, "1") == token("metadata.a", protect.ValueString, "1") {
		t.Error("1 and \"1\" have the same token, want different ones")
	}
	if token("metadata.a", protect.ValueString, "x") == token("metadata.b", protect.ValueString, "x") {
		t.Error("two paths have the same token, want different ones")
	}
}
