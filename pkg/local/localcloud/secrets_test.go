package localcloud_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// mark is in every secret that the test sends.
const mark = "hunter2marked"

func TestEndToEndSecretsAreStoredNowhere(t *testing.T) {
	everyWay(t, secretsAreStoredNowhere)
	t.Run("with a log in the folder", func(t *testing.T) { secretsAreStoredNowhere(t, startLogged) })
}

// startLogged is start with a log of everything in the data folder.
func startLogged(t *testing.T, data string) *service {
	t.Helper()
	file, err := os.Create(filepath.Join(data, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return startWith(t, localcloud.Options{Data: data, Log: slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug}))})
}

// wantNoMark checks that an answer or a frame has no secret.
func wantNoMark(t *testing.T, what string, text []byte) {
	t.Helper()
	for _, form := range markForms {
		if i := bytes.Index(text, []byte(form)); i >= 0 {
			t.Errorf("%s has a secret as %s at byte %d: %.200s", what, form, i, text[max(0, i-100):])
		}
	}
}

// markForms are the mark and what base64 makes of it at each of three places in a text: JSON has bytes
// as base64.
var markForms = []string{mark, markInBase64(0), markInBase64(1), markInBase64(2)}

// markInBase64 returns the characters that depend on the mark alone, after a number of other bytes.
func markInBase64(others int) string {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, others), mark...))
	return text[(8*others+5)/6 : 8*(others+len(mark))/6]
}

func secretsAreStoredNowhere(t *testing.T, start starter) {
	data := t.TempDir()
	s := start(t, data)
	admin := s.tenantAdmin("acme")
	admin.configure(`{"detect":["private_key"]}`)
	live := admin.subscribe(`{}`, "")
	begin := live.cursor
	entry := func(secret string) string {
		return `{"user_id":"ann","action":"UPDATE","resource_type":"user","timestamp":"2026-01-02T03:04:05Z","idempotency_key":"k",` +
			`"before_state":{"password":"` + secret + `1"},"after_state":{"password":"` + secret + `2"},` +
			`"metadata":{"Api-Key":["` + secret + `",{"n":1}],"note":"[removed]","key":"-----BEGIN PRIVATE KEY-----` + secret + `"},"message":"new"}`
	}
	var accepted struct{ ID string }
	admin.do("POST", "/logs", entry(mark), nil).decode(t, &accepted)
	admin.do("POST", "/logs", entry("another"), nil)                                                             // a retry: what is left is the same
	admin.do("POST", "/logs", strings.Replace(entry(mark), `"new"`, `"other"`, 1), nil)                          // a conflict
	wantNoMark(t, "a fault", admin.do("POST", "/logs", strings.Replace(entry(mark), "2026", mark, 1), nil).body) // no timestamp
	admin.eventually(2)                                                                                          // with the change of the settings
	wantNoMark(t, "the quarantine", admin.quarantined()[0])
	answer := admin.get("/logs/"+accepted.ID, nil).body
	wantParts(t, answer,
		`"before_state":{"password":"[removed]"}`, `"metadata":{"Api-Key":["[removed]",{"n":1}],"note":"[removed]","key":"[removed]"}`,
		`"changed":["password"]`, `"removed":["/before_state/password","/after_state/password","/metadata/Api-Key/0","/metadata/key"]`)
	live.until(1)
	admin.wantNoMarkRead("metadata.Api-Key")
	replay := admin.subscribe(`{}`, begin)
	replay.until(1)
	wantNoMarkInFrames(t, append(live.items, replay.items...))
	if got := admin.list(url.Values{"metadata.Api-Key": {mark}}).Items; len(got) > 0 {
		t.Errorf("found %d entries by a secret, want none", len(got))
	}
	wantNoMarkIn(t, data) // and in the log of SQLite before it is emptied
	s.stop()
	wantNoMarkIn(t, data)
}

// quarantined returns the items in quarantine, as soon as there are any.
func (c caller) quarantined() []json.RawMessage {
	c.t.Helper()
	var held struct{ Items []json.RawMessage }
	for deadline := time.Now().Add(20 * time.Second); len(held.Items) == 0; {
		c.get("/logs/quarantine", nil).decode(c.t, &held)
		if time.Now().After(deadline) {
			c.t.Fatal("got no entry in quarantine, want one")
		}
	}
	return held.Items
}

// wantParts checks that an answer has texts.
func wantParts(t *testing.T, answer []byte, parts ...string) {
	t.Helper()
	for _, want := range parts {
		if !bytes.Contains(answer, []byte(want)) {
			t.Errorf("got %s, want it with %s", answer, want)
		}
	}
}

// wantNoMarkRead checks the answers of all requests that read several entries. One of them counts by
// the field.
func (c caller) wantNoMarkRead(field string) {
	c.t.Helper()
	for path, query := range map[string]url.Values{
		"/logs": nil, "/logs/feed": nil, "/logs/export": {"format": {"csv"}}, "/logs/stats": {"group_by": {field}},
	} {
		wantNoMark(c.t, path, c.get(path, query).body)
	}
}

func wantNoMarkInFrames(t *testing.T, items []map[string]json.RawMessage) {
	t.Helper()
	for _, item := range items {
		for name, value := range item {
			wantNoMark(t, "the frame's "+name, value)
		}
	}
}

// wantNoMarkIn checks the raw bytes of the files in a folder.
func wantNoMarkIn(t *testing.T, folder string) {
	t.Helper()
	eachFile(t, folder, func(name string, text []byte) { wantNoMark(t, name, text) })
}

// eachFile calls check with the raw bytes of each file in a folder.
func eachFile(t *testing.T, folder string, check func(name string, text []byte)) {
	t.Helper()
	eachPath(t, folder, func(path string, text []byte) { check(filepath.Base(path), text) })
}

// eachPath is eachFile with the files' paths.
func eachPath(t *testing.T, folder string, check func(path string, text []byte)) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		check(path, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 {
		t.Errorf("read no file in the folder, want at least one")
	}
}

func TestSecretsStayIfTheTenantSaysSo(t *testing.T) {
	data := t.TempDir()
	s := start(t, data)
	admin := s.tenantAdmin("acme")
	admin.configure(`{"remove_secrets":false}`)
	admin.bulk([]string{`{"user_id":"ann","action":"UPDATE","resource_type":"user","metadata":{"password":"` + mark + `"}}`})
	admin.eventually(2)
	if got := admin.list(url.Values{"metadata.password": {mark}, "action": {audit.ActionUpdate}}).Items; len(got) != 1 {
		t.Errorf("found %d entries, want 1", len(got))
	} else if _, has := got[0]["removed"]; has {
		t.Errorf("the entry names removed places: %s", got[0]["removed"])
	}
	s.stop()
	found := false
	eachFile(t, data, func(_ string, text []byte) { // so that the search of the raw bytes can find something
		found = found || bytes.Contains(text, []byte(mark))
	})
	if !found {
		t.Error("the raw bytes do not have the value, want them to")
	}
}
