package protect_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// byName are the settings of a tenant that sets nothing.
var byName = audit.Settings{RemoveSecrets: true}

func remove(t *testing.T, settings audit.Settings, e audit.Entry) audit.Entry {
	t.Helper()
	if invalid := protect.RemoveSecrets(&settings, &e); invalid != nil {
		t.Fatalf("got %v, want no fault", invalid)
	}
	return e
}

func TestSecretsAreRemovedByName(t *testing.T) {
	for _, test := range []struct{ metadata, want, removed string }{
		{`{"password":"hunter2","user":"ann"}`, `{"password":"[removed]","user":"ann"}`, "/metadata/password"},
		{`{"cvv":123,"token":-1.5e3,"secret":0}`, `{"cvv":"[removed]","token":"[removed]","secret":"[removed]"}`,
			"/metadata/cvv /metadata/token /metadata/secret"},
		{`{"a":{"b":{"api_key":"k"}}}`, `{"a":{"b":{"api_key":"[removed]"}}}`, "/metadata/a/b/api_key"},
		{`{"users":[{"password":"x"},{"password":"y"}]}`, `{"users":[{"password":"[removed]"},{"password":"[removed]"}]}`,
			"/metadata/users/0/password /metadata/users/1/password"},
		{`{"token":["a",["b",1],true,{"id":"c","secret":"d"}]}`, `{"token":["[removed]",["[removed]","[removed]"],true,{"id":"c","secret":"[removed]"}]}`,
			"/metadata/token/0 /metadata/token/1/0 /metadata/token/1/1 /metadata/token/3/secret"},
		{`{"authorization":{"action":"write","evidence":{"role":"Owner"},"token":"x"}}`,
			`{"authorization":{"action":"write","evidence":{"role":"Owner"},"token":"[removed]"}}`, "/metadata/authorization/token"},
		{`{"password":null,"token":true,"secret":"","cookie":[],"cvv":{}}`, `{"password":null,"token":true,"secret":"","cookie":[],"cvv":{}}`, ""},
		{`{"password":"[removed]","note":"[removed]"}`, `{"password":"[removed]","note":"[removed]"}`, ""},
		{`{"a/b~":{"password":"x"}}`, `{"a/b~":{"password":"[removed]"}}`, "/metadata/a~1b~0/password"},
		{`{"pass\u0077ord":"\u0068i"}`, `{"pass\u0077ord":"[removed]"}`, "/metadata/password"},
		{`{"note":"the password is x","password_policy":"strict"}`, `{"note":"the password is x","password_policy":"strict"}`, ""},
	} {
		e := remove(t, byName, audit.Entry{Metadata: audit.Object(test.metadata)})
		if got := string(e.Metadata); got != test.want {
			t.Errorf("%s: got %s, want %s", test.metadata, got, test.want)
		}
		if got := strings.Join(e.Removed, " "); got != test.removed {
			t.Errorf("%s: removed %q, want %q", test.metadata, got, test.removed)
		}
	}
}

func TestNamesAreComparedWithoutCaseHyphenAndUnderscore(t *testing.T) {
	is := func(name string) bool {
		return len(remove(t, byName, audit.Entry{Metadata: audit.Object(`{"` + name + `":"x"}`)}).Removed) > 0
	}
	for _, name := range append(protect.SecretNames(),
		"Pass-Word", "PASSWORD", "pass_word", "__password__", "apiKey", "Api-Key", "X-API-Key", "APIKEY", "Set-Cookie", "clientSecret",
		"secretAccessKey", "AWS_SECRET_ACCESS_KEY", "sessionToken", "to\u212aen", "pa\u017fsword", "-c-v-v-") {
		if !is(name) {
			t.Errorf("%s: stays, want it removed", name)
		}
	}
	for _, name := range []string{
		"", "-", "_", "d", "rd", "pass", "passwords", "password2", "tokens", "token_type", "token_count", "secretary", "secret_name", "keyboard", "api_key_id",
		"author", "authorized", "cookies", "private", "public_key", "discovery", "pass word", "pass.word", "пароль", strings.Repeat("-", 300),
		strings.Repeat("password", 40), "tok\u00e9n",
	} {
		if is(name) {
			t.Errorf("%.40s: is removed, want it to stay", name)
		}
	}
}

