package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
)

// BlobsUnderTest has the ports that the Blobs suite calls.
type BlobsUnderTest struct {
	Blobs export.Blobs
	// Damage changes a byte of the blob's content where it is stored.
	Damage func(t *testing.T, tenant audit.TenantID, key string)
	Gaps   []Gap
}

// Blobs tests an adapter of export.Blobs.
func Blobs(t *testing.T, open func(t *testing.T) BlobsUnderTest) {
	for name, test := range map[string]func(t *testing.T, x BlobsUnderTest){
		"ReadsWhatWasPut":                blobsReadBack,
		"LargeContentComesBack":          blobsLarge,
		"PutReplaces":                    blobsReplace,
		"CreateDoesNotReplace":           blobsCreate,
		"OfCreatorsAtOnceOneWins":        blobsCreateConcurrently,
		"ReplaceKeepsWhatOthersWrote":    blobsReplaceIf,
		"OfReplacersAtOnceOneWins":       blobsReplaceIfConcurrently,
		"ReplacersLoseNothing":           blobsCount,
		"ReadersSeeWholeContents":        blobsReplaceConcurrently,
		"OtherContentThanSaidIsRefused":  blobsRefuseContent,
		"ContentThatBreaksOffIsRefused":  blobsRefuseBrokenContent,
		"DamageIsNoticed":                blobsNoticeDamage,
		"AbsentIsNotFound":               blobsAbsent,
		"TenantsAreApart":                blobsKeepTenantsApart,
		"ListsInOrderByPages":            blobsList,
		"ListsManyByPages":               blobsListMany,
		"HostileKeysComeBack":            blobsHostileKeys,
		"KeysBelowKeys":                  blobsKeysBelowKeys,
		"LongestKeysComeBack":            blobsLongKeys,
		"LongestSegmentComesBack":        blobsLongSegment,
		"UnfitKeysAreRefused":            blobsRefuseKeys,
		"CancelledCallsChangeNothing":    blobsCancelled,
		"DeletedAndPutAgainIsAsIfNew":    blobsDelete,
		"TypesAndTimesComeBackWithBlobs": blobsDescribe,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// text returns random content of n bytes.
func text(n int) []byte {
	source := rand.NewChaCha8([32]byte(randomKey(32)))
	b := make([]byte, n)
	_, _ = source.Read(b) // never fails
	return b
}

func put(t *testing.T, b export.Blobs, tenant audit.TenantID, key string, content []byte) {
	t.Helper()
	noError(t, b.Put(t.Context(), tenant, key, export.ContentOf(content, "text/plain")))
}

// get reads a blob to its end.
func get(ctx context.Context, b export.Blobs, tenant audit.TenantID, key string) ([]byte, export.Blob, error) {
	body, found, err := b.Get(ctx, tenant, key)
	if err != nil {
		return nil, export.Blob{}, err
	}
	content, err := io.ReadAll(body)
	return content, found, errors.Join(err, body.Close())
}

// wantBlob fails the test unless the key has this content.
func wantBlob(t *testing.T, b export.Blobs, tenant audit.TenantID, key string, want []byte) {
	t.Helper()
	content, found, err := get(t.Context(), b, tenant, key)
	noError(t, err)
	if !bytes.Equal(content, want) {
		t.Fatalf("%q has %d bytes with SHA-256 %x, want %d with %x", key, len(content), sha256.Sum256(content), len(want), sha256.Sum256(want))
	}
	stat := must[export.Blob](t)(b.Stat(t.Context(), tenant, key))
	switch expected := export.ContentOf(want, ""); {
	case found.Key != key:
		t.Fatalf("got key %q, want %q", found.Key, key)
	case !found.Is(expected):
		t.Fatal("found.Is(expected) is false, want true")
	case stat.Key != key:
		t.Fatalf("got key %q, want %q", stat.Key, key)
	case !stat.Is(expected):
		t.Fatal("stat.Is(expected) is false, want true")
	}
}

func wantAbsent(t *testing.T, b export.Blobs, tenant audit.TenantID, key string) {
	t.Helper()
	_, _, err := b.Get(t.Context(), tenant, key)
	wantError(t, err, audit.ErrNotFound)
	_, err = b.Stat(t.Context(), tenant, key)
	wantError(t, err, audit.ErrNotFound)
}

// keys lists by pages of this size.
func keys(t *testing.T, b export.Blobs, tenant audit.TenantID, prefix string, limit int) []string {
	t.Helper()
	var all []string
	after := ""
	for {
		page := must[[]export.Listed](t)(b.List(t.Context(), tenant, prefix, after, limit))
		if len(page) > limit {
			t.Fatalf("got a page of %d blobs, want at most %d", len(page), limit)
		}
		all = append(all, keysOf(page)...)
		if len(page) < min(limit, export.MaxList) {
			return all
		}
		after = page[len(page)-1].Key
	}
}

func keysOf(page []export.Listed) []string {
	var keys []string
	for _, item := range page {
		keys = append(keys, item.Key)
	}
	return keys
}

func wantKeys(t *testing.T, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("listed %d keys %.2000q, want %d: %.2000q", len(got), got, len(want), want)
	}
}

func blobsReadBack(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for _, size := range []int{0, 1, 4095, 4096, 4097, 100_000, 1 << 20} {
		key, content := fmt.Sprintf("of/size/%d", size), text(size)
		put(t, x.Blobs, tenant, key, content)
		wantBlob(t, x.Blobs, tenant, key, content)
	}
	odd := []byte("\x00\r\n{\"size\":1}\n\xff\xfe")
	put(t, x.Blobs, tenant, "odd", odd)
	wantBlob(t, x.Blobs, tenant, "odd", odd)
}

// blobsLarge has contents around and over the size of one part of an S3 upload.
func blobsLarge(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	const once = 16 << 20
	all := text(2*once + 1)
	for _, size := range []int{once, once + 1, 2*once + 1} {
		noError(t, x.Blobs.Put(t.Context(), tenant, "large", export.ContentOf(all[:size], "")))
		wantBlob(t, x.Blobs, tenant, "large", all[:size])
	}
	noError(t, x.Blobs.Create(t.Context(), tenant, "made", export.ContentOf(all, "")))
	noError(t, x.Blobs.Create(t.Context(), tenant, "made", export.ContentOf(all, "")))
	wantError(t, x.Blobs.Create(t.Context(), tenant, "made", export.ContentOf(all[1:], "")), audit.ErrConflict)
	wantBlob(t, x.Blobs, tenant, "made", all)
	wrong := export.ContentOf(all, "")
	wrong.SHA256[0] ^= 1
	wantError(t, x.Blobs.Put(t.Context(), tenant, "large", wrong), export.ErrContent)
	for _, size := range []int64{wrong.Size - 1, wrong.Size + 1} {
		wrong := export.ContentOf(all, "")
		wrong.Size = size
		wantError(t, x.Blobs.Put(t.Context(), tenant, "large", wrong), export.ErrContent)
	}
	broken := export.ContentOf(all, "")
	broken.Body = io.MultiReader(bytes.NewReader(all[:once+5]), iotest.ErrReader(io.ErrUnexpectedEOF))
	wantError(t, x.Blobs.Put(t.Context(), tenant, "large", broken), io.ErrUnexpectedEOF)
	wantBlob(t, x.Blobs, tenant, "large", all)
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), []string{"large", "made"})
}

