package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const repository = "../.."

// made releases for one platform and returns the files by name, with those of folders.
func made(t *testing.T, platform target) (folder string, files map[string][]byte) {
	t.Helper()
	s := &settings{
		root: repository, out: filepath.Join(t.TempDir(), "release"), version: "v1.2.3-test",
		time: time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC), targets: []target{platform},
	}
	if err := release(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	err := filepath.WalkDir(s.out, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, relErr := filepath.Rel(s.out, path)
		files[name] = text
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.out, files
}

func TestSameBytesTwice(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program twice")
	}
	host := target{runtime.GOOS, runtime.GOARCH}
	folder, first := made(t, host)
	_, second := made(t, host)
	for name, text := range first {
		if !bytes.Equal(text, second[name]) {
			t.Errorf("%s differs between two runs, want the same bytes", name)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(second))); diff != "" {
		t.Errorf("the files differ (-first +second):\n%s", diff)
	}
	archive := fmt.Sprintf("ocelot_1.2.3-test_%s_%s.tar.gz", host.os, host.arch)
	if host.os == "windows" {
		archive = strings.TrimSuffix(archive, "tar.gz") + "zip"
	}
	want := fmt.Sprintf("%x  %s\n", sha256.Sum256(first[archive]), archive)
	if got := string(first[checksumsFile]); got != want {
		t.Errorf("got checksums %q, want %q", got, want)
	}
	if host.os != "linux" {
		return
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(folder, "image", host.arch, "ocelot"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(out), "ocelot v1.2.3-test ") {
		t.Errorf("got version %q, want that of the release", out)
	}
}

var (
	someTime  = time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)
	someFiles = []file{{"x/LICENSE", 0o644, []byte("text")}, {"x/ocelot", 0o755, []byte("program")}}
)

func TestTar(t *testing.T) {
	var out bytes.Buffer
	if err := writeTar(&out, someFiles, someTime); err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(unpacked)
	for _, want := range someFiles {
		header, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, file{header.Name, header.Mode, text}, cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("the file differs (-want +got):\n%s", diff)
		}
		if !header.ModTime.Equal(someTime) || header.Uid != 0 || header.Uname != "" {
			t.Errorf("%s is of %v, user %d %q, want %v and no user", header.Name, header.ModTime, header.Uid, header.Uname, someTime)
		}
	}
}

func TestZip(t *testing.T) {
	var out bytes.Buffer
	if err := writeZip(&out, someFiles, someTime); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range someFiles {
		f := r.File[i]
		if f.Name != want.name || f.Mode() != os.FileMode(want.mode) || !f.Modified.Equal(someTime) {
			t.Errorf("got %s, mode %v, of %v, want %s, mode %o, of %v", f.Name, f.Mode(), f.Modified, want.name, want.mode, someTime)
		}
	}
}

func TestTargets(t *testing.T) {
	want := []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"}}
	if diff := cmp.Diff(want, targets(), cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("the platforms differ (-want +got):\n%s", diff)
	}
}
