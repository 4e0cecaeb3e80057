package main_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/cmd/internal/devprocess"
	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/access/bearer"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// victimSecret stands in every entry of the attacked tenant. No answer to an attacker has it.
const victimSecret = "victims-only-words"

// victimEmail is encrypted in the attacked tenant, and can be found by its whole value there.
const victimEmail = victimSecret + "@example.com"

const attackAudience = "https://ocelot.attacked.example"

// attacked is a running `ocelot dev` with two tenants: the attacker is an admin of evil and wants
// what victim has.
type attacked struct {
	t          *testing.T
	process    *devprocess.Process
	secret     []byte
	entry      string // id of an entry of victim
	cursor     string // of a list of victim
	feedCursor string
	key        string // id of a key of victim
	job        string // id of a job of the deleted tenant gone
	export     string // id of an export of victim
	erasure    string // id of an erasure of victim, whose delay is not over
	hold       string // id of a legal hold of victim
	evilKey    string // secret of a key of evil
	evilRights string // Authorization of evil's admin
}

// attack is a request and the statuses that it may get.
type attack struct {
	name, authorization, tenant, method, target, body string
	header                                            map[string]string
	want                                              []int
}

type attackAnswer struct {
	status int
	header http.Header
	body   string
}

func startAttacked(t *testing.T, environment map[string]string) *attacked {
	t.Helper()
	for name, value := range environment {
		t.Setenv(name, value)
	}
	folder := t.TempDir()
	program, err := devprocess.Build(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(folder, "service.log"))
	if err != nil {
		t.Fatal(err)
	}
	a := &attacked{t: t}
	if a.process, err = devprocess.Start(program, filepath.Join(folder, "data"), log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.process.Kill(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := a.process.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if a.secret, err = localcloud.DevSecret(filepath.Join(folder, "data")); err != nil {
		t.Fatal(err)
	}
	return a
}

// seed makes the tenants and what the attacker is after.
func (a *attacked) seed() {
	a.t.Helper()
	operator, victim := a.token("op", access.AnyTenant, access.RoleOperator), a.token("vera", "victim", access.RoleAdmin)
	for _, id := range []string{"victim", "evil", "gone"} {
		a.must(attack{authorization: operator, method: "POST", target: "/tenants", body: fmt.Sprintf(`{"id":%q,"name":%q}`, id, id), want: []int{201}}, nil)
	}
	for tenant, admin := range map[string]string{"victim": victim, "evil": a.token("eve", "evil", access.RoleAdmin)} {
		a.must(attack{authorization: admin, method: "PATCH", target: "/tenants/" + tenant, body: `{"settings":{"sensitive_fields":[{"path":"metadata.email","searchable":true}]}}`, header: map[string]string{"If-Match": "*"}, want: []int{200}}, nil)
	}
	entry := fmt.Sprintf(`{"user_id":"vera","action":"PAY","resource_type":"order","message":%q,"metadata":{"email":%q}}`, victimSecret, victimEmail)
	var accepted struct{ ID string }
	a.must(attack{authorization: victim, tenant: "victim", method: "POST", target: "/logs", body: entry, want: []int{202}}, &accepted)
	a.must(attack{authorization: victim, tenant: "victim", method: "POST", target: "/logs", body: entry, want: []int{202}}, nil)
	a.entry = accepted.ID
	var page, feed struct{ Next string }
	for deadline := time.Now().Add(awaitTimeoutOfAttacks); (page.Next == "" || feed.Next == "") && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a.must(attack{authorization: victim, tenant: "victim", method: "GET", target: "/logs?limit=1", want: []int{200}}, &page)
		a.must(attack{authorization: victim, tenant: "victim", method: "GET", target: "/logs/feed?limit=1", want: []int{200}}, &feed)
	}
	a.cursor, a.feedCursor = page.Next, feed.Next
	var key struct{ ID, Secret string }
	a.must(attack{authorization: victim, method: "POST", target: "/tenants/victim/api-keys", body: `{"name":"k","permissions":["logs:read"]}`, want: []int{201}}, &key)
	a.key = key.ID
	a.evilRights = a.token("eve", "evil", access.RoleAdmin)
	a.must(attack{authorization: a.evilRights, method: "POST", target: "/tenants/evil/api-keys", body: `{"name":"k","permissions":["logs:read","logs:search","keys:manage"]}`, want: []int{201}}, &key)
	a.evilKey = key.Secret
	var job struct{ ID string }
	a.must(attack{authorization: operator, method: "DELETE", target: "/tenants/gone", want: []int{202}}, &job)
	a.job = job.ID
	a.must(attack{authorization: victim, tenant: "victim", method: "POST", target: "/logs/exports", body: `{"format":"csv"}`, want: []int{202}}, &job)
	a.export = job.ID
	a.must(attack{authorization: victim, method: "POST", target: "/tenants/victim/erasures", body: `{"subject":"user-42","reason":"r","delay_hours":24}`, want: []int{202}}, &job)
	a.erasure = job.ID
	a.must(attack{authorization: victim, method: "POST", target: "/tenants/victim/legal-holds", body: `{"matter":"m","reason":"r","user_ids":["user-17"]}`, want: []int{202}}, &job)
	a.hold = job.ID
}

const awaitTimeoutOfAttacks = 30 * time.Second

// token returns the Authorization of a token that the service itself takes.
func (a *attacked) token(subject string, tenant audit.TenantID, role access.Role) string {
	a.t.Helper()
	now := time.Now()
	text, err := bearer.Mint(a.secret, bearer.Token{
		Claims:   access.Claims{Subject: subject, Tenants: []string{string(tenant)}, Role: role},
		Audience: attackAudience, IssuedAt: now, ExpiresAt: now.Add(time.Hour),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return "Bearer " + text
}

// forged returns the Authorization of a token of any header and claims, signed with any secret.
func forged(header, claims map[string]any, secret []byte) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(header) + "." + part(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return "Bearer " + signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// victimClaims are claims that would open victim. more replaces some; nil removes one.
func victimClaims(more map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{
		"sub": "vera", "tenants": []string{"victim"}, "role": "admin", "aud": attackAudience, "iat": now, "nbf": now, "exp": now + 3600,
	}
	for name, value := range more {
		if value == nil {
			delete(c, name)
			continue
		}
		c[name] = value
	}
	return c
}

// send makes the request. A target that does not begin with a scheme is below the base path, and
// one with "^" before it is below the address.
func (a *attacked) send(at attack) attackAnswer {
	a.t.Helper()
	address := a.process.URL + manifest.BasePath + at.target
	if rest, root := strings.CutPrefix(at.target, "^"); root {
		address = a.process.URL + rest
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, at.method, address, strings.NewReader(at.body))
	if err != nil {
		a.t.Fatalf("%s: %v", at.name, err)
	}
	r.Header.Set("Content-Type", "application/json")
	if at.authorization != "" {
		r.Header.Set("Authorization", at.authorization)
	}
	if at.tenant != "" {
		r.Header.Set(manifest.TenantHeader, at.tenant)
	}
	for name, value := range at.header {
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		a.t.Fatalf("%s: %v", at.name, err)
	}
	var body []byte
	if response.StatusCode != http.StatusSwitchingProtocols { // that body is the connection
		body, err = io.ReadAll(response.Body)
	}
	if closeErr := response.Body.Close(); err != nil || closeErr != nil {
		a.t.Fatalf("%s: read the answer: %v, %v", at.name, err, closeErr)
	}
	return attackAnswer{response.StatusCode, response.Header, string(body)}
}

// must sends a request of the test's own, which has to succeed.
func (a *attacked) must(at attack, to any) {
	a.t.Helper()
	got := a.send(at)
	if !slices.Contains(at.want, got.status) {
		a.t.Fatalf("%s %s: got %d %s, want %d", at.method, at.target, got.status, got.body, at.want)
	}
	if to == nil {
		return
	}
	if err := json.Unmarshal([]byte(got.body), to); err != nil {
		a.t.Fatal(err)
	}
}

// internals are what an answer must not tell: source places, panics, SQL, paths, other hosts.
var internals = regexp.MustCompile(`\.go:\d+|goroutine |(?i)sqlite|SELECT .* FROM|panic|/tmp/|/home/|jwt\.key`)

// try sends an attack and checks its answer: the status, that it has nothing of the victim, and
// nothing of the service's inside.
func (a *attacked) try(t *testing.T, at attack) attackAnswer {
	t.Helper()
	got := a.send(at)
	if !slices.Contains(at.want, got.status) {
		t.Errorf("%s: got %d %.300s, want %d", at.name, got.status, got.body, at.want)
	}
	if strings.Contains(got.body, victimSecret) {
		t.Errorf("%s: got the victim's entry: %.300s", at.name, got.body)
	}
	if got.status >= 400 {
		if found := internals.FindString(got.body); found != "" {
			t.Errorf("%s: got %q in the error, want none of the service's inside: %.300s", at.name, found, got.body)
		}
		if kind := got.header.Get("Content-Type"); kind != "application/problem+json" && at.method != http.MethodHead {
			t.Errorf("%s: got an error of type %q, want a problem document", at.name, kind)
		}
	}
	return got
}

// attackTests are the points of OWASP's API Security Top 10 of 2023. docs/security.md lists them.
var attackTests = []struct {
	name string
	run  func(a *attacked, t *testing.T)
}{
	{"API1", (*attacked).objects},
	{"API2", (*attacked).authentication},
	{"API3", (*attacked).properties},
	{"API4", (*attacked).consumption},
	{"API5", (*attacked).functions},
	{"API6", (*attacked).flows},
	{"API7", (*attacked).requestForgery},
	{"API8", (*attacked).configuration},
	{"API9", (*attacked).inventory},
}

// TestAttack attacks a running service. TestAttackAPI10 needs a service with a key server.
func TestAttack(t *testing.T) {
	a := startAttacked(t, map[string]string{"OIDC_AUDIENCE": attackAudience})
	a.seed()
	for _, test := range attackTests {
		t.Run(test.name, func(t *testing.T) { test.run(a, t) })
	}
	t.Run("afterwards", func(t *testing.T) {
		a.must(attack{method: "GET", target: "/health", want: []int{200}}, nil)
		a.must(attack{authorization: a.token("vera", "victim", access.RoleAdmin), tenant: "victim", method: "GET", target: "/logs/" + a.entry, want: []int{200}}, nil)
		a.unchanged(t)
	})
}

// unchanged checks that the victim's export, erasure and hold are as the victim left them.
func (a *attacked) unchanged(t *testing.T) {
	t.Helper()
	victim := a.token("vera", "victim", access.RoleAdmin)
	for target, states := range map[string][]string{
		"/jobs/" + a.export:                     {"queued", "running", "succeeded"},
		"/tenants/victim/erasures/" + a.erasure: {"queued", "running"},
		"/tenants/victim/legal-holds/" + a.hold: {"starting", "in_force"},
	} {
		var got struct{ State string }
		a.must(attack{authorization: victim, tenant: "victim", method: "GET", target: target, want: []int{200}}, &got)
		if !slices.Contains(states, got.State) {
			t.Errorf("%s is %s, want one of %v", target, got.State, states)
		}
	}
}

// objects takes ids, cursors and jobs of another tenant.
func (a *attacked) objects(t *testing.T) {
	reads := []string{
		"/logs", "/logs?q=" + victimSecret, "/logs/" + a.entry, "/logs/" + a.entry + "?reveal=true&reason=r", "/logs/feed", "/logs/stats", "/logs/quarantine",
		"/logs/export", "/logs/exports", "/logs/exports/" + a.export, "/jobs", "/jobs/" + a.job, "/jobs/" + a.export, "/jobs/" + a.erasure, "/jobs/" + a.hold,
	}
	for _, target := range reads {
		for _, tenant := range []string{"victim", "gone", "no-such"} {
			a.try(t, attack{name: target + " in " + tenant, authorization: a.evilRights, tenant: tenant, method: "GET", target: target, want: []int{403}})
			a.try(t, attack{name: target + " in " + tenant + " by key", authorization: "ApiKey " + a.evilKey, tenant: tenant, method: "GET", target: target, want: []int{403}})
		}
	}
	for _, at := range []attack{
		{name: "an entry's id", method: "GET", target: "/logs/" + a.entry, want: []int{404}},
		{name: "a list's cursor", method: "GET", target: "/logs?limit=1&cursor=" + a.cursor, want: []int{422}},
		{name: "a feed's cursor", method: "GET", target: "/logs/feed?limit=1&cursor=" + a.feedCursor, want: []int{422}},
		{name: "a list's cursor for the feed", method: "GET", target: "/logs/feed?cursor=" + a.cursor, want: []int{422}},
		{name: "an entry's id, revealed", method: "GET", target: "/logs/" + a.entry + "?reveal=true&reason=r", want: []int{404}},
		{name: "a job's id", method: "GET", target: "/jobs/" + a.job, want: []int{404}},
		{name: "cancelling a job", method: "DELETE", target: "/jobs/" + a.job, want: []int{404}},
		{name: "an export's id", method: "GET", target: "/logs/exports/" + a.export, want: []int{404}},
		{name: "an export as a job", method: "GET", target: "/jobs/" + a.export, want: []int{404}},
		{name: "cancelling an export", method: "DELETE", target: "/jobs/" + a.export, want: []int{404}},
		{name: "an erasure as a job", method: "GET", target: "/jobs/" + a.erasure, want: []int{404}},
		{name: "cancelling an erasure as a job", method: "DELETE", target: "/jobs/" + a.erasure, want: []int{404}},
		{name: "a hold as a job", method: "GET", target: "/jobs/" + a.hold, want: []int{404}},
		{name: "cancelling a hold as a job", method: "DELETE", target: "/jobs/" + a.hold, want: []int{404}},
	} {
		at.authorization, at.tenant = a.evilRights, "evil"
		a.try(t, at)
	}
	for _, at := range []attack{
		{name: "a key's id in the own tenant", method: "DELETE", target: "/tenants/evil/api-keys/" + a.key, want: []int{404}},
		{name: "a key in its tenant", method: "DELETE", target: "/tenants/victim/api-keys/" + a.key, want: []int{403}},
		{name: "the keys", method: "GET", target: "/tenants/victim/api-keys", want: []int{403}},
		{name: "the tenant", method: "GET", target: "/tenants/victim", want: []int{403}},
		{name: "changing the tenant", method: "PATCH", target: "/tenants/victim", body: `{"name":"x"}`, header: map[string]string{"If-Match": "*"}, want: []int{403}},
		{name: "the erasures", method: "GET", target: "/tenants/victim/erasures", want: []int{403}},
		{name: "an erasure", method: "GET", target: "/tenants/victim/erasures/" + a.erasure, want: []int{403}},
		{name: "cancelling an erasure", method: "DELETE", target: "/tenants/victim/erasures/" + a.erasure, want: []int{403}},
		{name: "erasing a person", method: "POST", target: "/tenants/victim/erasures", body: `{"subject":"user-43","reason":"r"}`, want: []int{403}},
		{name: "an erasure's id in the own tenant", method: "GET", target: "/tenants/evil/erasures/" + a.erasure, want: []int{404}},
		{name: "cancelling it in the own tenant", method: "DELETE", target: "/tenants/evil/erasures/" + a.erasure, want: []int{404}},
		{name: "the restores", method: "GET", target: "/tenants/victim/restores", want: []int{403}},
		{name: "a job as a restore", method: "GET", target: "/tenants/victim/restores/" + a.job, want: []int{403}},
		{name: "restoring entries", method: "POST", target: "/tenants/victim/restores", body: `{"from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z"}`, want: []int{403}},
		{name: "cancelling a job as a restore in the own tenant", method: "DELETE", target: "/tenants/evil/restores/" + a.job, want: []int{404}},
		{name: "the holds", method: "GET", target: "/tenants/victim/legal-holds", want: []int{403}},
		{name: "a hold", method: "GET", target: "/tenants/victim/legal-holds/" + a.hold, want: []int{403}},
		{name: "releasing a hold", method: "DELETE", target: "/tenants/victim/legal-holds/" + a.hold + "?reason=r", want: []int{403}},
		{name: "setting a hold", method: "POST", target: "/tenants/victim/legal-holds", body: `{"matter":"m","reason":"r"}`, want: []int{403}},
		{name: "a hold's id in the own tenant", method: "GET", target: "/tenants/evil/legal-holds/" + a.hold, want: []int{404}},
		{name: "releasing it in the own tenant", method: "DELETE", target: "/tenants/evil/legal-holds/" + a.hold + "?reason=r", want: []int{404}},
		{name: "exporting", tenant: "victim", method: "POST", target: "/logs/exports", body: `{}`, want: []int{403}},
		{name: "removing entries", tenant: "victim", method: "DELETE", target: "/logs/cleanup?before=2100-01-01", want: []int{403}},
		{name: "counting what would be removed", tenant: "victim", method: "DELETE", target: "/logs/cleanup?before=2100-01-01&dry_run=true", want: []int{403}},
		{name: "an encrypted value", tenant: "victim", method: "POST", target: "/logs/search", body: matchVictim, want: []int{403}},
		{name: "a path out of the own tenant", method: "GET", target: "/tenants/evil%2f..%2fvictim", want: []int{403, 404}},
	} {
		at.authorization = a.evilRights
		a.try(t, at)
	}
	a.encryptedValue(t)
	victimTicket, evilTicket := a.ticket("victim"), a.ticket("evil")
	half := min(len(victimTicket), len(evilTicket)) / 2
	other := "A"
	if victimTicket[half] == 'A' {
		other = "B"
	}
	for name, text := range map[string]string{"cut": victimTicket[:len(victimTicket)-2], "changed": victimTicket[:half] + other + victimTicket[half+1:], "mixed": victimTicket[:half] + evilTicket[half:], "a cursor": a.cursor} {
		a.try(t, attack{
			name: "a ticket that is " + name, method: "GET", target: "/logs/stream?ticket=" + text, want: []int{401},
			header: map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
		})
	}
}

// matchVictim asks for the entries with the victim's encrypted value.
const matchVictim = `{"match_encrypted":{"metadata.email":"` + victimEmail + `"}}`

// encryptedValue looks for the victim's encrypted value in both tenants: only the victim finds it.
func (a *attacked) encryptedValue(t *testing.T) {
	t.Helper()
	victim := a.token("vera", "victim", access.RoleAdmin)
	for _, at := range []struct {
		tenant, authorization string
		want                  bool
	}{{"victim", victim, true}, {"evil", a.evilRights, false}} {
		var got attackAnswer
		for deadline := time.Now().Add(awaitTimeoutOfAttacks); got.status != http.StatusOK && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) { // until the rule is known
			got = a.send(attack{authorization: at.authorization, tenant: at.tenant, method: "POST", target: "/logs/search", body: matchVictim})
		}
		if got.status != http.StatusOK {
			t.Fatalf("the victim's value in %s: got %d %.300s, want %d", at.tenant, got.status, got.body, http.StatusOK)
		}
		if found := strings.Contains(got.body, a.entry); found != at.want {
			t.Errorf("the victim's value in %s: got %.300s, want its entry in it: %t", at.tenant, got.body, at.want)
		}
		if found := strings.Contains(got.body, victimSecret); found != at.want {
			t.Errorf("the victim's value in %s: got %.300s, want the victim's words in it: %t", at.tenant, got.body, at.want)
		}
	}
}

// ticket returns a ticket for the live stream of the tenant.
func (a *attacked) ticket(tenant audit.TenantID) string {
	a.t.Helper()
	var ticket struct{ Ticket string }
	a.must(attack{authorization: a.token("t", tenant, access.RoleAuditor), tenant: string(tenant), method: "POST", target: "/logs/stream/tickets", want: []int{201}}, &ticket)
	return ticket.Ticket
}

// authentication sends credentials that nobody issued, or that are no longer good.
func (a *attacked) authentication(t *testing.T) {
	hs256 := map[string]any{"alg": "HS256", "typ": "JWT"}
	good := forged(hs256, victimClaims(nil), a.secret)
	a.must(attack{authorization: good, tenant: "victim", method: "GET", target: "/tenants/victim", want: []int{200}}, nil) // else all of the below prove nothing
	parts := strings.Split(good, ".")
	now := time.Now().Unix()
	header := func(more map[string]any) map[string]any {
		h := map[string]any{"alg": "HS256", "typ": "JWT"}
		for name, value := range more {
			h[name] = value
		}
		return h
	}
	for name, authorization := range map[string]string{
		"none":                       "",
		"alg none":                   forged(header(map[string]any{"alg": "none"}), victimClaims(nil), a.secret),
		"alg none without signature": parts[0] + "." + parts[1] + ".",
		"alg None":                   forged(header(map[string]any{"alg": "None"}), victimClaims(nil), nil),
		"alg HS512":                  forged(header(map[string]any{"alg": "HS512"}), victimClaims(nil), a.secret),
		"alg RS256 signed by HMAC":   forged(header(map[string]any{"alg": "RS256"}), victimClaims(nil), a.secret),
		"an empty secret":            forged(hs256, victimClaims(nil), nil),
		"a guessed secret":           forged(hs256, victimClaims(nil), []byte("secret")),
		"kid of a file":              forged(header(map[string]any{"kid": "../../dev/null"}), victimClaims(nil), nil),
		"kid of SQL":                 forged(header(map[string]any{"kid": "' UNION SELECT 'x"}), victimClaims(nil), []byte("x")),
		"a key in the header":        forged(header(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "eA"}}), victimClaims(nil), []byte("x")),
		"a critical extension":       forged(header(map[string]any{"crit": []string{"x"}, "x": 1}), victimClaims(nil), a.secret),
		"expired":                    forged(hs256, victimClaims(map[string]any{"exp": now - 120}), a.secret),
		"without an end":             forged(hs256, victimClaims(map[string]any{"exp": nil}), a.secret),
		"not yet valid":              forged(hs256, victimClaims(map[string]any{"nbf": now + 600}), a.secret),
		"from the future":            forged(hs256, victimClaims(map[string]any{"iat": now + 600}), a.secret),
		"another audience":           forged(hs256, victimClaims(map[string]any{"aud": "https://other.example"}), a.secret),
		"no audience":                forged(hs256, victimClaims(map[string]any{"aud": nil}), a.secret),
		"other claims":               parts[0] + "." + strings.Split(forged(hs256, victimClaims(map[string]any{"sub": "x"}), nil), ".")[1] + "." + parts[2],
		"without the word Bearer":    strings.TrimPrefix(good, "Bearer "),
		"a password":                 "Basic dmVyYTp2ZXJh",
		"a key that nobody has":      "ApiKey ocelot_" + strings.Repeat("a", 43),
		"a key as a token":           "Bearer " + a.evilKey,
		"a very long token":          "Bearer " + strings.Repeat("a.", 5000),
	} {
		for _, target := range []string{"/tenants/victim", "/logs"} {
			a.try(t, attack{name: name + " at " + target, authorization: authorization, tenant: "victim", method: "GET", target: target, want: []int{401}})
		}
	}
	a.try(t, attack{name: "a token in the query", tenant: "victim", method: "GET", target: "/logs?access_token=" + strings.TrimPrefix(good, "Bearer "), want: []int{401}})
	a.try(t, attack{name: "another tenant's key", authorization: "ApiKey " + a.evilKey, tenant: "victim", method: "GET", target: "/logs", want: []int{403}})
}

// properties sets what the server alone makes, and reads what the scope forbids.
func (a *attacked) properties(t *testing.T) {
	var accepted struct{ ID string }
	a.must(attack{
		authorization: a.evilRights, tenant: "evil", method: "POST", target: "/logs", want: []int{202},
		body: `{"user_id":"eve","action":"A","resource_type":"r","received_at":"2001-01-01T00:00:00Z","expires_at":"2001-01-01T00:00:00Z","submitted_by":"service","changed":["x"],"status":"indexed"}`,
	}, &accepted)
	var stored struct {
		Tenant      string    `json:"tenant_id"`
		SubmittedBy string    `json:"submitted_by"`
		ReceivedAt  time.Time `json:"received_at"`
		Changed     []string
	}
	deadline := time.Now().Add(awaitTimeoutOfAttacks)
	for got := (attackAnswer{}); got.status != 200; time.Sleep(20 * time.Millisecond) {
		got = a.send(attack{authorization: a.evilRights, tenant: "evil", method: "GET", target: "/logs/" + accepted.ID})
		if got.status != 200 && time.Now().After(deadline) {
			t.Fatalf("the entry: got %d %s, want 200", got.status, got.body)
		}
		if got.status == 200 {
			if err := json.Unmarshal([]byte(got.body), &stored); err != nil {
				t.Fatal(err)
			}
		}
	}
	if stored.Tenant != "evil" {
		t.Errorf("got tenant_id %q, want %q", stored.Tenant, "evil")
	}
	if stored.SubmittedBy != "sub:eve" {
		t.Errorf("got submitted_by %q, want %q", stored.SubmittedBy, "sub:eve")
	}
	if time.Since(stored.ReceivedAt) > time.Hour {
		t.Errorf("got received_at %s, want now", stored.ReceivedAt)
	}
	if len(stored.Changed) > 0 {
		t.Errorf("got changed %q, want none", stored.Changed)
	}
	change := map[string]string{"If-Match": "*"}
	user := a.token("ulf", "evil", access.RoleUser)
	for _, at := range []attack{
		{name: "status by an admin", method: "PATCH", target: "/tenants/evil", body: `{"status":"active"}`, header: change, want: []int{403}},
		{name: "the id of a tenant", method: "PATCH", target: "/tenants/evil", body: `{"id":"victim"}`, header: change, want: []int{422}},
		{name: "created_at of a tenant", method: "PUT", target: "/tenants/evil", body: `{"name":"x","created_at":"2001-01-01T00:00:00Z"}`, header: change, want: []int{422}},
		{name: "the isolation", method: "PATCH", target: "/tenants/evil", body: `{"settings":{"isolation":"dedicated"}}`, header: change, want: []int{422}},
		{name: "the secret of a key", method: "POST", target: "/tenants/evil/api-keys", body: `{"name":"k","permissions":["logs:read"],"secret":"ocelot_x"}`, want: []int{422}},
		{name: "the tenant of an entry", tenant: "evil", method: "POST", target: "/logs", body: `{"user_id":"e","action":"A","resource_type":"r","tenant_id":"victim"}`, want: []int{422}},
		{name: "the tenant of a key", method: "POST", target: "/tenants/evil/api-keys", body: `{"name":"k","permissions":["logs:read"],"tenant_id":"victim"}`, want: []int{422}},
		{name: "an unknown member", authorization: a.evilRights, tenant: "evil", method: "POST", target: "/logs", body: `{"user_id":"e","action":"A","resource_type":"r","is_admin":true}`, want: []int{422}},
		{name: "somebody else as the actor", authorization: user, tenant: "evil", method: "POST", target: "/logs", body: `{"user_id":"eve","action":"A","resource_type":"r"}`, want: []int{422}},
		{name: "somebody else's entry", authorization: user, tenant: "evil", method: "GET", target: "/logs/" + accepted.ID, want: []int{404}},
	} {
		if at.authorization == "" {
			at.authorization = a.evilRights
		}
		a.try(t, at)
	}
	got := a.try(t, attack{name: "a filter beside the scope", authorization: user, tenant: "evil", method: "GET", target: "/logs?user_id=eve&q=user_id:eve+OR+user_id:ulf", want: []int{200}})
	if strings.Contains(got.body, accepted.ID) {
		t.Errorf("a user's list has the entry of somebody else: %.300s", got.body)
	}
}

// consumption asks for more than anybody may have.
func (a *attacked) consumption(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	for range 64 {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	entries := "[" + strings.TrimSuffix(strings.Repeat(`{"user_id":"e","action":"A","resource_type":"r"},`, 1001), ",") + "]"
	var parameters strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&parameters, "&p%d=1", i)
	}
	for _, at := range []attack{
		{name: "64 MiB in a small body", method: "POST", target: "/logs/bulk", body: bomb.String(), header: map[string]string{"Content-Encoding": "gzip"}, want: []int{413}},
		{name: "20,000 levels", method: "POST", target: "/logs", body: `{"user_id":"e","action":"A","resource_type":"r","metadata":` + deep + `}`, want: []int{422}},
		{name: "5 MiB", method: "POST", target: "/logs/bulk", body: strings.Repeat(" ", 5<<20), want: []int{413}},
		{name: "1,001 entries", method: "POST", target: "/logs/bulk", body: entries, want: []int{413, 422}},
		{name: "a page without end", method: "GET", target: "/logs?limit=1000000", want: []int{422}},
		{name: "a page of less than nothing", method: "GET", target: "/logs?limit=-1", want: []int{422}},
		{name: "2,000 parameters", method: "GET", target: "/logs?limit=1" + parameters.String(), want: []int{422}},
		{name: "a query of 10,000 parentheses", method: "POST", target: "/logs/search", body: `{"q":"` + strings.Repeat("(", 10_000) + `"}`, want: []int{422}},
		{name: "groups without end", method: "GET", target: "/logs/stats?group_by=user_id&top=1000000", want: []int{422}},
		{name: "a header of 2 MB", method: "GET", target: "/logs", header: map[string]string{"X-Request-Id": strings.Repeat("a", 2<<20)}, want: []int{431}},
	} {
		at.authorization, at.tenant = a.evilRights, "evil"
		began := time.Now()
		a.try(t, at)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %s, want at most 10 s", at.name, took)
		}
	}
	a.slowBodies(t)
}

