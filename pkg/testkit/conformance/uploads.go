package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// UploadsUnderTest has the ports that the Uploads suite calls. All lead to the same blobs.
type UploadsUnderTest struct {
	Uploads   export.Uploads
	Blobs     export.Blobs
	Presigner export.Presigner
	Purger    jobs.CountedPurger
	Files     export.RevealedFiles
	// CompletesAfterAbort says that a completion which the store has begun can end after an abort of its upload.
	CompletesAfterAbort bool
}

// Uploads tests an adapter of export.Uploads, and the purge of its files.
func Uploads(t *testing.T, open func(t *testing.T) UploadsUnderTest) {
	for name, test := range map[string]func(t *testing.T, x UploadsUnderTest){
		"PartsBecomeOneFile":         uploadsComplete,
		"AnEmptyFileIsOnePart":       uploadsEmpty,
		"NothingIsSeenBeforeTheEnd":  uploadsUnseen,
		"AnAbortedUploadIsLost":      uploadsAbort,
		"AReplacedPartIsNeverMixed":  uploadsReplacedPart,
		"UploadsOfTenantsAreApart":   uploadsKeepTenantsApart,
		"WrongPartsAreRefused":       uploadsRefuseParts,
		"ADownloadIsResumed":         uploadsResumeDownload,
		"PurgeRemovesFilesAndParts":  uploadsPurge,
		"AnErasedFileIsGone":         uploadsErase,
		"AnAbortEndsACompletion":     uploadsAbortWhileCompleting,
		"CancelledCallsStoreNothing": uploadsCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const uploadKey = "exports/1"

// uploading is an upload with what was put so far.
type uploading struct {
	UploadsUnderTest
	t       *testing.T
	tenant  audit.TenantID
	upload  export.Upload
	parts   []export.Part
	content []byte
}

func begin(t *testing.T, x UploadsUnderTest, tenant audit.TenantID) *uploading {
	t.Helper()
	return &uploading{
		UploadsUnderTest: x, t: t, tenant: tenant,
		upload: must[export.Upload](t)(x.Uploads.BeginUpload(t.Context(), tenant, uploadKey, "application/x-ndjson")),
	}
}

func (u *uploading) put(number int, content []byte) {
	u.t.Helper()
	u.parts = append(u.parts, must[export.Part](u.t)(u.Uploads.PutPart(u.t.Context(), u.tenant, u.upload, number, content)))
	u.content = append(u.content, content...)
}

func (u *uploading) complete() error {
	return u.Uploads.CompleteUpload(u.t.Context(), u.tenant, u.upload, u.parts, int64(len(u.content)), sha256.Sum256(u.content))
}

// address is the URL of the file.
func (u *uploading) address() string {
	u.t.Helper()
	return must[string](u.t)(u.Presigner.Presign(u.t.Context(), u.tenant, u.upload.Key, "audit.ndjson", 15*time.Minute))
}

func (u *uploading) wantFile() {
	u.t.Helper()
	status, header, body := fetch(u.t, http.MethodGet, u.address())
	if status != http.StatusOK {
		u.t.Fatalf("got status %d, want %d: %.200s", status, http.StatusOK, body)
	}
	if !bytes.Equal(body, u.content) {
		u.t.Errorf("got a body of %d bytes with other content, want the %d bytes of the parts", len(body), len(u.content))
	}
	if got := header.Get("Content-Type"); got != "application/x-ndjson" {
		u.t.Errorf("got Content-Type %q, want %q", got, "application/x-ndjson")
	}
}

func (u *uploading) wantNoFile() {
	u.t.Helper()
	if status, _, _ := fetch(u.t, http.MethodGet, u.address()); status != http.StatusNotFound {
		u.t.Errorf("got status %d, want %d", status, http.StatusNotFound)
	}
	if got := keys(u.t, u.Blobs, u.tenant, "", 10); len(got) > 0 {
		u.t.Errorf("listed %q, want nothing", got)
	}
}

func uploadsComplete(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	for _, number := range []int{1, 2, 7} { // the numbers may have gaps
		u.put(number, text(export.MinPart))
	}
	u.put(9, text(10))
	noError(t, u.complete())
	u.wantFile()
	noError(t, u.complete()) // as if the response was lost
	u.wantFile()
	noError(t, x.Uploads.AbortUpload(t.Context(), u.tenant, u.upload))
	u.wantFile()
	if got := keys(t, x.Blobs, u.tenant, "", 10); !slices.Equal(got, []string{uploadKey}) {
		t.Errorf("listed %q, want %q", got, uploadKey)
	}
	noError(t, x.Blobs.Delete(t.Context(), u.tenant, uploadKey))
	u.wantNoFile()
}

func uploadsEmpty(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, nil)
	noError(t, u.complete())
	u.wantFile()
}

func uploadsUnseen(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(100))
	u.wantNoFile()
	noError(t, u.complete())
	u.wantFile()
}

func uploadsAbort(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(100))
	for range 2 {
		noError(t, x.Uploads.AbortUpload(t.Context(), u.tenant, u.upload))
	}
	_, err := x.Uploads.PutPart(t.Context(), u.tenant, u.upload, 2, text(1))
	wantError(t, err, export.ErrUploadLost)
	wantError(t, u.complete(), export.ErrUploadLost)
	u.wantNoFile()
}

// Another worker can put a part after the one that the job knows of.
func uploadsReplacedPart(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(1000))
	must[export.Part](t)(x.Uploads.PutPart(t.Context(), u.tenant, u.upload, 1, text(1000)))
	err := u.complete()
	if err == nil {
		u.wantFile()
		return
	}
	wantError(t, err, export.ErrUploadLost)
	u.wantNoFile()
	noError(t, x.Uploads.AbortUpload(t.Context(), u.tenant, u.upload))
}