func blobsReplace(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for _, content := range []string{"first", "", "the third is longer", "4th"} {
		put(t, x.Blobs, tenant, "key", []byte(content))
		wantBlob(t, x.Blobs, tenant, "key", []byte(content))
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), []string{"key"})
}

func blobsCreate(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for range 2 { // the answer may be lost and the call repeated
		noError(t, x.Blobs.Create(t.Context(), tenant, "key", export.ContentOf([]byte("first"), "text/plain")))
	}
	for _, other := range []string{"other", "", "first "} {
		wantError(t, x.Blobs.Create(t.Context(), tenant, "key", export.ContentOf([]byte(other), "text/plain")), audit.ErrConflict)
	}
	wantBlob(t, x.Blobs, tenant, "key", []byte("first"))
	noError(t, x.Blobs.Delete(t.Context(), tenant, "key"))
	noError(t, x.Blobs.Create(t.Context(), tenant, "key", export.ContentOf([]byte("other"), "text/plain")))
	wantBlob(t, x.Blobs, tenant, "key", []byte("other"))
}

func blobsCreateConcurrently(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for round := range 5 {
		key := fmt.Sprintf("day/%d", round)
		oneWins(t, x.Blobs, tenant, key, func(c export.Content) error {
			return x.Blobs.Create(t.Context(), tenant, key, c)
		})
	}
}

