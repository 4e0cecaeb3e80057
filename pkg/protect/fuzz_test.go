package protect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// FuzzDetect plants secrets between any two texts. Each has to go, and a second pass finds nothing.
func FuzzDetect(f *testing.F) {
	f.Add("order ", " paid")
	f.Add("4111-", "-----BEGIN PRIVATE KEY-----")
	f.Add("eyJ.", `\"`)
	settings := audit.Settings{Detect: audit.Detectors()}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, secret := range []string{jwt, "4111111111111111", "AKIAIOSFODNN7EXAMPLE"} {
			e := audit.Entry{Message: before + " x " + secret + " x " + after}
			if invalid := protect.RemoveSecrets(&settings, &e); invalid != nil {
				t.Fatalf("%q: got %v, want no fault", e.Message, invalid)
			}
			if kept := strings.ToValidUTF8(before+after, ""); strings.Contains(e.Message, secret) && !strings.Contains(kept, secret) {
				t.Errorf("got %q, want it without %q", e.Message, secret)
			}
			once := e.Message
			_ = protect.RemoveSecrets(&settings, &e)
			if e.Message != once {
				t.Errorf("the second pass makes %q of %q, want no change", e.Message, once)
			}
		}
	})
}

// FuzzRules encrypts the metadata of an entry under rules with any path and subject, and reveals it
// again: nothing is lost, and no value that a rule covers as a whole stays.
func FuzzRules(f *testing.F) {
	f.Add("metadata.email", "user_id", "last4", `{"email":"ann@example.com"}`)
	f.Add("**.iban", "metadata.a.b", "ip", `{"a":{"b":1,"I-BAN":["DE89",1.50,null,{"x":true}]}}`)
	f.Add("metadata.*.x", "", "email", `{"a.x":"1","b":{"x":{"y":[]}},"":{"x":"a@b"}}`)
	f.Add("**.a.*", "resource_id", "full", `{"a":{"a":{"a":"[removed]"}}}`)
	keys, err := protect.NewTenantKeys(bytes.Repeat([]byte{7}, protect.KeyBytes))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, subject, mask, metadata string) {
		settings := audit.Tenant{ID: "acme", Name: "Acme", Status: audit.TenantActive, Settings: audit.DefaultSettings()}
		rule := audit.SensitiveField{Path: path, Subject: subject, Mask: audit.Mask(mask), Searchable: true}.WithDefaults()
		settings.Settings.SensitiveFields = []audit.SensitiveField{rule}
		if settings.Validate() != nil {
			return
		}
		submitted, invalid := entryjson.ParseSubmitted([]byte(`{"user_id":"ann","action":"A","resource_type":"r","metadata":` + metadata + `}`))
		if invalid != nil {
			return
		}
		e := submitted.Entry
		e.Tenant, e.ID = "acme", audit.NewEntryID(time.UnixMilli(1), [10]byte{})
		sent := slices.Clone(e.Metadata)
		covered, invalid := protect.NewRules(settings.Settings.SensitiveFields).Mask(&e)
		if invalid != nil || covered == nil {
			return
		}
		subjects := map[string]protect.Key{}
		for _, name := range covered.Subjects() {
			subjects[name] = protect.Key{Ref: protect.KeyRef{Subject: keys.SubjectID(name), Generation: 1}, Secret: sha256.Sum256([]byte(name))}
		}
		if err := covered.Encrypt(keys, subjects, &e, random); err != nil {
			t.Fatal(err)
		}
		stored, err := entryjson.ParseStored(entryjson.AppendStored(nil, &e))
		if err != nil {
			t.Fatalf("the stored entry: %v", err)
		}
		values := map[string][]byte{}
		for i := range stored.Encrypted {
			part := &stored.Encrypted[i]
			key := keys.Values
			for _, other := range subjects {
				if ref, err := protect.RefOf(part); err == nil && other.Ref == ref {
					key = other
				}
			}
			texts, err := protect.Open(&key, "acme", stored.ID, part)
			if err != nil {
				t.Fatalf("open %v: %v", part.Paths, err)
			}
			for j, pointer := range part.Paths {
				values[pointer] = texts[j]
			}
		}
		put, err := entryjson.PutValues(stored.Metadata, "/metadata", values)
		if err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, put, sent) || len(values) > 0 {
			t.Errorf("got %s, want %s, left %v", put, sent, values)
		}
	})
}

// sameJSON reports whether two objects are equal but for white space.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var left, right bytes.Buffer
	if err := json.Compact(&left, a); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&right, b); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(left.Bytes(), right.Bytes())
}

// FuzzOpen opens what somebody altered: it never gives a value, and never fails otherwise.
func FuzzOpen(f *testing.F) {
	keys, err := protect.NewTenantKeys(bytes.Repeat([]byte{7}, protect.KeyBytes))
	if err != nil {
		f.Fatal(err)
	}
	id := audit.NewEntryID(time.UnixMilli(1), [10]byte{})
	fixed := func(b []byte) { copy(b, bytes.Repeat([]byte{9}, len(b))) } // every process of the fuzzer has the same element
	sealed, err := protect.Seal(&keys.Values, "acme", id, []string{"/message"}, [][]byte{[]byte(`"secret"`)}, fixed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Data, sealed.Key, sealed.Generation, "/message")
	f.Add(sealed.Data[:len(sealed.Data)-1], sealed.Key, uint32(1), "/metadata/a")
	f.Add([]byte{}, "00112233445566778899aabbccddeeff", uint32(0), "")
	f.Fuzz(func(t *testing.T, data []byte, key string, generation uint32, path string) {
		part := audit.Encrypted{Paths: []string{path}, Key: key, Generation: generation, Data: data}
		isOurs := bytes.Equal(data, sealed.Data) && key == sealed.Key && generation == sealed.Generation && path == "/message"
		if values, err := protect.Open(&keys.Values, "acme", id, &part); (err == nil) != isOurs {
			t.Errorf("got %q and %v, want a value: %t", values, err, isOurs)
		}
	})
}
