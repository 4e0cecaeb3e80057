package fileblob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Blobs(t, func(t *testing.T) conformance.BlobsUnderTest {
		folder := t.TempDir()
		return conformance.BlobsUnderTest{Blobs: open(t, folder), Damage: func(t *testing.T, tenant audit.TenantID, key string) {
			damage(t, filepath.Join(folder, string(tenant), key+".blob"))
		}}
	})
}

func TestConformanceOfPlainFiles(t *testing.T) {
	conformance.Blobs(t, func(t *testing.T) conformance.BlobsUnderTest {
		blobs := opened(t)(fileblob.OpenPlain(t.TempDir()))
		return conformance.BlobsUnderTest{Blobs: blobs, Gaps: []conformance.Gap{conformance.SegmentsAreFiles, conformance.ContentOnly}}
	})
}

// TestARepeatedCallIsDurable: the first one is killed after it has placed or removed the file, or made one of its folders,
// and before the name is durable. The same call of the next process makes it durable.
func TestARepeatedCallIsDurable(t *testing.T) {
	const key = "a/b/c"
	content := func() export.Content { return export.ContentOf([]byte("one"), "") }
	var etag string
	for name, test := range map[string]struct {
		exists bool
		do     func(b *fileblob.Blobs) error
	}{
		"put":     {false, func(b *fileblob.Blobs) error { return b.Put(t.Context(), "acme", key, content()) }},
		"create":  {false, func(b *fileblob.Blobs) error { return b.Create(t.Context(), "acme", key, content()) }},
		"replace": {true, func(b *fileblob.Blobs) error { return b.Replace(t.Context(), "acme", key, etag, content()) }},
		"delete":  {true, func(b *fileblob.Blobs) error { return b.Delete(t.Context(), "acme", key) }},
	} {
		for kill, killed := 1, true; killed; kill++ {
			folder := t.TempDir()
			first := opened(t)(fileblob.OpenPlain(folder))
			if test.exists {
				before := export.ContentOf([]byte("zero"), "")
				if err := first.Put(t.Context(), "acme", key, before); err != nil {
					t.Fatal(err)
				}
				found, err := first.Stat(t.Context(), "acme", key)
				if err != nil {
					t.Fatal(err)
				}
				etag = found.ETag
			}
			lost := map[string]bool{} // the folders whose entries are not durable
			syncs := 0
			killed = false
			first.Sync(func(folder string, sync func(string) error) error {
				if syncs++; syncs < kill {
					return sync(folder)
				}
				killed, lost[folder] = true, true
				return errKilled
			})
			if err := test.do(first); killed != errors.Is(err, errKilled) {
				t.Fatalf("%s: got error %v, killed %t", name, err, killed)
			}
			next := opened(t)(fileblob.OpenPlain(folder))
			next.Sync(func(folder string, sync func(string) error) error {
				delete(lost, folder)
				return sync(folder)
			})
			if err := test.do(next); err != nil {
				t.Errorf("%s again: %v", name, err)
			}
			if len(lost) > 0 {
				t.Errorf("%s, killed at sync %d: the entries of %v are not durable after the next call", name, kill, lost)
			}
		}
	}
}

var errKilled = errors.New("killed")