// oneWins lets several writers write the key at once. One of them must succeed.
func oneWins(t *testing.T, b export.Blobs, tenant audit.TenantID, key string, write func(export.Content) error) {
	t.Helper()
	const writers = 8
	var errs [writers]error
	var running sync.WaitGroup
	for i := range writers {
		running.Go(func() {
			for range 100 {
				errs[i] = write(export.ContentOf(fmt.Appendf(nil, "of %d", i), ""))
				var later *audit.UnavailableError
				if !errors.As(errs[i], &later) {
					return
				}
			}
		})
	}
	running.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err != nil:
			wantError(t, err, audit.ErrConflict)
		case winner >= 0:
			t.Fatalf("%d and %d both wrote %s, want one of them", winner, i, key)
		default:
			winner = i
		}
	}
	wantBlob(t, b, tenant, key, fmt.Appendf(nil, "of %d", winner))
}

// etag returns the ETag of the key's content.
func etag(t *testing.T, b export.Blobs, tenant audit.TenantID, key string) string {
	t.Helper()
	_, found, err := get(t.Context(), b, tenant, key)
	noError(t, err)
	stat := must[export.Blob](t)(b.Stat(t.Context(), tenant, key))
	if found.ETag == "" || found.ETag != stat.ETag {
		t.Fatalf("got the ETag %q from Get and %q from Stat, want the same text", found.ETag, stat.ETag)
	}
	return found.ETag
}

func blobsReplaceIf(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	replace := func(key, etag, content string) error {
		return x.Blobs.Replace(t.Context(), tenant, key, etag, export.ContentOf([]byte(content), "text/plain"))
	}
	put(t, x.Blobs, tenant, "key", []byte("first"))
	first := etag(t, x.Blobs, tenant, "key")
	for range 2 { // the answer may be lost and the call repeated
		noError(t, replace("key", first, "second"))
		wantBlob(t, x.Blobs, tenant, "key", []byte("second"))
	}
	second := etag(t, x.Blobs, tenant, "key")
	if second == first {
		t.Fatalf("two contents have the ETag %q, want one each", first)
	}
	for _, stale := range []string{first, "", "*", `"*"`, `""`, second + "x", "W/" + second, second + ", " + first, "other", "a\r\nb: c"} {
		wantError(t, replace("key", stale, "third"), audit.ErrConflict)
		wantError(t, replace("absent", stale, "third"), audit.ErrConflict)
	}
	wantError(t, replace("absent", second, "third"), audit.ErrConflict)
	wantBlob(t, x.Blobs, tenant, "key", []byte("second"))
	noError(t, replace("key", second, ""))
	noError(t, x.Blobs.Delete(t.Context(), tenant, "key"))
	wantError(t, replace("key", second, "third"), audit.ErrConflict)
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), nil)
	other := newTenant(t)
	put(t, x.Blobs, other, "key", []byte("second"))
	wantError(t, replace("key", second, "third"), audit.ErrConflict)
	wantBlob(t, x.Blobs, other, "key", []byte("second"))
	large := text(16<<20 + 1)
	noError(t, x.Blobs.Replace(t.Context(), other, "key", etag(t, x.Blobs, other, "key"), export.ContentOf(large, "")))
	wantError(t, x.Blobs.Replace(t.Context(), other, "key", second, export.ContentOf(large[1:], "")), audit.ErrConflict)
	wantError(t, x.Blobs.Replace(t.Context(), other, "absent", second, export.ContentOf(large, "")), audit.ErrConflict)
	wantBlob(t, x.Blobs, other, "key", large)
}