func TestSecretsAreRemovedFromEveryField(t *testing.T) {
	settings := audit.Settings{RemoveSecrets: true, Detect: audit.Detectors()}
	got := remove(t, settings, audit.Entry{
		UserID: "AKIAIOSFODNN7EXAMPLE", SessionID: jwt, UserAgent: "curl " + jwt, Message: "key AKIAIOSFODNN7EXAMPLE",
		Before: audit.Object(`{"password":"a"}`), After: audit.Object(`{"password":"b"}`), Metadata: audit.Object(`{"text":"pay 4111 1111 1111 1111 now"}`),
	})
	want := audit.Entry{
		UserID: "AKIAIOSFODNN7EXAMPLE", SessionID: "[removed]", UserAgent: "curl [removed]", Message: "key [removed]",
		Before: audit.Object(`{"password":"[removed]"}`), After: audit.Object(`{"password":"[removed]"}`), Metadata: audit.Object(`{"text":"pay [removed] now"}`),
		Removed: []string{"/session_id", "/user_agent", "/before_state/password", "/after_state/password", "/metadata/text", "/message"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(want.IPAddress)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettingsOfSecretsAreIndependent(t *testing.T) {
	const metadata = `{"password":"hunter2","text":"AKIAIOSFODNN7EXAMPLE"}`
	for name, test := range map[string]struct {
		settings audit.Settings
		want     string
	}{
		"neither":   {audit.Settings{}, metadata},
		"names":     {byName, `{"password":"[removed]","text":"AKIAIOSFODNN7EXAMPLE"}`},
		"detect":    {audit.Settings{Detect: []audit.Detector{audit.DetectAWSKey}}, `{"password":"hunter2","text":"[removed]"}`},
		"other":     {audit.Settings{Detect: []audit.Detector{audit.DetectPAN}}, metadata},
		"both":      {audit.Settings{RemoveSecrets: true, Detect: audit.Detectors()}, `{"password":"[removed]","text":"[removed]"}`},
		"something": {audit.Settings{Detect: []audit.Detector{"unknown"}}, metadata},
	} {
		e := remove(t, test.settings, audit.Entry{Metadata: audit.Object(metadata)})
		if got := string(e.Metadata); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestTheObjectsOfTheCallerStay(t *testing.T) {
	const metadata = `{"password":"hunter2"}`
	object := audit.Object(metadata)
	remove(t, byName, audit.Entry{Metadata: object})
	if string(object) != metadata {
		t.Errorf("got %s, want %s", object, metadata)
	}
}

func TestVeryManyPlacesAreNamedByTheirField(t *testing.T) {
	long := strings.Repeat("n", 40_000)
	for name, metadata := range map[string]string{
		"1,001 places": `{"token":[1` + strings.Repeat(",1", 1000) + `]}`,
		"over 64 KiB":  `{"` + long + `":{"token":1,"secret":2}}`,
	} {
		e := remove(t, byName, audit.Entry{Before: audit.Object(`{"cvv":1}`), Metadata: audit.Object(metadata)})
		if got, want := fmt.Sprintf("%.100q", e.Removed), `["/before_state" "/metadata"]`; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	exact := remove(t, byName, audit.Entry{Metadata: audit.Object(`{"token":[1` + strings.Repeat(",1", 999) + `]}`)})
	if got, want := len(exact.Removed), 1000; got != want {
		t.Errorf("got %d places, want %d", got, want)
	}
}

func TestAnEntryMayNotGrowWithoutBound(t *testing.T) {
	e := audit.Entry{Metadata: audit.Object(`{"token":[1` + strings.Repeat(",1", 100_000) + `]}`)}
	invalid := protect.RemoveSecrets(&byName, &e)
	if invalid == nil {
		t.Fatal("got no fault, want one")
	}
	if got, want := invalid.Fields[0].Code, "too_large"; got != want {
		t.Errorf("got the code %s, want %s", got, want)
	}
}

func TestNoJSONIsRefused(t *testing.T) {
	e := audit.Entry{Metadata: audit.Object(`{"token":1`)}
	invalid := protect.RemoveSecrets(&byName, &e)
	if invalid == nil {
		t.Fatal("got no fault, want one")
	}
	if got, want := invalid.Fields[0].Pointer, "/metadata"; got != want {
		t.Errorf("got a fault of %s, want %s", got, want)
	}
}

// hostile are texts that begin like secrets again and again.
var hostile = map[string]string{
	"headers of tokens":  "eyJ.",
	"one long header":    "eyJ",
	"headers and dashes": "-eyJhbGciOiJIUzI1NiJ9",
	"headers and dots":   "eyJhbGciOiJIUzI1NiJ9.",
	"keys of PEM":        "-----BEGIN PRIVATE KEY",
	"ends of PEM":        "-----BEGIN X-----",
	"begins of PEM":      "-----BEGIN ",
	"ids of keys":        "AKIA",
	"runs of base64":     "aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3a ",
	"digits":             "4",
	"groups of digits":   "444 ",
	"groups of cards":    "4111-",
	"quotes":             `\"`,
	"names":              `\":`,
}

func TestDetectionTakesLinearTime(t *testing.T) {
	settings := audit.Settings{RemoveSecrets: true, Detect: audit.Detectors()}
	for name, unit := range hostile {
		text := strings.Repeat(unit, 200_000/len(unit))
		start := time.Now()
		e := audit.Entry{Metadata: audit.Object(`{"a":"` + text + `"}`), Message: text[:8000]}
		_ = protect.RemoveSecrets(&settings, &e)
		// Quadratic time would be a minute. The bound is for a slow machine under load.
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s: took %s, want at most 2 s", name, took)
		}
	}
}

// TestTheDocumentListsEveryName: docs/protection.md is where users look for the names.
func TestTheDocumentListsEveryName(t *testing.T) {
	text, err := os.ReadFile("../../docs/protection.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range protect.SecretNames() {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/protection.md lacks `%s`", name)
		}
	}
}
