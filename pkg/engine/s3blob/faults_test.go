package s3blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/buckettest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

const (
	slowDown = `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`
	internal = `<?xml version="1.0"?><Error><Code>InternalError</Code></Error>`
)

// harmed is a bucket of an engine behind a proxy.
type harmed struct {
	*s3blob.Blobs // through the proxy
	direct        *s3blob.Blobs
	client        client // direct
	bucket        string
	proxy         *enginetest.HTTPProxy
}

// newHarmed has an engine even where the environment names a service: AWS's
// signatures would not pass a proxy.
func newHarmed(t *testing.T) harmed {
	t.Helper()
	endpoint := sharedEngine(t)
	client := clientOf(endpoint)
	bucket := buckettest.New(t, client.Client)
	proxy := enginetest.NewHTTPProxy(t, endpoint)
	return harmed{Blobs: clientOf(proxy.URL()).blobs(bucket), direct: client.blobs(bucket), client: client, bucket: bucket, proxy: proxy}
}

func sharedEngine(t *testing.T) string {
	t.Helper()
	t.Setenv(realVariable, "")
	return enginetest.S3(t)
}

// first lets the fault happen to the first n requests that match.
func (h harmed) first(n int64, match func(*http.Request) bool, fault enginetest.HTTPFault) *atomic.Int64 {
	var seen atomic.Int64
	h.proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if match(r) && seen.Add(1) <= n {
			return fault
		}
		return nil
	})
	return &seen
}

func method(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == name }
}