func blobsReplaceIfConcurrently(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for round := range 5 {
		key := fmt.Sprintf("day/%d", round)
		put(t, x.Blobs, tenant, key, []byte("before"))
		before := etag(t, x.Blobs, tenant, key)
		oneWins(t, x.Blobs, tenant, key, func(c export.Content) error {
			return x.Blobs.Replace(t.Context(), tenant, key, before, c)
		})
	}
}

// blobsCount has writers that add to one text, as those of a manifest do.
func blobsCount(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	noError(t, x.Blobs.Create(t.Context(), tenant, "key", export.ContentOf(nil, "")))
	const writers, lines = 4, 5
	group, ctx := errgroup.WithContext(t.Context())
	for i := range writers {
		group.Go(func() error {
			for line := range lines {
				if err := addLine(ctx, x.Blobs, tenant, fmt.Sprintf("%d.%d", i, line)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	noError(t, group.Wait())
	content, _, err := get(t.Context(), x.Blobs, tenant, "key")
	noError(t, err)
	got := strings.Fields(string(content))
	slices.Sort(got)
	if distinct := len(slices.Compact(slices.Clone(got))); len(got) != writers*lines || distinct != len(got) {
		t.Fatalf("got %d lines, %d distinct, want %d of each", len(got), distinct, writers*lines)
	}
}

// addLine adds a line to the key's content.
func addLine(ctx context.Context, b export.Blobs, tenant audit.TenantID, line string) error {
	for range 1000 {
		content, found, err := get(ctx, b, tenant, "key")
		if err != nil {
			return err
		}
		err = b.Replace(ctx, tenant, "key", found.ETag, export.ContentOf(append(content, line+"\n"...), ""))
		var later *audit.UnavailableError
		if !errors.Is(err, audit.ErrConflict) && !errors.As(err, &later) {
			return err
		}
	}
	return fmt.Errorf("the line %s was refused 1,000 times", line)
}

func blobsReplaceConcurrently(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1000*(i+1)) }
	put(t, x.Blobs, tenant, "key", content(0))
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		group.Go(func() error {
			for range 10 {
				if err := x.Blobs.Put(ctx, tenant, "key", export.ContentOf(content(i), "")); err != nil {
					return err
				}
			}
			return nil
		})
		group.Go(func() error {
			for range 20 {
				got, _, err := get(ctx, x.Blobs, tenant, "key")
				if err != nil {
					return err
				}
				if len(got) == 0 || !bytes.Equal(got, content(int(got[0]-'a'))) {
					return fmt.Errorf("got %d bytes that were never stored", len(got))
				}
			}
			return nil
		})
	}
	noError(t, group.Wait())
}

func blobsRefuseContent(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	put(t, x.Blobs, tenant, "there", []byte("before"))
	before := etag(t, x.Blobs, tenant, "there")
	replace := func(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
		return x.Blobs.Replace(ctx, tenant, key, before, c)
	}
	good := []byte("0123456789")
	for name, change := range map[string]func(c *export.Content){
		"another sum": func(c *export.Content) { c.SHA256[31] ^= 1 },
		"shorter":     func(c *export.Content) { c.Body = bytes.NewReader(good[:9]) },
		"empty":       func(c *export.Content) { c.Body = bytes.NewReader(nil) },
		"longer":      func(c *export.Content) { c.Body = strings.NewReader("0123456789 ") },
		"flipped":     func(c *export.Content) { c.Body = strings.NewReader("0123456788") },
		"less size":   func(c *export.Content) { c.Size-- },
		"more size":   func(c *export.Content) { c.Size++ },
		"no size":     func(c *export.Content) { c.Size = -1 },
	} {
		for _, key := range []string{"there", "absent"} {
			for verb, call := range map[string]func(context.Context, audit.TenantID, string, export.Content) error{"put": x.Blobs.Put, "create": x.Blobs.Create, "replace": replace} {
				c := export.ContentOf(good, "")
				change(&c)
				err := call(t.Context(), tenant, key, c)
				if verb != "put" && errors.Is(err, audit.ErrConflict) {
					continue
				}
				if !errors.Is(err, export.ErrContent) {
					t.Errorf("%s of content with %s: got error %v, want %v", verb, name, err, export.ErrContent)
				}
			}
		}
	}
	wantBlob(t, x.Blobs, tenant, "there", []byte("before"))
	wantAbsent(t, x.Blobs, tenant, "absent")
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), []string{"there"})
}