// slowBodies holds connections whose bodies never end. Others are served meanwhile.
func (a *attacked) slowBodies(t *testing.T) {
	host := strings.TrimPrefix(a.process.URL, "http://")
	for range 50 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "POST %s/logs HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nX-Tenant-ID: evil\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", manifest.BasePath, host, a.evilRights); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	a.must(attack{authorization: a.token("vera", "victim", access.RoleAdmin), tenant: "victim", method: "GET", target: "/logs", want: []int{200}}, nil)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a request beside 50 slow bodies took %s, want at most 2 s", took)
	}
}

// functions calls each route as each role that lacks its permission.
func (a *attacked) functions(t *testing.T) {
	for _, f := range manifest.Functions() {
		route := f.Trigger.Route
		if route == nil || route.Permission == "" {
			continue
		}
		target := strings.NewReplacer("/tenants/{id}", "/tenants/evil", "{key}", "none", "{id}", "none").Replace(route.Path)
		for _, role := range access.Roles() {
			p, err := access.Claims{Subject: "s", Tenants: []string{"evil"}, Role: role}.Principal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Authorize("evil", route.Permission); err == nil || role == access.RoleOperator {
				continue // an operator of one tenant cannot be minted: authentication has such tokens
			}
			at := attack{name: f.Name + " as " + string(role), authorization: a.token("s", "evil", role), method: route.Method, target: target, want: []int{403}}
			if route.TenantFrom == manifest.TenantFromHeader {
				at.tenant = "evil"
			}
			a.try(t, at)
		}
	}
	operator := forged(map[string]any{"alg": "HS256"}, victimClaims(map[string]any{"tenants": []string{"evil"}, "role": "operator"}), a.secret)
	a.try(t, attack{name: "an operator of one tenant", authorization: operator, method: "POST", target: "/tenants", body: `{"id":"mine","name":"x"}`, want: []int{401}})
	for _, name := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
		a.try(t, attack{name: name, authorization: a.token("s", "evil", access.RoleAuditor), method: "GET", target: "/tenants/evil", header: map[string]string{name: "DELETE"}, want: []int{200}})
	}
}