// completion is the call that makes an object of its parts.
func completion(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func contents() map[string][]byte {
	return map[string][]byte{"small": []byte("content"), "in parts": bytes.Repeat([]byte("0123456789abcdef"), 1<<20+1)}
}

func want(t *testing.T, b *s3blob.Blobs, key string, content []byte) {
	t.Helper()
	got, err := read(t.Context(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Fatalf("%s: %d bytes; want %d", key, len(got), len(content))
	}
}

func read(ctx context.Context, b *s3blob.Blobs, key string) ([]byte, error) {
	body, _, err := b.Get(ctx, "a", key)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(body)
	return content, errors.Join(err, body.Close())
}

func TestConformanceWhenAnswersAreLost(t *testing.T) {
	h := newHarmed(t)
	for name, content := range contents() {
		for verb, match := range map[string]func(*http.Request) bool{"PUT": method(http.MethodPut), "completion": completion, "start": method(http.MethodPost)} {
			for _, lost := range []int64{1, 2} {
				key := fmt.Sprintf("%s/%s/%d", name, verb, lost)
				seen := h.first(lost, match, enginetest.LoseAnswer())
				if err := h.Create(t.Context(), "a", key, export.ContentOf(content, "")); err != nil {
					t.Fatalf("create, %s: %v", key, err)
				}
				want(t, h.direct, key, content)
				if name == "small" && verb != "PUT" {
					continue // sent at once
				}
				if got := seen.Load(); got <= lost {
					t.Errorf("%s: got %d requests, want more than the %d whose answer is lost", key, got, lost)
				}
				h.first(lost, match, enginetest.LoseAnswer())
				if err := h.Put(t.Context(), "a", key, export.ContentOf(append(content, '+'), "")); err != nil {
					t.Fatalf("put, %s: %v", key, err)
				}
				want(t, h.direct, key, append(content, '+'))
				h.first(lost, match, enginetest.LoseAnswer())
				if err := h.Create(t.Context(), "a", key, export.ContentOf(content, "")); !errors.Is(err, audit.ErrConflict) {
					t.Fatalf("create over other content, %s: got error %v, want %v", key, err, audit.ErrConflict)
				}
				want(t, h.direct, key, append(content, '+'))
				stat, err := h.direct.Stat(t.Context(), "a", key)
				if err != nil {
					t.Fatal(err)
				}
				h.first(lost, match, enginetest.LoseAnswer())
				if err := h.Replace(t.Context(), "a", key, stat.ETag, export.ContentOf(append(content, '-'), "")); err != nil {
					t.Fatalf("replace, %s: %v", key, err)
				}
				want(t, h.direct, key, append(content, '-'))
				h.first(lost, match, enginetest.LoseAnswer())
				if err := h.Replace(t.Context(), "a", key, stat.ETag, export.ContentOf(content, "")); !errors.Is(err, audit.ErrConflict) {
					t.Fatalf("replace with the ETag of earlier content, %s: got error %v, want %v", key, err, audit.ErrConflict)
				}
				want(t, h.direct, key, append(content, '-'))
			}
		}
	}
	h.proxy.Inject(nil)
	dropStarted(t, h)
}

// TestConformanceWhenCompletionFailsLate: S3 can answer with 200 and tell in the body that it failed.
func TestConformanceWhenCompletionFailsLate(t *testing.T) {
	h := newHarmed(t)
	text := contents()["in parts"]
	seen := h.first(2, completion, enginetest.Answer(http.StatusOK, internal))
	if err := h.Put(t.Context(), "a", "late", export.ContentOf(text, "")); err != nil {
		t.Errorf("a failure that passes: %v", err)
	}
	if got := seen.Load(); got != 3 {
		t.Errorf("got %d completions, want 3", got)
	}
	want(t, h.direct, "late", text)
	h.first(1, completion, enginetest.Answer(http.StatusOK, `<?xml version="1.0"?><Error><Code>PreconditionFailed</Code></Error>`))
	if err := h.Create(t.Context(), "a", "late", export.ContentOf(append(text, '+'), "")); !errors.Is(err, audit.ErrConflict) {
		t.Errorf("a refusal: got error %v, want %v", err, audit.ErrConflict)
	}
	want(t, h.direct, "late", text)
	h.proxy.Inject(nil)
	dropStarted(t, h)
}

// TestConformanceWhenTheUploadIsGone is of a completion that is repeated after its
// answer was lost: S3 may not know the upload any more.
func TestConformanceWhenTheUploadIsGone(t *testing.T) {
	h := newHarmed(t)
	content := export.ContentOf(contents()["in parts"], "")
	gone := enginetest.Answer(http.StatusNotFound, `<?xml version="1.0"?><Error><Code>NoSuchUpload</Code></Error>`)
	h.first(1, completion, gone)
	var later *audit.UnavailableError
	if err := h.Put(t.Context(), "a", "lost", content); !errors.As(err, &later) {
		t.Errorf("an upload that is gone: got error %v, want a %T", err, later)
	}
	if _, err := h.direct.Stat(t.Context(), "a", "lost"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("after an upload that is gone: got error %v, want %v", err, audit.ErrNotFound)
	}
	h.first(1, completion, func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		engine.ServeHTTP(httptest.NewRecorder(), r)
		gone(w, r, engine)
	})
	again := contents()["in parts"]
	if err := h.Create(t.Context(), "a", "done", export.ContentOf(again, "")); err != nil {
		t.Errorf("an upload that was completed before: %v", err)
	}
	want(t, h.direct, "done", again)
}

// dropStarted aborts the uploads whose start was answered to nobody, which is
// left to the bucket's lifecycle.
func dropStarted(t *testing.T, h harmed) {
	t.Helper()
	left, err := h.client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &h.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, upload := range left.Uploads {
		if !strings.Contains(*upload.Key, "/start/") {
			t.Errorf("an upload of %s is left, want none", *upload.Key)
		}
		_, err := h.client.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: &h.bucket, Key: upload.Key, UploadId: upload.UploadId})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestConformanceWhenS3IsBusy(t *testing.T) {
	for name, fault := range map[string]enginetest.HTTPFault{
		"slow down": enginetest.Answer(http.StatusServiceUnavailable, slowDown),
		"internal":  enginetest.Answer(http.StatusInternalServerError, internal),
		"429":       enginetest.Answer(http.StatusTooManyRequests, ""),
		"cut":       enginetest.Cut(),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarmed(t)
			h.first(3, always, fault)
			if err := h.Put(t.Context(), "a", "key", export.ContentOf([]byte("content"), "")); err != nil {
				t.Error(err)
			}
			want(t, h.direct, "key", []byte("content"))
			h.first(1<<40, always, fault)
			wantUnavailable(t, h.Blobs)
			h.proxy.Inject(nil)
			want(t, h.direct, "key", []byte("content"))
		})
	}
}