func blobsRefuseBrokenContent(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	put(t, x.Blobs, tenant, "there", []byte("before"))
	for _, cause := range []error{errors.New("the source broke"), io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		c := export.ContentOf(text(100_000), "")
		c.Body = io.MultiReader(io.LimitReader(c.Body, 50_000), iotest.ErrReader(cause))
		wantError(t, x.Blobs.Put(t.Context(), tenant, "there", c), cause)
		wantError(t, x.Blobs.Create(t.Context(), tenant, "absent", c), cause)
	}
	wantBlob(t, x.Blobs, tenant, "there", []byte("before"))
	wantAbsent(t, x.Blobs, tenant, "absent")
}

func blobsNoticeDamage(t *testing.T, x BlobsUnderTest) {
	needs(t, x.Gaps, ContentOnly)
	tenant := newTenant(t)
	for _, size := range []int{1, 100_000} {
		key := fmt.Sprint(size)
		put(t, x.Blobs, tenant, key, text(size))
		x.Damage(t, tenant, key)
		_, _, err := get(t.Context(), x.Blobs, tenant, key)
		wantError(t, err, export.ErrContent)
	}
}

func blobsAbsent(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	wantAbsent(t, x.Blobs, tenant, "absent")
	noError(t, x.Blobs.Delete(t.Context(), tenant, "absent"))
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), nil)
	put(t, x.Blobs, tenant, "a/b/c", []byte("x"))
	for _, key := range []string{"a", "a/b", "a/b/c/d", "a/b/C", "absent", "A/b/c"} {
		wantAbsent(t, x.Blobs, tenant, key)
	}
	noError(t, x.Blobs.Delete(t.Context(), tenant, "a/b"))
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), []string{"a/b/c"})
}

func blobsKeepTenantsApart(t *testing.T, x BlobsUnderTest) {
	first := newTenant(t)
	tenants := []audit.TenantID{first, first + "-b", first[:len(first)-1], newTenant(t)}
	for _, tenant := range tenants {
		put(t, x.Blobs, tenant, "key", []byte("of "+tenant))
		put(t, x.Blobs, tenant, "tenant="+string(tenants[0])+"/key", []byte("below "+tenant))
		put(t, x.Blobs, tenant, "b/key", []byte("b of "+tenant))
	}
	for _, tenant := range tenants {
		wantBlob(t, x.Blobs, tenant, "key", []byte("of "+tenant))
		wantKeys(t, keys(t, x.Blobs, tenant, "", 2), []string{"key", "b/key", "tenant=" + string(tenants[0]) + "/key"})
		wantKeys(t, keys(t, x.Blobs, tenant, "-b", 2), nil)
	}
	noError(t, x.Blobs.Delete(t.Context(), tenants[0], "key"))
	wantAbsent(t, x.Blobs, tenants[0], "key")
	for _, tenant := range tenants[1:] {
		wantBlob(t, x.Blobs, tenant, "key", []byte("of "+tenant))
	}
}

