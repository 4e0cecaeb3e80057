package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

// issued returns a certificate, and the name of a file with the keys that verify it.
func issued(t *testing.T) (text, keyFile string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	master, err := localkeys.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	issuer := &certificate.Issuer{Store: db.Certificates(), Wrapper: master, Random: func(b []byte) { _, _ = rand.Read(b) }}
	s := certificate.Statement{
		ID: certificate.ID{1}, Kind: certificate.KindErasure, Tenant: "acme", RequestedBy: "ann",
		Erasure:     &certificate.Erasure{Job: "e", Subject: "00ff", Generation: 2, Masks: []certificate.Mask{}},
		DestroyedAt: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), Remains: []string{"masks"},
	}
	if err := issuer.Issue(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if text, err = issuer.Store.Certificate(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	set, err := certificate.Published(t.Context(), issuer.Store)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	keyFile = filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keyFile, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	return text, keyFile
}

// A statement that stands beside the certificate is verified too, because people read it.
func TestVerifyComparesTheStatement(t *testing.T) {
	unsetEnvironment(t)
	text, keys := issued(t)
	signed, err := certificate.Payload(text)
	if err != nil {
		t.Fatal(err)
	}
	statement := string(signed)
	document := func(statement string) string {
		return fmt.Sprintf(`{"statement":%s,"certificate":%q}`, statement, text)
	}
	change := func(from, to string) string {
		t.Helper()
		if !strings.Contains(statement, from) {
			t.Fatalf("the statement is %s, want %s in it", statement, from)
		}
		return document(strings.Replace(statement, from, to, 1))
	}
	for _, tt := range []struct{ name, document, want string }{
		{"as the service answers", document(statement), ""},
		{"with white space", "\n " + change(`,"kind":`, ",\n  \"kind\": ") + "\n", ""},
		{"with the members in another order", change(`"tenant_id":"acme","requested_by":"ann"`, `"requested_by":"ann","tenant_id":"acme"`), ""},
		{"the certificate alone", text + "\n", ""},
		{"without a statement", fmt.Sprintf(`{"certificate":%q}`, text), ""},
		{"another tenant", change(`"acme"`, `"globex"`), `differs from the signed one at ["tenant_id"]`},
		{"another generation", change(`"key_generation":2`, `"key_generation":3`), `["key_generation"]`},
		{"another time and an element more", strings.Replace(change(`09:30:00Z`, `09:31:00Z`), `["masks"]`, `["masks","x"]`, 1), `["destroyed_at" "remains"]`},
		{"a member less", change(`"requested_by":"ann",`, ``), `["requested_by"]`},
		{"a member more", change(`{"id"`, `{"by\u001b[2J":1,"id"`), `["by\x1b[2J"]`},
		{"a member twice", change(`"tenant_id":"acme"`, `"tenant_id":"globex","tenant_id":"acme"`), "the document is damaged"},
		{"two statements", strings.Replace(document(statement), `{"statement":`, `{"statement":{},"statement":`, 1), "the document is damaged"},
		{"null", document("null"), "is no object"},
		{"a text", document(`"x"`), "is no object"},
		{"cut off", document(statement)[:100], "the document is damaged"},
		{"no certificate", `{"statement":{}}`, "does not have three parts"},
	} {
		code, out := exitFailure, ""
		if tt.want == "" {
			code, out = exitOK, `"tenant_id":"acme"`
		}
		got := command(t.Context(), strings.NewReader(tt.document), 0, "certificate", "verify", "--keys", keys)
		if got.code != code {
			t.Errorf("%s: got exit code %d, want %d", tt.name, got.code, code)
		}
		if !strings.Contains(got.err, tt.want) {
			t.Errorf("%s: got the error %q, want %q in it", tt.name, got.err, tt.want)
		}
		if !strings.Contains(got.out, out) || out == "" && got.out != "" {
			t.Errorf("%s: got the output %q, want %q", tt.name, got.out, out)
		}
	}
}
