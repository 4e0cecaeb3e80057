package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPingAfterAFailedCommit: an empty transaction would succeed on a disk that cannot be written, so Ping writes a page.
func TestPingAfterAFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocelot.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	ping := func() (logged int64) {
		t.Helper()
		if err := db.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	idle := ping()
	if again := ping(); again != idle {
		t.Errorf("a ping has written %d bytes, want none", again-idle)
	}
	db.writer.commitFailed.Store(true)
	if after := ping(); after <= idle {
		t.Error("a ping after a failed commit has written nothing")
	}
	if db.writer.commitFailed.Load() {
		t.Error("the failure is not forgotten after a write that succeeded")
	}
}