func blobsList(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	all := []string{"a-b/1", "a.b/1", "a/1", "a/10", "a/2", "a0/1", "B/1", "b", "date=2026-01-01/x", "date=2026-01-02/x", "date=2026-01-02/y", "z/z/z/z", "é/1", "日/1", "😀/1"}
	for _, key := range all {
		put(t, x.Blobs, tenant, key, []byte(key))
	}
	for prefix, want := range map[string][]string{
		"": all, "a": {"a-b/1", "a.b/1", "a/1", "a/10", "a/2", "a0/1"}, "a/": {"a/1", "a/10", "a/2"}, "a/1": {"a/1", "a/10"}, "date=2026-01-02/": {"date=2026-01-02/x", "date=2026-01-02/y"},
		"date": {"date=2026-01-01/x", "date=2026-01-02/x", "date=2026-01-02/y"}, "c": nil, "z/z": {"z/z/z/z"}, "é": {"é/1"}, "😀/1": {"😀/1"}, "/": nil, "..": nil, "a//": nil,
	} {
		for _, limit := range []int{1, 2, 4, 1000} {
			wantKeys(t, keys(t, x.Blobs, tenant, prefix, limit), slices.Clone(want))
		}
	}
	slices.Sort(all)
	for i, key := range all {
		page := must[[]export.Listed](t)(x.Blobs.List(t.Context(), tenant, "", key, 1))
		want := all[i+1 : min(i+2, len(all))]
		if got := keysOf(page); !slices.Equal(got, want) {
			t.Fatalf("after %q come %q, want %q", key, got, want)
		}
	}
	page := must[[]export.Listed](t)(x.Blobs.List(t.Context(), tenant, "a/", "a/0", 10)) // after a key that there is not
	if got, want := keysOf(page), []string{"a/1", "a/10", "a/2"}; !slices.Equal(got, want) {
		t.Fatalf("after %q come %q, want %q", "a/0", got, want)
	}
	if page[0].Size != 3 {
		t.Fatalf("got size %d, want 3", page[0].Size)
	}
	if page[0].ModifiedAt.Location() != time.UTC {
		t.Fatalf("got location %v, want %v", page[0].ModifiedAt.Location(), time.UTC)
	}
	for _, limit := range []int{0, -1} {
		if page := must[[]export.Listed](t)(x.Blobs.List(t.Context(), tenant, "", "", limit)); len(page) != 0 {
			t.Fatalf("got %d blobs, want none with the limit %d", len(page), limit)
		}
	}
}

func blobsListMany(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(8)
	var all []string
	for i := range export.MaxList + 5 {
		key := fmt.Sprintf("many/%05d", i)
		all = append(all, key)
		group.Go(func() error { return x.Blobs.Put(ctx, tenant, key, export.ContentOf([]byte(key), "")) })
	}
	noError(t, group.Wait())
	if page := must[[]export.Listed](t)(x.Blobs.List(t.Context(), tenant, "", "", 10*export.MaxList)); len(page) != export.MaxList {
		t.Fatalf("got a page of %d blobs, want %d", len(page), export.MaxList)
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 2000), all)
	wantKeys(t, keys(t, x.Blobs, tenant, "many/", 333), all)
}

// hostileKeys mean something to file systems, to URLs, to XML or to shells.
var hostileKeys = []string{
	"..a", "a..", "...", "a/.../b", ".hidden", "~", "-rf", "%2e%2e", "%2e%2e%2f%2e%2e/etc", "%", "%zz", "%00", "+", "a b", " a ", "a+b", "a%20b", "a&b=c", "a?b", "a#b", "?versionId=1", "?acl",
	`a\b`, `..\..\x`, "c:", "d:/x", "con", "nul/aux", "a:b", "a|b", "a*b", `"`, "'", "<x>", "&amp;", "]]>", "`id`", "$(id)", "${x}", "{a}", "[a]", ";", "a,b", "@", "!", "^", "=",
	"UPPER", "Upper", "upper", "\u00e9", "e\u0301", "\u00c5", "\u212b", "\ufb01", "fi", "İ", "ß", "SS", "日本語/ログ", "👩‍👩‍👧", "\U0010FFFD", "\u2028", "\u202e", "\ufeff", "\ufffd",
	"x.blob", "x.d/y", "x.d.blob", "x.more/y", "tenant=other/x", "_unfinished/x", "soap", "index.html", "favicon.ico",
}

func blobsHostileKeys(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	all := slices.Clone(hostileKeys)
	for _, key := range all {
		noError(t, x.Blobs.Create(t.Context(), tenant, key, export.ContentOf([]byte("of "+key), "")))
	}
	for _, key := range all {
		wantBlob(t, x.Blobs, tenant, key, []byte("of "+key))
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 20), slices.Clone(all))
	for _, key := range hostileKeys {
		wantKeys(t, keys(t, x.Blobs, tenant, key, 20), keysWith(all, key))
		noError(t, x.Blobs.Delete(t.Context(), tenant, key))
		wantAbsent(t, x.Blobs, tenant, key)
		all = slices.DeleteFunc(all, func(other string) bool { return other == key })
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 20), nil)
}