// flows does what each step allows in an order or amount that the whole does not.
func (a *attacked) flows(t *testing.T) {
	keys := "/tenants/evil/api-keys"
	for _, at := range []attack{
		{name: "a key that gives more than it has", authorization: "ApiKey " + a.evilKey, method: "POST", target: keys, body: `{"name":"k","permissions":["tenants:update"]}`, want: []int{403}},
		{name: "a key that reveals, made by one that cannot", authorization: "ApiKey " + a.evilKey, method: "POST", target: keys, body: `{"name":"k","permissions":["logs:reveal"]}`, want: []int{403}},
		{name: "a key of the platform", authorization: a.evilRights, method: "POST", target: keys, body: `{"name":"k","permissions":["tenants:create"]}`, want: []int{422}},
		{name: "a key for another tenant", authorization: a.evilRights, method: "POST", target: "/tenants/victim/api-keys", body: `{"name":"k","permissions":["logs:read"]}`, want: []int{403}},
		{name: "deleting the own tenant", authorization: a.evilRights, method: "DELETE", target: "/tenants/evil", want: []int{403}},
		{name: "the id of a deleted tenant", authorization: a.token("op", access.AnyTenant, access.RoleOperator), method: "POST", target: "/tenants", body: `{"id":"gone","name":"x"}`, want: []int{409}},
		{name: "a change without its version", authorization: a.evilRights, method: "PATCH", target: "/tenants/evil", body: `{"name":"x"}`, want: []int{428}},
	} {
		a.try(t, at)
	}
	var list struct{ Items []struct{ Action string } }
	for deadline := time.Now().Add(awaitTimeoutOfAttacks); len(list.Items) == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		a.must(attack{authorization: a.evilRights, tenant: "evil", method: "GET", target: "/logs?action=key.create", want: []int{200}}, &list)
	}
	if len(list.Items) == 0 {
		t.Error("the making of a key: got no entry in the tenant's log, want one")
	}
}

