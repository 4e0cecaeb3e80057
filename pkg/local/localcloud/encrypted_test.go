package localcloud_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEndToEndEncryptedValuesAreInPlainNowhere(t *testing.T) {
	everyWay(t, encryptedValuesAreInPlainNowhere)
	t.Run("on watched servers", func(t *testing.T) { encryptedValuesAreInPlainNowhere(t, startOnWatchedServers) })
	t.Run("with a log in the folder", func(t *testing.T) { encryptedValuesAreInPlainNowhere(t, startLogged) })
}

// encryptedValuesAreInPlainNowhere sends marked values the ways that secrets go, reveals them, and
// looks for them in every answer without reveal and in the raw bytes of every file.
func encryptedValuesAreInPlainNowhere(t *testing.T, start starter) {
	data := t.TempDir()
	s := start(t, data)
	admin := s.tenantAdmin("acme")
	admin.configure(`{"sensitive_fields":[{"path":"metadata.email","mask":"email","subject":"user_id","searchable":true},
		{"path":"**.iban","mask":"last4"},{"path":"message"},{"path":"before_state.person"},{"path":"after_state.person"},{"path":"session_id"}]}`)
	live := admin.subscribe(`{}`, "")
	begin := live.cursor
	admin.subscribe(`{"q":"`+mark+`","metadata.email":"`+mark+`@example.com"}`, "") // its filter is stored
	entry := func(n string) string {
		return `{"user_id":"ann","action":"UPDATE","resource_type":"user","timestamp":"2026-01-02T03:04:05Z","idempotency_key":"k","session_id":"` + mark + `",` +
			`"before_state":{"person":{"name":"` + mark + `1"}},"after_state":{"person":{"name":"` + mark + `2"}},` +
			`"metadata":{"email":"` + mark + `@example.com","list":[{"IBAN":"` + mark + `0007"}],"n":` + n + `},"message":"call ` + mark + `"}`
	}
	var accepted struct{ ID string }
	admin.do("POST", "/logs", entry("1"), nil).decode(t, &accepted)
	admin.eventually(2)                          // with the change of the settings, and before the others
	admin.do("POST", "/logs", entry("1.0"), nil) // a number is other content if it is spelled otherwise
	admin.do("POST", "/logs", entry("1"), nil)   // a retry
	wantNoMark(t, "a fault", admin.do("POST", "/logs", strings.Replace(entry("1"), `"user_id":"ann",`, "", 1), nil).body)
	wantNoMark(t, "the quarantine", admin.quarantined()[0])
	answer := admin.get("/logs/"+accepted.ID, nil).body
	wantParts(t, answer,
		`"before_state":{"person":"[masked]"}`, `"metadata":{"email":"•••@example.com","list":[{"IBAN":"••••0007"}],"n":1}`, `"message":"[masked]"`,
		`"changed":["person"]`, `"masked":["/after_state/person","/before_state/person","/message","/metadata/email","/metadata/list/0/IBAN","/session_id"]`)
	live.until(1)
	admin.wantNoMarkRead("metadata.email")
	replay := admin.subscribe(`{}`, begin)
	replay.until(1)
	wantNoMarkInFrames(t, append(live.items, replay.items...))
	revealed := admin.get("/logs/"+accepted.ID, url.Values{"reveal": {"true"}, "reason": {"a test"}}).body
	wantParts(t, revealed,
		`"before_state":{"person":{"name":"`+mark+`1"}}`, `"email":"`+mark+`@example.com"`, `"message":"call `+mark+`"`, `"session_id":"`+mark+`"`)
	found := admin.do("POST", "/logs/search", `{"match_encrypted":{"metadata.email":"`+mark+`@example.com"}}`, nil).body
	wantParts(t, found, accepted.ID, `"email":"•••@example.com"`)
	wantNoMark(t, "the search by value", found)
	wantParts(t, admin.do("POST", "/logs/search", `{"match_encrypted":{"metadata.email":"`+mark+`"}}`, nil).body, `"items":[]`)
	admin.eventually(6) // with the records of the export, the reveal and the searches by value
	if got := len(admin.quarantined()); got != 1 {
		t.Errorf("%d entries in quarantine, want 1: the retry is the same entry", got)
	}
	wantNoMark(t, "the list after the reveal", admin.get("/logs", nil).body)
	s.checkSent() // filters have the mark
	for name, value := range map[string]string{"metadata.email": mark + "@example.com", "q": mark, "session_id": mark} {
		if got := admin.list(url.Values{name: {value}}).Items; len(got) > 0 {
			t.Errorf("found %d entries by the %s, want none", len(got), name)
		}
	}
	admin.startMarkedJobs()
	wantNoMarkIn(t, data)
	admin.revealInAFile(data)
	wantNoMarkIn(t, data)
	s.stop()
	wantNoMarkIn(t, data)
	wantTokensAlone(t, s)
}

