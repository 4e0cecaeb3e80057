package keyfile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/keyfile"
)

// Of several that make a key at once, one does, and all read the same key.
func TestMakeKeepsTheFirstKey(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "folder")
	path := filepath.Join(folder, "some.key")
	if _, err := keyfile.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want %v", err, fs.ErrNotExist)
	}
	var group sync.WaitGroup
	made, keys := make([]bool, 8), make([][]byte, 8)
	for i := range keys {
		group.Go(func() {
			var err error
			if made[i], err = keyfile.Make(path); err != nil {
				t.Error(err)
			}
			if keys[i], err = keyfile.Read(path); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	count := 0
	for i := range keys {
		if made[i] {
			count++
		}
		if len(keys[i]) != keyfile.Size {
			t.Errorf("got a key of %d bytes, want %d", len(keys[i]), keyfile.Size)
		}
		if !bytes.Equal(keys[i], keys[0]) {
			t.Errorf("key %d differs from the first one", i)
		}
	}
	if count != 1 {
		t.Errorf("%d calls made a key, want 1", count)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 {
		t.Errorf("got %d files in the folder, want 1", len(files))
	}
}

func TestReadRefusesOtherTexts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some.key")
	for _, text := range []string{"", "\n", "ab", "nonsense", string(bytes.Repeat([]byte("ab"), keyfile.Size-1)), string(bytes.Repeat([]byte("ab"), keyfile.Size+1))} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(path); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}
