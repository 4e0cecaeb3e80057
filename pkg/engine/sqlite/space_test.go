package sqlite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
)

func TestPingReportsAFullDisk(t *testing.T) {
	now := time.Now()
	db := open(t, sqlite.WithClock(func() time.Time { return now }))
	if err := db.Ping(t.Context()); err != nil {
		t.Fatalf("ping before the disk is full: %v", err)
	}
	if err := db.LimitPages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	entries := newCorpus().entries("acme", 1000)
	_, err := db.Entries().Append(t.Context(), "acme", entries)
	if !errors.Is(err, audit.ErrStorageFull) {
		t.Errorf("append to a full file: %v, want ErrStorageFull", err)
	}
	var unavailable *audit.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("append to a full file: %v, want an UnavailableError, so that it is tried again", err)
	}
	if err := db.Ping(t.Context()); !errors.Is(err, audit.ErrStorageFull) {
		t.Errorf("ping of a full file: %v, want ErrStorageFull", err)
	}
	now = now.Add(time.Minute)
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("ping a minute after the failure: %v", err)
	}
	if err := db.LimitPages(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Errorf("append once there is space again: %v", err)
	}
}