// requestForgery puts the address of a canary wherever a caller can put a text. Nobody comes.
func (a *attacked) requestForgery(t *testing.T) {
	var visits atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	defer canary.Close()
	u := canary.URL + "/x"
	all := fmt.Sprintf(`{"user_id":%[1]q,"action":"A","resource_type":%[1]q,"resource_id":%[1]q,"session_id":%[1]q,"request_id":%[1]q,"user_agent":%[1]q,"message":%[1]q,"metadata":{"url":%[1]q,"callback":%[1]q,"$ref":%[1]q}}`, u)
	header := map[string]string{"Origin": u, "Referer": u, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": strings.TrimPrefix(canary.URL, "http://"), "X-Original-Url": u, "Forwarded": "host=" + u, "Host": strings.TrimPrefix(canary.URL, "http://")}
	keyURL := forged(map[string]any{"alg": "RS256", "jku": u, "x5u": u, "kid": u}, victimClaims(map[string]any{"iss": canary.URL}), nil)
	for _, at := range []attack{
		{name: "an entry", tenant: "evil", method: "POST", target: "/logs", body: all, header: header, want: []int{202}},
		{name: "a tenant's name", method: "PATCH", target: "/tenants/evil", body: fmt.Sprintf(`{"name":%q}`, u), header: map[string]string{"If-Match": "*"}, want: []int{200}},
		{name: "a setting", method: "PATCH", target: "/tenants/evil", body: fmt.Sprintf(`{"settings":{"webhook":%q}}`, u), header: map[string]string{"If-Match": "*"}, want: []int{422}},
		{name: "a key's name", method: "POST", target: "/tenants/evil/api-keys", body: fmt.Sprintf(`{"name":%q,"permissions":["logs:read"]}`, u), want: []int{201}},
		{name: "a filter", tenant: "evil", method: "POST", target: "/logs/search", body: fmt.Sprintf(`{"q":"\"%s\""}`, u), want: []int{200}},
		{name: "a token's key", authorization: keyURL, tenant: "victim", method: "GET", target: "/logs", want: []int{401}},
	} {
		if at.authorization == "" {
			at.authorization = a.evilRights
		}
		a.try(t, at)
	}
	time.Sleep(time.Second) // queues work meanwhile
	if n := visits.Load(); n != 0 {
		t.Errorf("the service made %d requests to the address of a caller, want 0", n)
	}
}

// configuration looks at headers, origins, methods and errors.
func (a *attacked) configuration(t *testing.T) {
	for _, target := range []string{"/health", "/openapi.json", "/docs", "/logs", "/nothing"} {
		got := a.send(attack{method: "GET", target: target, header: map[string]string{"Origin": "https://evil.example", "X-Forwarded-Proto": "https"}})
		if value := got.header.Get("X-Content-Type-Options"); value != "nosniff" {
			t.Errorf("%s: got X-Content-Type-Options %q, want %q", target, value, "nosniff")
		}
		if value := got.header.Get("Access-Control-Allow-Origin"); value != "" {
			t.Errorf("%s: got Access-Control-Allow-Origin %q, want none", target, value)
		}
		if value := got.header.Get("Strict-Transport-Security"); !strings.Contains(value, "max-age=") {
			t.Errorf("%s over TLS: got Strict-Transport-Security %q, want one with max-age", target, value)
		}
		for _, name := range []string{"Server", "X-Powered-By"} {
			if value := got.header.Get(name); value != "" {
				t.Errorf("%s: got %s %q, want none", target, name, value)
			}
		}
	}
	policy := a.send(attack{method: "GET", target: "/docs"}).header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("/docs: got Content-Security-Policy %q, want one with default-src 'none'", policy)
	}
	if strings.Contains(policy, "unsafe-") || strings.Contains(policy, "*") {
		t.Errorf("/docs: got Content-Security-Policy %q, want one without unsafe sources", policy)
	}
	for _, method := range []string{"TRACE", "PUT", "PROPFIND", "OPTIONS", "DELETE"} {
		a.try(t, attack{name: method, authorization: a.evilRights, tenant: "evil", method: method, target: "/logs", want: []int{405}})
	}
	for name, body := range map[string]string{"no JSON": "{", "binary": "\x00\xff", "a number": "7", "twice a member": `{"user_id":"a","user_id":"b"}`} {
		a.try(t, attack{name: name, authorization: a.evilRights, tenant: "evil", method: "POST", target: "/logs", body: body, want: []int{400, 422}})
	}
	a.try(t, attack{name: "another type", authorization: a.evilRights, tenant: "evil", method: "POST", target: "/logs", body: "<a/>", header: map[string]string{"Content-Type": "application/xml"}, want: []int{415}})
	a.try(t, attack{name: "a name of a host", method: "GET", target: "/health", header: map[string]string{"Host": "evil.example"}, want: []int{200, 400, 403, 421}})
}

