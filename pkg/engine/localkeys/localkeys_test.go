package localkeys_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/testkit/conformance"
)

func TestConformance(t *testing.T) {
	conformance.KeyWrapper(t, func(t *testing.T) conformance.KeyWrapperUnderTest {
		folder := filepath.Join(t.TempDir(), "data")
		return conformance.KeyWrapperUnderTest{Wrapper: open(t, folder), Disable: func(t *testing.T) {
			if err := os.Remove(filepath.Join(folder, "master.key")); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

func open(t *testing.T, folder string) *localkeys.Wrapper {
	t.Helper()
	w, err := localkeys.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheKeyIsMadeOnce(t *testing.T) {
	folder := t.TempDir()
	wrapped, err := open(t, folder).Wrap(t.Context(), "a", []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := open(t, folder).Unwrap(t.Context(), "a", wrapped); err != nil {
		t.Error(err)
	} else if string(key) != "key" {
		t.Errorf("another process unwraps %q, want %q", key, "key")
	}
	info, err := os.Stat(filepath.Join(folder, "master.key"))
	if err != nil {
		t.Error(err)
	} else if got := info.Mode().Perm(); got != 0o600 && runtime.GOOS != "windows" { // which has no such modes
		t.Errorf("the key's file has the mode %v, want %v", got, fs.FileMode(0o600))
	}
	if files, err := os.ReadDir(folder); err != nil {
		t.Error(err)
	} else if len(files) != 1 {
		t.Errorf("the folder has %v, want 1 file", files)
	}
}

func TestProcessesThatStartAtOnceHaveTheSameKey(t *testing.T) {
	folder := t.TempDir()
	var wrappers [8]*localkeys.Wrapper
	var running sync.WaitGroup
	for i := range wrappers {
		running.Go(func() { wrappers[i], _ = localkeys.Open(folder) })
	}
	running.Wait()
	for _, one := range wrappers {
		if one == nil {
			t.Fatal("a key was not opened, want all")
		}
		wrapped, err := one.Wrap(t.Context(), "a", []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		if key, err := wrappers[0].Unwrap(t.Context(), "a", wrapped); err != nil {
			t.Error(err)
		} else if !bytes.Equal(key, []byte("key")) {
			t.Errorf("unwrapped %q, want %q", key, "key")
		}
	}
}

func TestABrokenKeyIsNotReplaced(t *testing.T) {
	for _, text := range []string{"", "00", "not hexadecimal", string(bytes.Repeat([]byte("0"), 66))} {
		folder := t.TempDir()
		path := filepath.Join(folder, "master.key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := localkeys.Open(folder); err == nil {
			t.Errorf("a file with %q: got no error, want one", text)
		}
		if left, err := os.ReadFile(path); err != nil {
			t.Error(err)
		} else if string(left) != text {
			t.Errorf("the file holds %q, want %q as before", left, text)
		}
	}
}
