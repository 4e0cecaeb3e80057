package conformance

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// PresignerUnderTest has the ports that the Presigner suite calls.
type PresignerUnderTest struct {
	Presigner export.Presigner
	Blobs     export.Blobs // to which its URLs lead
}

// Presigner tests an adapter of export.Presigner.
func Presigner(t *testing.T, open func(t *testing.T) PresignerUnderTest) {
	for name, test := range map[string]func(t *testing.T, x PresignerUnderTest){
		"AURLFetchesItsBlob":     presignerFetches,
		"HostileKeysAreFetched":  presignerHostileKeys,
		"AURLEnds":               presignerEnds,
		"AChangedURLIsRefused":   presignerRefusesChanges,
		"AURLOnlyReads":          presignerOnlyReads,
		"WhatIsAbsentIsNotFound": presignerAbsent,
		"UnfitAsksAreRefused":    presignerRefuses,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// fetch makes a request of anybody, without credentials.
func fetch(t *testing.T, method, address string) (status int, header http.Header, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	noError(t, err)
	response, err := http.DefaultClient.Do(request)
	noError(t, err)
	body, err = io.ReadAll(response.Body)
	noError(t, err)
	noError(t, response.Body.Close())
	return response.StatusCode, response.Header, body
}

func presign(t *testing.T, x PresignerUnderTest, tenant audit.TenantID, key string) string {
	t.Helper()
	return must[string](t)(x.Presigner.Presign(t.Context(), tenant, key, "audit.ndjson", 15*time.Minute))
}

func presignerFetches(t *testing.T, x PresignerUnderTest) {
	tenant, content := newTenant(t), text(100_000)
	noError(t, x.Blobs.Put(t.Context(), tenant, "exports/1", export.ContentOf(content, "application/x-ndjson")))
	address := presign(t, x, tenant, "exports/1")
	for range 2 {
		status, header, body := fetch(t, http.MethodGet, address)
		if status != http.StatusOK {
			t.Fatalf("got status %d, want %d", status, http.StatusOK)
		}
		if !bytes.Equal(body, content) {
			t.Fatalf("got a body of %d bytes with other content, want the %d bytes that were stored", len(body), len(content))
		}
		disposition, params, err := mime.ParseMediaType(header.Get("Content-Disposition"))
		if err != nil {
			t.Fatal(err)
		}
		if disposition != "attachment" {
			t.Fatalf("got disposition %q, want %q", disposition, "attachment")
		}
		if params["filename"] != "audit.ndjson" {
			t.Fatalf("got filename %q, want %q", params["filename"], "audit.ndjson")
		}
		if header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("got Content-Type %q, want %q", header.Get("Content-Type"), "application/x-ndjson")
		}
	}
}

func presignerHostileKeys(t *testing.T, x PresignerUnderTest) {
	tenant := newTenant(t)
	for _, key := range hostileKeys {
		put(t, x.Blobs, tenant, key, []byte("of "+key))
		if status, _, body := fetch(t, http.MethodGet, presign(t, x, tenant, key)); status != http.StatusOK {
			t.Errorf("%s: got status %d, want %d", key, status, http.StatusOK)
		} else if string(body) != "of "+key {
			t.Errorf("%s: got body %q, want %q", key, string(body), "of "+key)
		}
	}
}

func presignerEnds(t *testing.T, x PresignerUnderTest) {
	tenant := newTenant(t)
	put(t, x.Blobs, tenant, "key", []byte("secret"))
	address := must[string](t)(x.Presigner.Presign(t.Context(), tenant, "key", "f", time.Second))
	eventually(t, "the end of the URL", func() bool {
		status, _, body := fetch(t, http.MethodGet, address)
		switch {
		case status == http.StatusOK:
			return false
		case status != http.StatusForbidden:
			t.Fatalf("got status %d, want %d or %d: %s", status, http.StatusOK, http.StatusForbidden, body)
		case bytes.Contains(body, []byte("secret")):
			t.Fatalf("got %d %s, want it without the content", status, body)
		}
		return true
	})
}

func presignerRefusesChanges(t *testing.T, x PresignerUnderTest) {
	tenant, other := newTenant(t), newTenant(t)
	put(t, x.Blobs, tenant, "mine", []byte("secret"))
	put(t, x.Blobs, tenant, "also", []byte("secret"))
	put(t, x.Blobs, other, "mine", []byte("secret"))
	address := presign(t, x, tenant, "mine")
	changed := []string{strings.Replace(address, string(tenant), string(other), 1), strings.Replace(address, "mine", "also", 1)}
	parsed := must[*url.URL](t)(url.Parse(address))
	for name := range parsed.Query() {
		for _, value := range []string{"", "9", parsed.Query().Get(name) + "0", "0" + parsed.Query().Get(name)} {
			query := parsed.Query()
			query.Set(name, value)
			changed = append(changed, withQuery(*parsed, query))
		}
		query := parsed.Query()
		query.Del(name)
		changed = append(changed, withQuery(*parsed, query))
	}
	for _, wrong := range changed {
		if wrong == address {
			t.Fatalf("the address %s is unchanged, want a changed one", address)
		}
		if status, _, body := fetch(t, http.MethodGet, wrong); status < 400 || status >= 500 {
			t.Errorf("%s: got status %d, want 400 to 499", wrong, status)
		} else if bytes.Contains(body, []byte("secret")) {
			t.Errorf("%s: got body %q, want it without %q", wrong, body, []byte("secret"))
		}
	}
}

func withQuery(u url.URL, query url.Values) string {
	u.RawQuery = query.Encode()
	return u.String()
}

func presignerOnlyReads(t *testing.T, x PresignerUnderTest) {
	tenant := newTenant(t)
	put(t, x.Blobs, tenant, "key", []byte("x"))
	address := presign(t, x, tenant, "key")
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete} {
		if status, _, _ := fetch(t, method, address); status < 400 {
			t.Errorf("%s: got status %d, want at least 400", method, status)
		}
	}
	wantBlob(t, x.Blobs, tenant, "key", []byte("x"))
}

func presignerAbsent(t *testing.T, x PresignerUnderTest) {
	if status, _, body := fetch(t, http.MethodGet, presign(t, x, newTenant(t), "absent")); status != http.StatusNotFound {
		t.Errorf("got status %d, want %d: %s", status, http.StatusNotFound, body)
	}
}

func presignerRefuses(t *testing.T, x PresignerUnderTest) {
	tenant := newTenant(t)
	for _, name := range []string{"", ".", "..", ".x", "a/b", `a\b`, `a"b`, "a b", "é", "a\nb", "a;b", strings.Repeat("x", 256)} {
		if _, err := x.Presigner.Presign(t.Context(), tenant, "key", name, time.Minute); err == nil {
			t.Errorf("the file name %q is accepted, want an error", name)
		}
	}
	for _, d := range []time.Duration{0, -time.Second, time.Millisecond, 1500 * time.Millisecond, export.MaxURLAge + time.Second} {
		if _, err := x.Presigner.Presign(t.Context(), tenant, "key", "f", d); err == nil {
			t.Errorf("the duration %v is accepted, want an error", d)
		}
	}
	for _, key := range []string{"", "..", "../x", "a//b", "a\x00"} {
		_, err := x.Presigner.Presign(t.Context(), tenant, key, "f", time.Minute)
		wantError(t, err, export.ErrKey)
	}
	_, err := x.Presigner.Presign(t.Context(), "..", "key", "f", time.Minute)
	wantError(t, err, export.ErrKey)
}