// inventory compares what answers with what the document lists, and asks for what others have. A
// path that is not clean may be redirected within the service.
func (a *attacked) inventory(t *testing.T) {
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	a.must(attack{method: "GET", target: "/openapi.json", want: []int{200}}, &document)
	listed := map[string]bool{}
	for path, item := range document.Paths {
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			if _, has := item[method]; has {
				listed[strings.ToUpper(method)+" "+strings.TrimPrefix(path, manifest.BasePath)] = true
			}
		}
	}
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil {
			if name := r.Method + " " + r.Path; !listed[name] {
				t.Errorf("/openapi.json lacks %s, want it listed", name)
			} else {
				delete(listed, name)
			}
		}
	}
	for name := range listed {
		if name != "GET "+manifest.StreamPath {
			t.Errorf("/openapi.json lists %s, want only routes of the manifest", name)
		}
	}
	for _, target := range []string{
		"^/", "^//evil.example/../x", "^/metrics", "^/debug/pprof/", "^/debug/vars", "^/.env", "^/.git/config", "^/admin", "^/actuator", "^/swagger.json", "^/graphql",
		"^/api/v0/logs", "^/api/v2/logs", "^/api/logs", "^/api/v1", "/internal", "/logs/", "/logs/../tenants", "//logs", "/logs/bulk/x", "/tenants/evil/settings",
	} {
		got := a.try(t, attack{name: target, authorization: a.evilRights, tenant: "evil", method: "GET", target: target, want: []int{403, 404, 307}})
		if to := got.header.Get("Location"); got.status == http.StatusTemporaryRedirect && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%s redirects to %q, want to a path of this service", target, to)
		}
	}
}

