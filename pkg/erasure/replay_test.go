package erasure_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// replay returns a replay in another process, and its log.
func (w *world) replay() (*erasure.Replay, *bytes.Buffer) {
	var log bytes.Buffer
	return &erasure.Replay{
		Tombstones: w.tombstones, Keys: w.db.TenantKeys(), Destroy: w.process().Destroy, FreeSpace: w.db.FreeSpace(), Now: w.clock,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	}, &log
}

// wantReplayed runs a replay, and checks how many keys it destroys.
func (w *world) wantReplayed(want int) {
	w.t.Helper()
	replay, log := w.replay()
	got, err := replay.Run(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if got != want {
		w.t.Errorf("the replay destroyed %d keys, want %d", got, want)
	}
	if told := strings.Contains(log.String(), fmt.Sprintf("keys=%d", want)); told != (want > 0) {
		w.t.Errorf("it logged %q, want a line only about keys", log)
	}
}

// sql runs statements in the database as an operator does.
func (w *world) sql(statements ...string) {
	w.t.Helper()
	file, err := sql.Open("sqlite", "file:"+w.file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, s := range statements {
		if _, err := file.ExecContext(w.t.Context(), s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (w *world) backUpKeys() { w.t.Helper(); w.sql(`CREATE TABLE backup AS SELECT * FROM tenant_keys`) }

func (w *world) restoreKeys() {
	w.t.Helper()
	w.sql(`DELETE FROM tenant_keys`, `INSERT INTO tenant_keys SELECT * FROM backup`)
}

// erase erases user-42 to the end.
func (w *world) erase() {
	w.t.Helper()
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
}

// TestATombstoneOfAWrongClockIsReplayed: the clock of its worker is a day behind, and later hours were replayed before
// the database was saved.
func TestATombstoneOfAWrongClockIsReplayed(t *testing.T) {
	w := newWorld(t)
	w.encrypt(w.process(), 1)
	w.erase()
	w.now = w.now.Add(3 * time.Hour)
	w.wantReplayed(0)
	w.tombstones.Clock = func(context.Context) (time.Time, error) { return w.now, nil }
	w.tombstones.Now = func() time.Time { return w.now.Add(-24 * time.Hour) }
	second := w.encrypt(w.process(), 2)
	w.backUpKeys()
	w.erase()
	w.restoreKeys()
	w.wantOpens(w.process(), second, true)
	w.wantReplayed(1)
	w.wantOpens(w.process(), second, false)
}

func TestARestoreOfKeysUndoesNoErasure(t *testing.T) {
	w := newWorld(t)
	first := w.encrypt(w.process(), 1)
	w.wantReplayed(0)
	w.now = w.now.Add(5 * time.Hour)
	w.wantReplayed(0)
	w.backUpKeys()
	w.erase()
	second := w.encrypt(w.process(), 2)
	w.erase()
	w.now = w.now.Add(48 * time.Hour)
	w.wantReplayed(0) // and its progress passes the erasures
	w.restoreKeys()
	w.wantOpens(w.process(), first, true)
	w.wantReplayed(2) // the restored generation, and the one that the store does not know
	w.wantOpens(w.process(), first, false)
	w.wantOpens(w.process(), second, false)
	later := w.encrypt(w.process(), 3)
	for range 2 {
		w.wantReplayed(0)
		w.now = w.now.Add(3 * time.Hour)
	}
	w.wantOpens(w.process(), later, true)
}

// TestADeletedTenantsKeysStayGone: the root's tombstone precedes its destruction.
func TestADeletedTenantsKeysStayGone(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.backUpKeys()
	purger := &erasure.KeyPurger{Tombstones: w.tombstones, Keys: w.db.TenantKeys()}
	for range 2 {
		if _, err := purger.Purge(t.Context(), "acme", 10); err != nil {
			t.Fatal(err)
		}
	}
	w.restoreKeys()
	w.wantOpens(w.process(), value, true)
	w.wantReplayed(1)
	w.wantOpens(w.process(), value, false)
	w.wantReplayed(0)
}

// killed fails before it does something, as a worker that is killed there.
type killed struct {
	erasure.Keys
	dead bool
}

func (k *killed) Destroy(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	if k.dead {
		return errDown
	}
	return k.Keys.Destroy(ctx, tenant, ref)
}

func TestATombstoneIsWrittenBeforeTheDestruction(t *testing.T) {
	w := newWorld(t)
	before := w.encrypt(w.process(), 1)
	keys := &killed{Keys: w.process(), dead: true}
	w.runner.Keys = keys
	e := w.create(0)
	w.work(1)
	w.wantOpens(w.process(), before, true)
	w.wantReplayed(1)
	w.wantOpens(w.process(), before, false)
	after := w.encrypt(w.process(), 2)
	keys.dead = false
	w.work(1) // and it writes the tombstone again
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantReplayed(0)
	w.wantOpens(w.process(), after, true)
}

// refusing is a store whose keys of one tenant cannot be destroyed.
type refusing struct {
	erasure.Keys
	tenant audit.TenantID
}

func (r *refusing) Destroy(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	if tenant == r.tenant {
		return errDown
	}
	return r.Keys.Destroy(ctx, tenant, ref)
}

// TestATenantThatFailsStopsNoOther: it is tried again, also after its hour has passed.
func TestATenantThatFailsStopsNoOther(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.backUpKeys()
	w.erase()
	if _, err := w.process().Tenant(t.Context(), "aaa"); err != nil {
		t.Fatal(err)
	}
	if err := w.tombstones.Write(t.Context(), "aaa", protect.RootRef); err != nil {
		t.Fatal(err)
	}
	w.sql(`INSERT INTO backup SELECT * FROM tenant_keys WHERE tenant = 'aaa'`)
	w.restoreKeys()
	w.now = w.now.Add(5 * time.Hour)
	replay, _ := w.replay()
	replay.Destroy = (&refusing{Keys: w.process(), tenant: "aaa"}).Destroy
	if _, err := replay.Run(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("got error %v, want %v", err, errDown)
	}
	w.wantOpens(w.process(), value, false)
	w.wantReplayed(1)
	w.wantReplayed(0)
}

// unavailable is a blob store that cannot be reached.
type unavailable struct{}

func (unavailable) Create(context.Context, audit.TenantID, string, export.Content) error {
	return &audit.UnavailableError{Err: errDown}
}

func (unavailable) List(context.Context, audit.TenantID, string, string, int) ([]export.Listed, error) {
	return nil, &audit.UnavailableError{Err: errDown}
}

func TestAnErasureWaitsForItsTombstone(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	blobs := w.tombstones.Blobs
	w.tombstones.Blobs = unavailable{}
	e := w.create(0)
	w.work(2)
	w.wantState(e.ID, jobs.StateRunning)
	w.wantOpens(w.process(), value, true)
	replay, _ := w.replay()
	if _, err := replay.Run(t.Context()); !audit.IsUnavailable(err) {
		t.Errorf("replay while the store is down: got error %v, want one that says so", err)
	}
	w.tombstones.Blobs = blobs
	w.work(1)
	w.wantOpens(w.process(), value, false)
}

func TestReplaysAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	w.backUpKeys()
	w.erase()
	w.restoreKeys()
	var running sync.WaitGroup
	for range 4 {
		replay, _ := w.replay()
		running.Go(func() {
			if _, err := replay.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	w.wantOpens(w.process(), value, false)
	w.encrypt(w.process(), 2)
	w.wantReplayed(0)
}

func TestTombstonesNameNobody(t *testing.T) {
	w := newWorld(t)
	w.encrypt(w.process(), 1)
	w.erase()
	files := 0
	err := filepath.WalkDir(w.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "_lock" { // it is empty; see package fileblob
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if bytes.Contains(append(text, path...), []byte("user-42")) {
			t.Errorf("%s names the subject: %s", path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files != 1 {
		t.Errorf("the blob store has %d files, want 1", files)
	}
}

// listed is a blob store in memory.
type listed struct {
	keys  []string
	asked []string // the keys after which it was asked to list
}

func (l *listed) Create(_ context.Context, _ audit.TenantID, key string, _ export.Content) error {
	l.keys = append(l.keys, key)
	slices.Sort(l.keys)
	return nil
}

func (l *listed) List(_ context.Context, _ audit.TenantID, prefix, after string, limit int) ([]export.Listed, error) {
	l.asked = append(l.asked, after)
	var page []export.Listed
	for _, key := range l.keys {
		if strings.HasPrefix(key, prefix) && key > after && len(page) < limit {
			page = append(page, export.Listed{Key: key})
		}
	}
	return page, nil
}

// TestManyTombstonesAreReplayedInPages: what is none stops nothing, and what is replayed is not listed
// again once its hour cannot get more.
func TestManyTombstonesAreReplayedInPages(t *testing.T) {
	w := newWorld(t)
	blobs := &listed{}
	w.tombstones.Blobs = blobs
	if _, err := w.process().Tenant(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	const tombstones = export.MaxList + 200
	for n := range tombstones {
		if n == 900 {
			w.now = w.now.Add(time.Hour)
		}
		subject := protect.SubjectID([]byte(fmt.Sprintf("subject %08d", n)))
		if err := w.tombstones.Write(t.Context(), "acme", protect.KeyRef{Subject: subject, Generation: 7}); err != nil {
			t.Fatal(err)
		}
	}
	others := []string{"2026", "2026-03-02T09Z/acme/x.1", "2026-03-02T09Z/acme/" + strings.Repeat("a", 32), "2026-03-02T09Z/acme/" + strings.Repeat("a", 32) + ".01", "x/y/z", "2026-03-02T9Z/acme/" + strings.Repeat("a", 32) + ".1"}
	blobs.keys = append(blobs.keys, others...)
	slices.Sort(blobs.keys)
	w.now = w.now.Add(3 * time.Hour)
	w.wantReplayed(tombstones)
	if got, want := len(blobs.asked), 2; got != want {
		t.Errorf("it listed %d pages, want %d", got, want)
	}
	blobs.asked = nil
	w.wantReplayed(0)
	if got, want := strings.Join(blobs.asked, " "), "2026-03-02T11Z"; got != want {
		t.Errorf("it listed again what follows %s, want %s", got, want)
	}
}