func keysWith(all []string, prefix string) []string {
	var some []string
	for _, key := range all {
		if strings.HasPrefix(key, prefix) {
			some = append(some, key)
		}
	}
	return some
}

func blobsKeysBelowKeys(t *testing.T, x BlobsUnderTest) {
	needs(t, x.Gaps, SegmentsAreFiles)
	tenant := newTenant(t)
	all := []string{"a", "a/b", "a/b/c", "a/b-c", "a/b/c/d.blob", "a/b/c/d", "a.d", "a.blob", "a.d/b", "a.more", "a.more/b"}
	for _, key := range all {
		put(t, x.Blobs, tenant, key, []byte("of "+key))
	}
	for _, key := range all {
		wantBlob(t, x.Blobs, tenant, key, []byte("of "+key))
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 3), slices.Clone(all))
	noError(t, x.Blobs.Delete(t.Context(), tenant, "a/b"))
	wantAbsent(t, x.Blobs, tenant, "a/b")
	wantBlob(t, x.Blobs, tenant, "a/b/c", []byte("of a/b/c"))
	wantKeys(t, keys(t, x.Blobs, tenant, "a/b", 3), []string{"a/b-c", "a/b/c", "a/b/c/d", "a/b/c/d.blob"})
}

func blobsLongKeys(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	tenant += audit.TenantID(strings.Repeat("t", 63-len(tenant))) // the longest there is
	segment := strings.Repeat("k", 236) + "/"
	for name, key := range map[string]string{
		"ascii": strings.Repeat(segment, 4) + "12345",
		"wide":  strings.Repeat(strings.Repeat("é", 118)+"/", 4) + "12345",
		"steps": strings.Repeat("s/", export.MaxKey/2) + "s",
	} {
		if len(key) != export.MaxKey {
			t.Fatalf("the key %s has %d bytes, want %d", name, len(key), export.MaxKey)
		}
		put(t, x.Blobs, tenant, key, []byte(name))
		wantBlob(t, x.Blobs, tenant, key, []byte(name))
		wantKeys(t, keys(t, x.Blobs, tenant, key, 1), []string{key})
		_, err := x.Blobs.Stat(t.Context(), tenant, key+"x")
		wantError(t, err, export.ErrKey)
		noError(t, x.Blobs.Delete(t.Context(), tenant, key))
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), nil)
}

func blobsLongSegment(t *testing.T, x BlobsUnderTest) {
	needs(t, x.Gaps, SegmentsAreFiles)
	tenant := newTenant(t)
	var all []string
	for _, key := range []string{strings.Repeat("k", export.MaxKey), strings.Repeat("é", export.MaxKey/2), strings.Repeat("k", 256), strings.Repeat("é/"+strings.Repeat("l", 400)+"/", 2) + "x"} {
		put(t, x.Blobs, tenant, key, []byte(key))
		wantBlob(t, x.Blobs, tenant, key, []byte(key))
		all = append(all, key)
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), all)
}

func blobsRefuseKeys(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	refuse := func(tenant audit.TenantID, key string) {
		t.Helper()
		_, _, getErr := x.Blobs.Get(t.Context(), tenant, key)
		_, statErr := x.Blobs.Stat(t.Context(), tenant, key)
		c := export.ContentOf([]byte("x"), "")
		for verb, err := range map[string]error{
			"put": x.Blobs.Put(t.Context(), tenant, key, c), "create": x.Blobs.Create(t.Context(), tenant, key, c),
			"replace": x.Blobs.Replace(t.Context(), tenant, key, `"0"`, c),
			"get":     getErr, "stat": statErr, "delete": x.Blobs.Delete(t.Context(), tenant, key),
		} {
			if !errors.Is(err, export.ErrKey) {
				t.Errorf("%s of %q of %q: got error %v, want %v", verb, key, tenant, err, export.ErrKey)
			}
		}
	}
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", "//", ".", "..", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b", "../../etc/passwd", "a/../../b", "\x00", "a\x00b", "a\nb", "a\rb", "\t", "\x7f", "\u0085", "\xff", "a\xc3", "\ufffe", "\uffff",
		strings.Repeat("k", export.MaxKey+1), strings.Repeat("é", export.MaxKey/2+1),
	} {
		refuse(tenant, key)
	}
	for _, unfit := range []audit.TenantID{"", ".", "..", "/", "a/b", "../" + tenant, tenant + "/", tenant + "/..", "A", "a_b", "é", "a\x00", "_unfinished", "%2e%2e", audit.TenantID(strings.Repeat("a", 64))} {
		refuse(unfit, "key")
		_, err := x.Blobs.List(t.Context(), unfit, "", "", 10)
		wantError(t, err, export.ErrKey)
	}
	for _, unfit := range []string{"\x00", "\n", "\xff", strings.Repeat("k", export.MaxKey+1)} {
		_, err := x.Blobs.List(t.Context(), tenant, unfit, "", 10)
		wantError(t, err, export.ErrKey)
		_, err = x.Blobs.List(t.Context(), tenant, "", unfit, 10)
		wantError(t, err, export.ErrKey)
	}
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), nil)
}