func always(*http.Request) bool { return true }

func wantUnavailable(t *testing.T, b *s3blob.Blobs) {
	t.Helper()
	other := export.ContentOf([]byte("other"), "")
	var running sync.WaitGroup
	for verb, call := range map[string]func(ctx context.Context) error{
		"put":    func(ctx context.Context) error { return b.Put(ctx, "a", "key", other) },
		"get":    func(ctx context.Context) error { _, _, err := b.Get(ctx, "a", "key"); return err },
		"stat":   func(ctx context.Context) error { _, err := b.Stat(ctx, "a", "key"); return err },
		"list":   func(ctx context.Context) error { _, err := b.List(ctx, "a", "", "", 10); return err },
		"delete": func(ctx context.Context) error { return b.Delete(ctx, "a", "key") },
		"ping":   b.Ping,
	} {
		running.Go(func() {
			err := call(t.Context())
			var later *audit.UnavailableError
			if !errors.As(err, &later) {
				t.Errorf("%s: got error %v, want a %T", verb, err, later)
			}
		})
	}
	running.Wait()
}

func TestConformanceWhenTimeIsShort(t *testing.T) {
	h := newHarmed(t)
	h.first(1<<40, always, enginetest.Answer(http.StatusServiceUnavailable, slowDown))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	for ctx.Err() == nil { // one call may give up before
		if err := h.Put(ctx, "a", "key", export.ContentOf([]byte("x"), "")); ctx.Err() != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want %v", err, context.DeadlineExceeded)
		}
	}
	if took, most := time.Since(started), 2*time.Second; took > most {
		t.Errorf("took %v, want at most %v", took, most)
	}
}

func TestConformanceWhenBytesChangeOnTheWay(t *testing.T) {
	h := newHarmed(t)
	for name, content := range contents() {
		if err := h.Put(t.Context(), "a", name, export.ContentOf(content, "")); err != nil {
			t.Fatal(err)
		}
		h.first(1, method(http.MethodPut), changeRequest)
		if err := h.Put(t.Context(), "a", name, export.ContentOf(append([]byte("+"), content...), "")); err == nil {
			t.Errorf("%s: changed content: got no error from Put, want one", name)
		}
		want(t, h.direct, name, content)
		h.first(1, method(http.MethodGet), changeAnswer)
		if _, err := read(t.Context(), h.Blobs, name); !errors.Is(err, export.ErrContent) {
			t.Errorf("%s: changed content: got error %v, want %v", name, err, export.ErrContent)
		}
		h.first(1, method(http.MethodGet), cutAnswer)
		_, err := read(t.Context(), h.Blobs, name)
		var later *audit.UnavailableError
		if !errors.As(err, &later) {
			t.Errorf("%s: cut content: got error %v, want a %T", name, err, later)
		}
		h.proxy.Inject(nil)
	}
}

// changeRequest changes a byte of what the client sends.
func changeRequest(w http.ResponseWriter, r *http.Request, engine http.Handler) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body[len(body)/2] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
	engine.ServeHTTP(w, r)
}

// changeAnswer changes a byte of what the engine answers.
func changeAnswer(w http.ResponseWriter, r *http.Request, engine http.Handler) {
	passAnswer(w, r, engine, func(body []byte) { body[len(body)/2] ^= 1 })
}

