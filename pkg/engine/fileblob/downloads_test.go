package fileblob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func TestConformanceOfDownloads(t *testing.T) {
	conformance.Presigner(t, func(t *testing.T) conformance.PresignerUnderTest {
		blobs := open(t, t.TempDir())
		return conformance.PresignerUnderTest{Blobs: blobs, Presigner: downloads(t, blobs, time.Now)}
	})
}

// downloads serves the blobs.
func downloads(t *testing.T, blobs *fileblob.Blobs, now func() time.Time) *fileblob.Downloads {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	d := fileblob.NewDownloads(blobs, []byte("a key of the test's own"), server.URL+"/files", now)
	mux.Handle("/files", d)
	return d
}

func TestAURLIsGoodUntilItsLastSecond(t *testing.T) {
	blobs := open(t, t.TempDir())
	if err := blobs.Put(t.Context(), "a", "key", export.ContentOf([]byte("x"), "")); err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_700_000_000, 0)
	now := start
	address, err := downloads(t, blobs, func() time.Time { return now }).Presign(t.Context(), "a", "key", "f", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int{0: 200, 59 * time.Second: 200, 60 * time.Second: 403, time.Hour: 403} {
		now = start.Add(after)
		if got, _ := fetch(t, address); got != want {
			t.Errorf("after %v: %d, want %d", after, got, want)
		}
	}
	if got, _ := fetch(t, address+"&key=other"); got != 403 {
		t.Errorf("with two keys: got %d, want 403", got)
	}
}

func TestADamagedDownloadBreaksOff(t *testing.T) {
	folder := t.TempDir()
	blobs := open(t, folder)
	if err := blobs.Put(t.Context(), "a", "key", export.ContentOf(make([]byte, 100_000), "")); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(folder, "a", "key.blob"))
	address, err := downloads(t, blobs, time.Now).Presign(t.Context(), "a", "key", "f", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, address); err == nil {
		t.Error("a damaged file: got no error, want one")
	}
}

// fetch returns the status, and the error of reading the body.
func fetch(t *testing.T, address string) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if closeErr := response.Body.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	return response.StatusCode, err
}

func TestConformanceOfUploads(t *testing.T) {
	conformance.Uploads(t, func(t *testing.T) conformance.UploadsUnderTest {
		blobs := open(t, t.TempDir())
		return conformance.UploadsUnderTest{Uploads: blobs, Blobs: blobs, Presigner: downloads(t, blobs, time.Now), Purger: blobs, Files: blobs}
	})
}

func TestOldFilesAndUploadsAreRemoved(t *testing.T) {
	folder := t.TempDir()
	blobs := open(t, folder)
	for _, key := range []string{"old", "new"} {
		if err := blobs.Put(t.Context(), "a", key, export.ContentOf([]byte(key), "")); err != nil {
			t.Fatal(err)
		}
	}
	u, err := blobs.BeginUpload(t.Context(), "a", "begun", "")
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-25 * time.Hour)
	for _, path := range []string{filepath.Join(folder, "a", "old.blob"), filepath.Join(folder, "_unfinished", u.ID)} {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := blobs.RemoveOlder(t.Context(), past.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := blobs.Stat(t.Context(), "a", "old"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("the old file: got error %v, want %v", err, audit.ErrNotFound)
	}
	if _, err := blobs.Stat(t.Context(), "a", "new"); err != nil {
		t.Errorf("the new file: got error %v, want none", err)
	}
	if _, err := blobs.PutPart(t.Context(), "a", u, 1, nil); !errors.Is(err, export.ErrUploadLost) {
		t.Errorf("a part of the old upload: got error %v, want %v", err, export.ErrUploadLost)
	}
}

// hooked calls do at one of the looks at the context.
type hooked struct {
	context.Context
	left int
	do   func()
}

func (h *hooked) Err() error {
	if h.left--; h.left == 0 {
		h.do()
	}
	return h.Context.Err()
}

// TestTwoCompletionsOfAnUpload: both copy the parts, and the second ends when the first has removed them.
func TestTwoCompletionsOfAnUpload(t *testing.T) {
	blobs, ctx := open(t, t.TempDir()), t.Context()
	content := bytes.Repeat([]byte("0123456789abcdef"), export.MinPart/16)
	for range 5 {
		u, err := blobs.BeginUpload(ctx, "a", "exports/1", "text/csv")
		if err != nil {
			t.Fatal(err)
		}
		part, err := blobs.PutPart(ctx, "a", u, 1, content)
		if err != nil {
			t.Fatal(err)
		}
		const workers = 4
		errs := make(chan error, workers)
		for range workers {
			go func() {
				errs <- blobs.CompleteUpload(ctx, "a", u, []export.Part{part}, int64(len(content)), sha256.Sum256(content))
			}()
		}
		for range workers {
			if err := <-errs; err != nil {
				t.Errorf("complete an upload that another completes: %v, want nil", err)
			}
		}
		if err := blobs.Delete(ctx, "a", "exports/1"); err != nil {
			t.Fatal(err)
		}
	}
}

// A process is killed, or sleeps, while it copies the parts of an upload to one file. An abort of the
// upload by another one leaves nothing of the copy.
func TestAnAbortRemovesTheCopyOfACompletion(t *testing.T) {
	folder := t.TempDir()
	blobs, other := open(t, folder), open(t, folder)
	content := bytes.Repeat([]byte("plain"), 100_000)
	u, err := blobs.BeginUpload(t.Context(), "a", "file", "")
	if err != nil {
		t.Fatal(err)
	}
	part, err := blobs.PutPart(t.Context(), "a", u, 1, content)
	if err != nil {
		t.Fatal(err)
	}
	ctx := &hooked{Context: t.Context(), left: 5, do: func() {
		if err := other.AbortUpload(t.Context(), "a", u); err != nil {
			t.Error(err)
		}
		wantUnfinished(t, folder)
	}}
	err = blobs.CompleteUpload(ctx, "a", u, []export.Part{part}, int64(len(content)), sha256.Sum256(content))
	if !errors.Is(err, export.ErrUploadLost) || ctx.left > 0 {
		t.Errorf("got error %v with %d looks left, want %v after the abort", err, ctx.left, export.ErrUploadLost)
	}
	wantUnfinished(t, folder)
}