func blobsCancelled(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	put(t, x.Blobs, tenant, "there", []byte("before"))
	before := etag(t, x.Blobs, tenant, "there")
	ctx := cancelled(t)
	_, _, getErr := x.Blobs.Get(ctx, tenant, "there")
	_, statErr := x.Blobs.Stat(ctx, tenant, "there")
	_, listErr := x.Blobs.List(ctx, tenant, "", "", 10)
	for verb, err := range map[string]error{
		"put": x.Blobs.Put(ctx, tenant, "there", export.ContentOf([]byte("after"), "")), "create": x.Blobs.Create(ctx, tenant, "absent", export.ContentOf([]byte("after"), "")),
		"replace": x.Blobs.Replace(ctx, tenant, "there", before, export.ContentOf([]byte("after"), "")),
		"get":     getErr, "stat": statErr, "list": listErr, "delete": x.Blobs.Delete(ctx, tenant, "there"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got error %v, want %v", verb, err, context.Canceled)
		}
	}
	wantBlob(t, x.Blobs, tenant, "there", []byte("before"))
	wantKeys(t, keys(t, x.Blobs, tenant, "", 10), []string{"there"})
}

func blobsDelete(t *testing.T, x BlobsUnderTest) {
	tenant := newTenant(t)
	for _, content := range []string{"one", "two"} {
		noError(t, x.Blobs.Create(t.Context(), tenant, "a/b", export.ContentOf([]byte(content), "")))
		wantBlob(t, x.Blobs, tenant, "a/b", []byte(content))
		for range 2 {
			noError(t, x.Blobs.Delete(t.Context(), tenant, "a/b"))
		}
		wantAbsent(t, x.Blobs, tenant, "a/b")
		wantKeys(t, keys(t, x.Blobs, tenant, "", 10), nil)
	}
}

func blobsDescribe(t *testing.T, x BlobsUnderTest) {
	needs(t, x.Gaps, ContentOnly)
	tenant := newTenant(t)
	for mediaType, want := range map[string]string{"": "application/octet-stream", "application/x-ndjson": "application/x-ndjson", "text/csv; charset=utf-8": "text/csv; charset=utf-8"} {
		noError(t, x.Blobs.Put(t.Context(), tenant, "key", export.ContentOf([]byte("x"), mediaType)))
		_, got, err := get(t.Context(), x.Blobs, tenant, "key")
		noError(t, err)
		stat := must[export.Blob](t)(x.Blobs.Stat(t.Context(), tenant, "key"))
		if got.Type != want {
			t.Fatalf("got type %q, want %q", got.Type, want)
		}
		if stat.Type != want {
			t.Fatalf("got type %q, want %q", stat.Type, want)
		}
		if age := time.Since(stat.ModifiedAt); age < -time.Minute || age > 5*time.Minute {
			t.Fatalf("got age %v, want %v to %v", age, -time.Minute, 5*time.Minute)
		} else if stat.ModifiedAt.Location() != time.UTC {
			t.Fatalf("got location %v, want %v", stat.ModifiedAt.Location(), time.UTC)
		}
	}
}