func uploadsKeepTenantsApart(t *testing.T, x UploadsUnderTest) {
	u, other := begin(t, x, newTenant(t)), newTenant(t)
	u.put(1, text(100))
	_, err := x.Uploads.PutPart(t.Context(), other, u.upload, 2, text(1))
	wantError(t, err, export.ErrUploadLost)
	err = x.Uploads.CompleteUpload(t.Context(), other, u.upload, u.parts, 100, sha256.Sum256(u.content))
	wantError(t, err, export.ErrUploadLost)
	noError(t, x.Uploads.AbortUpload(t.Context(), other, u.upload))
	for _, id := range []string{"", "../x", "x"} {
		_, err := x.Uploads.PutPart(t.Context(), u.tenant, export.Upload{Key: uploadKey, ID: id}, 1, text(1))
		if err == nil {
			t.Errorf("an upload with the id %q is accepted, want an error", id)
		}
	}
	noError(t, u.complete())
	u.wantFile()
}

func uploadsRefuseParts(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	for _, number := range []int{-1, 0, export.MaxParts + 1} {
		_, err := x.Uploads.PutPart(t.Context(), u.tenant, u.upload, number, text(1))
		wantError(t, err, export.ErrContent)
	}
	wantError(t, u.complete(), export.ErrContent) // no part
	u.put(1, text(export.MinPart))
	u.put(2, text(1))
	falling := *u
	falling.parts = []export.Part{u.parts[1], u.parts[0]}
	wantError(t, falling.complete(), export.ErrContent)
	for _, key := range []string{"", "..", "a//b"} {
		_, err := x.Uploads.BeginUpload(t.Context(), u.tenant, key, "")
		wantError(t, err, export.ErrKey)
	}
	noError(t, u.complete())
	u.wantFile()
}

func uploadsResumeDownload(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(100_000))
	noError(t, u.complete())
	for start, want := range map[string][]byte{"1": u.content[1:], "99999": u.content[99_999:], "60000": u.content[60_000:]} {
		request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodGet, u.address(), nil))
		request.Header.Set("Range", "bytes="+start+"-")
		response, err := http.DefaultClient.Do(request)
		noError(t, err)
		body := must[[]byte](t)(io.ReadAll(response.Body))
		noError(t, response.Body.Close())
		if response.StatusCode != http.StatusPartialContent {
			t.Errorf("from %s: got status %d, want %d", start, response.StatusCode, http.StatusPartialContent)
		}
		if got, want := response.Header.Get("Content-Range"), "bytes "+start+"-99999/100000"; got != want {
			t.Errorf("got Content-Range %q, want %q", got, want)
		}
		if !bytes.Equal(body, want) {
			t.Errorf("from %s: got %d bytes of other content, want %d", start, len(body), len(want))
		}
	}
}

func uploadsPurge(t *testing.T, x UploadsUnderTest) {
	gone, kept := begin(t, x, newTenant(t)), begin(t, x, newTenant(t))
	for _, u := range []*uploading{gone, kept} {
		u.put(1, text(100))
		put(t, x.Blobs, u.tenant, "other", text(10))
		noError(t, u.complete())
	}
	open := begin(t, x, gone.tenant)
	open.put(1, text(10))
	if n := purgeWhole(t, x.Purger, gone.tenant, 2); n != 3 {
		t.Errorf("purged %d files and uploads, want 3", n)
	}
	wantError(t, open.complete(), export.ErrUploadLost)
	gone.wantNoFile()
	kept.wantFile()
}

func uploadsErase(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(100))
	noError(t, u.complete())
	put(t, x.Blobs, u.tenant, uploadKey+"0", text(10)) // its key begins with the other's
	for range 2 {
		noError(t, x.Files.Erase(t.Context(), u.tenant, uploadKey))
	}
	if status, _, _ := fetch(t, http.MethodGet, u.address()); status != http.StatusNotFound {
		t.Errorf("got status %d, want %d", status, http.StatusNotFound)
	}
	if got := keys(t, x.Blobs, u.tenant, "", 10); !slices.Equal(got, []string{uploadKey + "0"}) {
		t.Errorf("listed %q, want the other file alone", got)
	}
}

// Who aborts an upload and then erases its file knows that the file does not come back, at least once the
// calls that complete it have ended.
func uploadsAbortWhileCompleting(t *testing.T, x UploadsUnderTest) {
	tenant := newTenant(t)
	for range 10 {
		u := begin(t, x, tenant)
		u.put(1, text(export.MinPart))
		completed := make(chan error)
		go func() { completed <- u.complete() }()
		noError(t, x.Uploads.AbortUpload(t.Context(), tenant, u.upload))
		noError(t, x.Files.Erase(t.Context(), tenant, uploadKey))
		if err := <-completed; err != nil {
			wantError(t, err, export.ErrUploadLost)
		} else if x.CompletesAfterAbort {
			noError(t, x.Files.Erase(t.Context(), tenant, uploadKey))
		}
		u.wantNoFile()
		wantError(t, u.complete(), export.ErrUploadLost)
	}
}

func uploadsCancelled(t *testing.T, x UploadsUnderTest) {
	u := begin(t, x, newTenant(t))
	u.put(1, text(10))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := x.Uploads.PutPart(ctx, u.tenant, u.upload, 1, text(10))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("put a part: got error %v, want %v", err, context.Canceled)
	}
	if err := x.Uploads.CompleteUpload(ctx, u.tenant, u.upload, u.parts, 10, sha256.Sum256(u.content)); !errors.Is(err, context.Canceled) {
		t.Errorf("complete: got error %v, want %v", err, context.Canceled)
	}
	u.wantNoFile()
	noError(t, u.complete())
	u.wantFile()
}