// cutAnswer cuts the connection after half of the answer.
func cutAnswer(w http.ResponseWriter, r *http.Request, engine http.Handler) {
	recorded := httptest.NewRecorder()
	engine.ServeHTTP(recorded, r)
	copyHeader(w, recorded)
	_, _ = w.Write(recorded.Body.Bytes()[:recorded.Body.Len()/2])
	_ = http.NewResponseController(w).Flush() // a client that is gone is no concern
	panic(http.ErrAbortHandler)
}

func passAnswer(w http.ResponseWriter, r *http.Request, engine http.Handler, change func(body []byte)) {
	recorded := httptest.NewRecorder()
	engine.ServeHTTP(recorded, r)
	change(recorded.Body.Bytes())
	copyHeader(w, recorded)
	_, _ = w.Write(recorded.Body.Bytes())
}

func copyHeader(w http.ResponseWriter, recorded *httptest.ResponseRecorder) {
	for name, values := range recorded.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(recorded.Code)
}

func TestConformanceWhenPartsFail(t *testing.T) {
	h := newHarmed(t)
	content := contents()["in parts"]
	second := func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }
	h.first(1<<40, second, enginetest.Answer(http.StatusForbidden, `<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`))
	if err := h.Put(t.Context(), "a", "key", export.ContentOf(content, "")); err == nil {
		t.Error("content without its second part: got no error from Put, want one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if second(r) {
			cancel()
		}
		return nil
	})
	if err := h.Put(ctx, "a", "key", export.ContentOf(content, "")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled upload: got error %v, want %v", err, context.Canceled)
	}
	if _, err := h.direct.Stat(t.Context(), "a", "key"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("after a cancelled upload: got error %v, want %v", err, audit.ErrNotFound)
	} // buckettest looks for parts that are left
}