// A program without this package finds a plain file under its key, with its content only.
func TestPlainFilesHaveTheContentOnly(t *testing.T) {
	folder := t.TempDir()
	blobs := opened(t)(fileblob.OpenPlain(folder))
	key := "month=2026-11/part-0.parquet"
	if err := blobs.Create(t.Context(), "acme", key, export.ContentOf([]byte("content"), "")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(folder, "tenant=acme", "month=2026-11", "part-0.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "content" {
		t.Errorf("the file has %q, want %q", got, "content")
	}
	for _, name := range []string{".DS_Store", "%", "%2e", ".%2e"} { // left by others
		if err := os.WriteFile(filepath.Join(folder, "tenant=acme", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listed, err := blobs.List(t.Context(), "acme", "", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != 1 || listed[0].Key != key || listed[0].Size != 7 {
		t.Errorf("got the list %+v, want %s with 7 bytes", listed, key)
	}
	if err := blobs.Create(t.Context(), "acme", key+"/below", export.ContentOf(nil, "")); err == nil {
		t.Error("a key below another key: got no error, want one")
	}
}

func open(t *testing.T, folder string) *fileblob.Blobs {
	t.Helper()
	return opened(t)(fileblob.Open(folder))
}

// opened takes what an opening returned. It closes the blobs after the test.
func opened(t *testing.T) func(*fileblob.Blobs, error) *fileblob.Blobs {
	return func(b *fileblob.Blobs, err error) *fileblob.Blobs {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, b)
		return b
	}
}

func closeAfter(t *testing.T, b *fileblob.Blobs) {
	t.Helper()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// damage changes the last byte of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFilesAreNoticed(t *testing.T) {
	for name, change := range map[string]func(text []byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"no header":    func(text []byte) []byte { return text[len(text)-7:] },
		"long header":  func(text []byte) []byte { return append([]byte(strings.Repeat(" ", 5000)), text...) },
		"half a line":  func(text []byte) []byte { return text[:20] },
		"cut short":    func(text []byte) []byte { return text[:len(text)-1] },
		"added to":     func(text []byte) []byte { return append(text, 0) },
		"other header": func([]byte) []byte { return []byte("{}\ncontent") },
	} {
		folder := t.TempDir()
		b := open(t, folder)
		if err := b.Put(t.Context(), "a", "key", export.ContentOf([]byte("content"), "")); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, "a", "key.blob")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(text), 0o600); err != nil {
			t.Fatal(err)
		}
		body, _, err := b.Get(t.Context(), "a", "key")
		if err == nil {
			_, err = io.ReadAll(body)
			err = errors.Join(err, body.Close())
		}
		if !errors.Is(err, export.ErrContent) {
			t.Errorf("%s: got error %v, want %v", name, err, export.ErrContent)
		}
	}
}

// foreign reports whether some file system refuses or changes r in a name.
func foreign(r rune) bool {
	return r >= 0x7f || r >= 'A' && r <= 'Z' || strings.ContainsRune(`\:*?"<>|`, r)
}

// isDevice reports whether Windows takes a name for one of its devices.
func isDevice(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	return slices.Contains([]string{"con", "prn", "aux", "nul", "com1", "lpt1"}, base)
}

func TestTenantsMayBeCalledAsDevices(t *testing.T) {
	folder := t.TempDir()
	b := open(t, folder)
	if err := b.Create(t.Context(), "nul", "key", export.ContentOf([]byte("x"), "")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "nul")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder nul: got error %v, want %v", err, fs.ErrNotExist)
	}
	page, err := b.List(t.Context(), "nul", "", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(page) != 1 {
		t.Errorf("got %d blobs, want 1", len(page))
	}
}

func TestPathsAreTheSameOnEveryFileSystem(t *testing.T) {
	folder := t.TempDir()
	b := open(t, folder)
	seen := map[string]string{} // by path, as a file system without capitals would take it
	for _, key := range []string{"key", "KEY", "Key", "a/b", "A/b", "\u00e9", "e\u0301", "\u00c9", "ı", "i", "I", "con", "nul.a/b", "a:b", strings.Repeat("x", 201), strings.Repeat("x", 200) + "/x", strings.Repeat("x", 400)} {
		if err := b.Create(t.Context(), "a", key, export.ContentOf([]byte(key), "")); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if path == folder {
				return err
			}
			if name := entry.Name(); len(name) > 255 {
				t.Errorf("the key %q has a file name of %d bytes, want at most 255: %s", key, len(name), name)
			} else if strings.ContainsFunc(name, foreign) || isDevice(name) {
				t.Errorf("the key %q has a file called %s, want no sign that a file system may refuse or change", key, name)
			}
			if entry.IsDir() || entry.Name() == "_lock" {
				return err
			}
			if other, known := seen[path]; !known {
				seen[path] = key
			} else if other == key {
				t.Errorf("the keys %q and %q share a file, want one each", key, other)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 17 {
		t.Errorf("%d files, want 17", len(seen))
	}
}

func TestNothingIsReadOutsideOfTheFolder(t *testing.T) {
	outside, folder := t.TempDir(), t.TempDir()
	b := open(t, folder)
	if err := b.Put(t.Context(), "a", "key", export.ContentOf([]byte("x"), "")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folder, "a"), filepath.Join(outside, "a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "a"), filepath.Join(folder, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), "a", "key"); err == nil {
		t.Error("a link out of the folder: got no error from Stat, want one")
	}
	if err := b.Put(t.Context(), "a", "new", export.ContentOf([]byte("x"), "")); err == nil {
		t.Error("a link out of the folder: got no error from Put, want one")
	}
}

func TestOpenRemovesWhatWasAbandoned(t *testing.T) {
	folder := t.TempDir()
	open(t, folder)
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		path := filepath.Join(folder, "_unfinished", name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Now(), time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, folder)
	wantUnfinished(t, folder, "young")
}

func TestFailuresLeaveNothingUnfinished(t *testing.T) {
	folder := t.TempDir()
	b := open(t, folder)
	c := export.ContentOf([]byte("content"), "")
	c.Body = iotest.ErrReader(errors.New("broke"))
	if err := b.Put(t.Context(), "a", "key", c); err == nil {
		t.Error("content that broke: got no error from Put, want one")
	}
	for range 2 {
		if err := b.Create(t.Context(), "a", "key", export.ContentOf([]byte("content"), "")); err != nil {
			t.Error(err)
		}
	}
	wantUnfinished(t, folder)
}

func wantUnfinished(t *testing.T, folder string, want ...string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(folder, "_unfinished"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("unfinished are %v, want %v", names, want)
	}
}

// folderVariable makes TestKilledWriterLosesNothing write into the folder that
// it names until it is killed.
const folderVariable = "OCELOT_TEST_FOLDER"

func TestKilledWriterLosesNothing(t *testing.T) {
	if folder := os.Getenv(folderVariable); folder != "" {
		writeUntilKilled(t, folder)
	}
	folder := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledWriterLosesNothing$")
	cmd.Env = append(os.Environ(), folderVariable+"="+folder)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for acknowledged < 50 {
		if _, err := fmt.Fscanf(output, "stored %d\n", &acknowledged); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	b := open(t, folder)
	for i := range acknowledged {
		if _, err := b.Stat(t.Context(), "a", fmt.Sprintf("key/%d", i)); err != nil {
			t.Error(err)
		}
	}
	listed, err := b.List(t.Context(), "a", "", "", export.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) < acknowledged {
		t.Fatalf("got %d blobs, want at least the %d acknowledged", len(listed), acknowledged)
	}
	for _, blob := range listed { // those that were not acknowledged are whole too
		body, _, err := b.Get(t.Context(), "a", blob.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// linesVariable makes TestProcessesReplaceWithoutLoss a process that adds lines to a blob of the folder
// that it names.
const linesVariable = "OCELOT_TEST_LINES"

func TestProcessesReplaceWithoutLoss(t *testing.T) {
	const processes, lines = 3, 50
	if folder := os.Getenv(linesVariable); folder != "" {
		addLines(t, folder, lines)
		return
	}
	folder := t.TempDir()
	b := open(t, folder)
	if err := b.Create(t.Context(), "a", "key", export.ContentOf(nil, "")); err != nil {
		t.Fatal(err)
	}
	running := make([]*exec.Cmd, processes)
	for i := range running {
		running[i] = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesReplaceWithoutLoss$")
		running[i].Env = append(os.Environ(), linesVariable+"="+folder)
		running[i].Stderr = t.Output()
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, process := range running {
		if err := process.Wait(); err != nil {
			t.Error(err)
		}
	}
	content, _ := contentOf(t, b)
	if got, want := strings.Count(string(content), "\n"), processes*lines; got != want {
		t.Errorf("got %d lines, want %d", got, want)
	}
}

func addLines(t *testing.T, folder string, lines int) {
	t.Helper()
	b := open(t, folder)
	for added := 0; added < lines; {
		content, etag := contentOf(t, b)
		content = fmt.Appendf(content, "%d of process %d\n", added, os.Getpid())
		err := b.Replace(t.Context(), "a", "key", etag, export.ContentOf(content, ""))
		if err == nil {
			added++
		} else if !errors.Is(err, audit.ErrConflict) {
			t.Fatal(err)
		}
	}
}

func contentOf(t *testing.T, b *fileblob.Blobs) (content []byte, etag string) {
	t.Helper()
	body, found, err := b.Get(t.Context(), "a", "key")
	if err != nil {
		t.Fatal(err)
	}
	if content, err = io.ReadAll(body); err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	return content, found.ETag
}

func writeUntilKilled(t *testing.T, folder string) {
	b := open(t, folder)
	content := []byte(strings.Repeat("content ", 10_000))
	for i := range 100_000 {
		if err := b.Put(t.Context(), "a", fmt.Sprintf("key/%d", i), export.ContentOf(content, "")); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("stored %d\n", i+1)
	}
	t.Fatal("wrote 100,000 blobs, want the process killed before")
}