// TestAttackAPI10 has the service read its keys from a server of the attacker.
func TestAttackAPI10(t *testing.T) {
	var canary, fetched atomic.Int64
	secret := []byte("0123456789abcdef0123456789abcdef")
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) }))
	defer other.Close()
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch fetched.Add(1) % 4 {
		case 0:
			http.Redirect(w, r, other.URL, http.StatusFound)
		case 1: // a secret as a key, which would make tokens of anybody good
			fmt.Fprintf(w, `{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":%q}]}`, base64.RawURLEncoding.EncodeToString(secret))
		case 2: // without end
			for {
				if _, err := w.Write(bytes.Repeat([]byte("["), 1<<16)); err != nil {
					return
				}
			}
		default:
			fmt.Fprint(w, strings.Repeat("[", 100_000))
		}
	}))
	defer keys.Close()
	a := startAttacked(t, map[string]string{"OIDC_JWKS_URL": keys.URL + "/keys", "OIDC_ISSUER": "https://issuer.example", "OIDC_AUDIENCE": attackAudience})
	claims := victimClaims(map[string]any{"iss": "https://issuer.example", "tenants": []string{"*"}, "role": "operator"})
	for i := range 12 {
		for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
			authorization := forged(map[string]any{"alg": algorithm, "kid": "k"}, claims, secret)
			a.try(t, attack{name: fmt.Sprintf("%s, %d", algorithm, i), authorization: authorization, method: "GET", target: "/tenants", want: []int{401, 503}})
		}
	}
	a.must(attack{method: "GET", target: "/health", want: []int{200}}, nil)
	if fetched.Load() == 0 {
		t.Error("the service fetched no keys, want it to have read the attacker's answers")
	}
	if n := canary.Load(); n != 0 {
		t.Errorf("the service followed a redirect %d times, want never", n)
	}
}