func TestConformanceUnderHarm(t *testing.T) {
	h := newHarmed(t)
	const blobs = 1000
	faults := []enginetest.HTTPFault{
		enginetest.Answer(http.StatusServiceUnavailable, slowDown), enginetest.LoseAnswer(), enginetest.Cut(),
		enginetest.Answer(http.StatusInternalServerError, internal), cutAnswer, enginetest.Delay(20 * time.Millisecond),
	}
	var calls atomic.Int64
	h.proxy.Inject(func(*http.Request) enginetest.HTTPFault {
		n := calls.Add(1)
		if n%7 != 0 {
			return nil
		}
		return faults[n/7%int64(len(faults))]
	})
	var group errgroup.Group
	group.SetLimit(8)
	for i := range blobs {
		group.Go(func() error { return createUntilStored(t.Context(), h.Blobs, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	h.proxy.Inject(nil)
	listed, err := h.direct.List(t.Context(), "a", "", "", export.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != blobs {
		t.Fatalf("%d blobs; want %d", len(listed), blobs)
	}
	for i := range blobs {
		want(t, h.direct, fmt.Sprintf("key/%d", i), fmt.Appendf(nil, "content %d", i))
	}
	t.Logf("%d calls, a seventh of them harmed, for %d blobs", calls.Load(), blobs)
}

// createUntilStored repeats as a caller does.
func createUntilStored(ctx context.Context, b *s3blob.Blobs, i int) error {
	for {
		err := b.Create(ctx, "a", fmt.Sprintf("key/%d", i), export.ContentOf(fmt.Appendf(nil, "content %d", i), ""))
		var later *audit.UnavailableError
		if !errors.As(err, &later) {
			return err
		}
	}
}

func TestConformanceOfRefusals(t *testing.T) {
	endpoint := sharedEngine(t)
	bucket := buckettest.New(t, clientOf(endpoint).Client)
	for name, b := range map[string]*s3blob.Blobs{
		"a wrong secret": newClientOf(configOf(endpoint, "wrong")).blobs(bucket),
		"no bucket":      clientOf(endpoint).blobs("ocelot-test-absent"),
	} {
		_, _, getErr := b.Get(t.Context(), "a", "key")
		_, listErr := b.List(t.Context(), "a", "", "", 10)
		for verb, err := range map[string]error{"get": getErr, "list": listErr, "put": b.Put(t.Context(), "a", "key", export.ContentOf(nil, "")), "delete": b.Delete(t.Context(), "a", "key"), "ping": b.Ping(t.Context())} {
			var later *audit.UnavailableError
			if err == nil {
				t.Errorf("%s with %s: got no error, want one", verb, name)
			}
			if errors.Is(err, audit.ErrNotFound) {
				t.Errorf("%s with %s: got error %v, want one other than %v", verb, name, err, audit.ErrNotFound)
			}
			if errors.As(err, &later) {
				t.Errorf("%s with %s: got error %v, want one that is no %T", verb, name, err, later)
			}
		}
	}
	if err := clientOf(endpoint).blobs(bucket).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConformanceOfForeignObjects(t *testing.T) {
	client := clientOf(sharedEngine(t))
	bucket := buckettest.New(t, client.Client)
	for key, metadata := range map[string]map[string]string{"none": nil, "short": {"sha256": "00"}, "odd": {"sha256": strings.Repeat("x", 64)}} {
		object := "tenant=a/" + key
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &object, Body: strings.NewReader("x"), Metadata: metadata})
		if err != nil {
			t.Fatal(err)
		}
		b := client.blobs(bucket)
		_, statErr := b.Stat(t.Context(), "a", key)
		_, getErr := read(t.Context(), b, key)
		for verb, err := range map[string]error{"stat": statErr, "get": getErr} {
			if !errors.Is(err, export.ErrContent) {
				t.Errorf("%s of an object with metadata %v: got error %v, want %v", verb, metadata, err, export.ErrContent)
			}
		}
		if err := b.Create(t.Context(), "a", key, export.ContentOf([]byte("x"), "")); !errors.Is(err, audit.ErrConflict) {
			t.Errorf("create over an object with metadata %v: got error %v, want %v", metadata, err, audit.ErrConflict)
		}
		if err := b.Replace(t.Context(), "a", key, `"0"`, export.ContentOf([]byte("x"), "")); !errors.Is(err, audit.ErrConflict) {
			t.Errorf("replace an object with metadata %v: got error %v, want %v", metadata, err, audit.ErrConflict)
		}
	}
}

// An erasure that is killed between two versions is repeated, because the list still has the file.
func TestAKilledErasureOfAFileIsSeen(t *testing.T) {
	h := newHarmed(t)
	h.client.keepVersions(t, h.bucket)
	for _, text := range []string{"first", "second"} {
		if err := h.Put(t.Context(), "acme", "revealed/1", export.ContentOf([]byte(text), "")); err != nil {
			t.Fatal(err)
		}
	}
	var removals atomic.Int64
	h.proxy.Inject(func(r *http.Request) enginetest.HTTPFault {
		if r.Method == http.MethodDelete && removals.Add(1) > 1 {
			return enginetest.Answer(http.StatusForbidden, `<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>`)
		}
		return nil
	})
	if err := h.Erase(t.Context(), "acme", "revealed/1"); err == nil {
		t.Error("a version that cannot be removed: got no error, want one")
	}
	list, err := h.direct.List(t.Context(), "acme", "revealed/", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 {
		t.Errorf("listed %d files after the first removal, want the file that has a version left", len(list))
	}
	h.proxy.Inject(nil)
	if err := h.Erase(t.Context(), "acme", "revealed/1"); err != nil {
		t.Fatal(err)
	}
	versions, err := h.client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &h.bucket})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(versions.Versions) + len(versions.DeleteMarkers); n != 0 {
		t.Errorf("%d versions and markers are left, want 0", n)
	}
}