// revealInAFile exports the values in plain. The file alone has them, wherever files are kept. It then
// removes the file, if that is in the data folder.
func (c caller) revealInAFile(data string) {
	c.t.Helper()
	got := c.do("POST", "/logs/exports", `{"reveal":true,"reason":"a test","action":"UPDATE"}`, nil)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("export: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var e exportAnswer
	decode(c.t, got.body, &e)
	if done := c.finishedJob(e.ID); done.State != "succeeded" {
		c.t.Fatalf("the revealed export is %s (%s), want it to succeed", done.State, done.Error)
	}
	answer := c.get("/logs/exports/"+e.ID, nil)
	wantNoMark(c.t, "the export", answer.body)
	decode(c.t, answer.body, &e)
	content := e.download(c.t)
	wantParts(c.t, content, `"email":"`+mark+`@example.com"`, `"revealed":[`)
	sum := sha256.Sum256(content)
	if want := hex.EncodeToString(sum[:]); e.SHA256 != want {
		c.t.Errorf("the export has the SHA-256 %q, want %q", e.SHA256, want)
	}
	// With a digest of the file, guesses of the values could be tested.
	for _, path := range []string{"/logs/exports", "/jobs/" + e.ID, "/logs"} {
		if body := c.get(path, nil).body; bytes.Contains(body, []byte(e.SHA256)) {
			c.t.Errorf("%s has the SHA-256 of the file: %s", path, body)
		}
	}
	var with []string
	eachPath(c.t, data, func(path string, text []byte) {
		digest := bytes.Contains(text, []byte(e.SHA256)) || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString(sum[:])))
		if digest && !strings.Contains(path, e.ID) {
			c.t.Errorf("%s has the SHA-256 of the file", path)
		}
		if bytes.Contains(text, []byte(mark)) {
			with = append(with, path)
		}
	})
	for _, path := range with {
		if filepath.Base(path) != e.ID && !strings.Contains(path, e.ID) {
			c.t.Errorf("%s has values in plain, want them in the file of the export alone", path)
		}
		if err := os.Remove(path); err != nil {
			c.t.Fatal(err)
		}
	}
}

// startMarkedJobs starts an export and a cleanup whose filters have the mark, and waits for their end.
// Jobs keep their filters.
func (c caller) startMarkedJobs() {
	c.t.Helper()
	filters := url.Values{"metadata.email": {mark + "@example.com"}, "q": {mark}, "session_id": {mark}, "to": {"2026-01-03T00:00:00Z"}}
	body := `{"metadata.email":"` + mark + `@example.com","q":"` + mark + `","session_id":"` + mark + `","to":"2026-01-03T00:00:00Z"}`
	got := c.do("POST", "/logs/exports", body, nil)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("export: got status %d, want %d: %s", got.status, http.StatusAccepted, got.body)
	}
	var e exportAnswer
	decode(c.t, got.body, &e)
	if done := c.finishedJob(e.ID); done.State != "succeeded" {
		c.t.Errorf("the export is %s (%s), want it to succeed", done.State, done.Error)
	}
	filters.Set("before", "2026-01-03")
	if done := c.cleanup(filters); done.State != "succeeded" || done.Count != 0 {
		c.t.Errorf("the cleanup is %s (%s) and has removed %d entries, want it to succeed and remove none", done.State, done.Error, done.Count)
	}
	if preview := c.previewCleanup(filters); preview.Count != 0 {
		c.t.Errorf("the preview counts %d entries, want none", preview.Count)
	}
	wantNoMark(c.t, "the jobs", c.get("/jobs", nil).body)
}
