package fileblob

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// The query of a download's URL. The signature covers the parameters before it, in this order.
const (
	tenantParam    = "tenant"
	keyParam       = "key"
	filenameParam  = "filename"
	expiresParam   = "expires" // seconds of Unix time
	signatureParam = "signature"
)

// Downloads serves blobs by URLs that it signed. It is an http.Handler for one
// path, and implements export.Presigner.
type Downloads struct {
	blobs *Blobs
	key   []byte
	base  string
	now   func() time.Time
}

// NewDownloads returns the downloads of the blobs. base is the URL at which they are served, without
// a query. It may lack the host, which whoever sends the URL must add. The key signs URLs and must be
// secret.
func NewDownloads(blobs *Blobs, key []byte, base string, now func() time.Time) *Downloads {
	return &Downloads{blobs: blobs, key: key, base: base, now: now}
}

// Presign implements export.Presigner.
func (d *Downloads) Presign(_ context.Context, tenant audit.TenantID, key, filename string, life time.Duration) (string, error) {
	at, err := d.blobs.at(tenant, key)
	if err != nil {
		return "", err
	}
	if err := export.CheckDownload(filename, life); err != nil {
		return "", at.failure("presign", err)
	}
	query := url.Values{
		tenantParam: {string(tenant)}, keyParam: {key}, filenameParam: {filename},
		expiresParam: {strconv.FormatInt(d.now().Add(life).Unix(), 10)},
	}
	query.Set(signatureParam, d.sign(query))
	return d.base + "?" + query.Encode(), nil
}

// sign returns the signature of a query. Line breaks separate the values, so that no value may have one.
func (d *Downloads) sign(query url.Values) string {
	mac := hmac.New(sha256.New, d.key)
	_, _ = fmt.Fprintf(mac, "ocelot download\n%s\n%s\n%s\n%s", query.Get(tenantParam), query.Get(keyParam), query.Get(filenameParam), query.Get(expiresParam)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// valid reports whether the signature matches the query and the query has not expired.
func (d *Downloads) valid(query url.Values) bool {
	for _, values := range query {
		if len(values) != 1 || strings.ContainsAny(values[0], "\r\n") {
			return false
		}
	}
	expires, err := strconv.ParseInt(query.Get(expiresParam), 10, 64)
	return err == nil && hmac.Equal([]byte(query.Get(signatureParam)), []byte(d.sign(query))) && d.now().Unix() < expires
}

// ServeHTTP implements http.Handler. If the content is damaged, it breaks the
// connection. The response has no Content-Length, so that clients notice. Of ranges it serves the
// content from a place to the end, with which a client resumes a download.
func (d *Downloads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET is allowed", http.StatusMethodNotAllowed)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !d.valid(query) {
		http.Error(w, "this URL is invalid or has expired", http.StatusForbidden)
		return
	}
	body, blob, err := d.blobs.Get(r.Context(), audit.TenantID(query.Get(tenantParam)), query.Get(keyParam))
	switch {
	case errors.Is(err, audit.ErrNotFound):
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, "the file cannot be read", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", blob.Type)
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": query.Get(filenameParam)}))
	header.Set("Cache-Control", "private, no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Accept-Ranges", "bytes")
	err = serveFrom(w, body, blob.Size, rangeStart(r))
	if errors.Join(err, body.Close()) != nil {
		panic(http.ErrAbortHandler) // the status is sent already
	}
}

// rangeStart returns where a request for the rest of the content begins. It returns 0 for all other
// requests, which get the whole content.
func rangeStart(r *http.Request) int64 {
	text, is := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	text, open := strings.CutSuffix(text, "-")
	start, err := strconv.ParseInt(text, 10, 64)
	if !is || !open || err != nil || start < 0 {
		return 0
	}
	return start
}

// serveFrom sends the content from a place. It reads what is before the place too, so that damage is
// noticed.
func serveFrom(w http.ResponseWriter, body io.Reader, size, start int64) error {
	if start >= size && start > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		http.Error(w, "the file ends before the range", http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	if start > 0 {
		if _, err := io.CopyN(io.Discard, body, start); err != nil {
			return err
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, size-1, size))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, err := io.Copy(w, body)
	return err
}
