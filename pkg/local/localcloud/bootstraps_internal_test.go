package localcloud

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUnusedBootstrapsAreRemoved(t *testing.T) {
	parent, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"used": 2 * unusedAfter, "recent": unusedAfter - time.Hour, "old": unusedAfter + time.Hour} {
		folder := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Join(folder, "create-log"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(folder, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeUnused(parent, filepath.Join(parent, "used"), now); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"used": true, "recent": true, "old": false} {
		if _, err := os.Stat(filepath.Join(parent, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %t", name, err, want)
		}
	}
}
