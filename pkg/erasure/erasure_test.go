package erasure_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

var (
	acme  = audit.Tenant{ID: "acme", Status: audit.TenantActive}
	admin = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.SubjectsErase}}}
	other = access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{"acme": {access.LogsRead}}}
)

const settleTime = 6 * time.Minute

var errDown = errors.New("down")

// world is a service and a worker over the embedded engine, with the time and the messages.
type world struct {
	*erasure.Service
	t          *testing.T
	worker     *jobs.Worker
	runner     *erasure.Runner
	tombstones *erasure.Tombstones
	db         *sqlite.DB
	master     *localkeys.Wrapper
	file       string
	folder     string // of the blob store
	now        time.Time
	messages   []string
	recorded   []audit.Entry
	noRecord   error
	tenant     audit.Tenant
	exports    exports

	archive      *fileblob.Blobs
	archiveCheck *erasure.ArchiveCheck
}

// exports counts how often revealed exports were to be removed.
type exports struct {
	calls   int
	removed int64 // is answered
	pauses  int   // how many slices end before it is done, with one more file removed
	fails   error
	erasure string // of the last call
}

// RemoveRevealed implements erasure.Exports.
func (e *exports) RemoveRevealed(_ context.Context, _ audit.TenantID, erasure string, at *export.Removal, _ func() bool) (bool, error) {
	e.calls, e.erasure = e.calls+1, erasure
	if e.pauses > 0 {
		e.pauses--
		at.Removed++
		return false, nil
	}
	if e.fails != nil {
		return false, e.fails
	}
	at.Removed += e.removed
	return true, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), tenant: acme, file: filepath.Join(t.TempDir(), "test.db")}
	var err error
	if w.master, err = localkeys.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqlite.Open(t.Context(), w.file, sqlite.WithClock(w.clock)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.folder = t.TempDir()
	blobs, err := fileblob.Open(w.folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	})
	w.tombstones = &erasure.Tombstones{Blobs: blobs, Now: w.clock}
	service := &jobs.Service{Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Recorder: w, Now: w.clock}
	w.Service = &erasure.Service{Jobs: service, Subjects: w.process(), Holds: w.db.Holds(), Recorder: w, Now: w.clock, Random: random}
	w.runner = &erasure.Runner{
		Keys: w.process(), Tombstones: w.tombstones, Holds: w.db.Holds(), Store: w.db.Entries(), Entries: w.db.Entries(), Index: w.db.Index(), Exports: &w.exports, Tenants: w, Recorder: w, FreeSpace: w.db.FreeSpace(), SettleTime: settleTime, Now: w.clock, Random: random,
		Certificates: &certificate.Issuer{Store: w.db.Certificates(), Wrapper: w.master, Random: random}, BackupTime: 35 * 24 * time.Hour,
	}
	w.runner.Quarantine = &quarantine.Rewriter{Store: w.db.Quarantine()}
	if w.archive, err = fileblob.OpenPlain(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.archive.Close() })
	w.runner.Archive = &archive.Reader{Blobs: w.archive}
	w.archiveCheck = &erasure.ArchiveCheck{
		Holds: w.db.Holds(), Tenants: w, Archived: func(tenant audit.TenantID, from, to time.Time) export.ArchivedEntries {
			return archive.NewEntries(w.archive, tenant, from, to)
		},
	}
	w.worker = &jobs.Worker{
		Store: w.db.Jobs(), Queues: jobs.Queues{Jobs: w, Archive: w}, Runners: map[jobs.Kind]jobs.Runner{jobs.KindErasure: eitherRunner{w}}, Now: w.clock,
		Recorder: w, Tenants: w, Random: random, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return w
}

// eitherRunner is that of the workers of the archive for what they are to do.
type eitherRunner struct{ *world }

func (r eitherRunner) Run(ctx context.Context, s *jobs.Slice) (jobs.Result, error) {
	if s.Job.Archive {
		return r.archiveCheck.Run(ctx, s)
	}
	return r.runner.Run(ctx, s)
}

func random(b []byte) { _, _ = rand.Read(b) }

func (w *world) clock() time.Time { return w.now }

// process returns the keyring of another process.
func (w *world) process() *protect.Keyring {
	return protect.NewKeyring(w.db.TenantKeys(), w.master, w.clock, random)
}

// Send implements jobs.Queue.
func (w *world) Send(_ context.Context, _ audit.TenantID, bodies []string) error {
	w.messages = append(w.messages, bodies...)
	return nil
}

// SendAfter implements jobs.Queue. The delay passes at once: a message can come earlier.
func (w *world) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return w.Send(ctx, tenant, []string{body})
}

// Record implements jobs.Recorder. As stores do, it drops what has a known id.
func (w *world) Record(_ context.Context, _ audit.Tenant, entry audit.Entry) error {
	if w.noRecord != nil {
		return w.noRecord
	}
	for _, e := range w.recorded {
		if !entry.ID.IsZero() && e.ID == entry.ID {
			return nil
		}
	}
	w.recorded = append(w.recorded, entry)
	return nil
}

// Tenant implements jobs.Tenants.
func (w *world) Tenant(context.Context, audit.TenantID) (audit.Tenant, error) { return w.tenant, nil }

// Tombstone implements jobs.Tenants.
func (w *world) Tombstone(context.Context, audit.TenantID, int64) error { return errDown }

// create starts an erasure of user-42.
func (w *world) create(hours int) erasure.Erasure {
	w.t.Helper()
	e, err := w.Create(w.t.Context(), admin, acme, erasure.Request{Subject: "user-42", Reason: "request 17", DelayHours: hours})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// work handles the newest message n times.
func (w *world) work(n int) {
	w.t.Helper()
	for range n {
		if err := w.worker.Handle(w.t.Context(), w.messages[len(w.messages)-1]); err != nil {
			w.t.Errorf("handle a message: %v", err)
		}
	}
}

func (w *world) wantState(id string, want jobs.State) {
	w.t.Helper()
	e, err := w.Erasure(w.t.Context(), admin, "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	if e.State != want {
		w.t.Errorf("the erasure is %s, want %s", e.State, want)
	}
}

// encrypted is a value that an entry has under a key of user-42.
type encrypted struct {
	id      audit.EntryID
	element audit.Encrypted
}

func (w *world) encrypt(k *protect.Keyring, generation uint32) encrypted {
	w.t.Helper()
	keys, err := k.Current(w.t.Context(), "acme", []string{"user-42"})
	if err != nil {
		w.t.Fatal(err)
	}
	key := keys["user-42"]
	if key.Ref.Generation != generation {
		w.t.Errorf("encrypted with generation %d, want %d", key.Ref.Generation, generation)
	}
	e := encrypted{id: audit.NewEntryID(w.now, [10]byte{1})}
	if e.element, err = protect.Seal(&key, "acme", e.id, []string{"/message"}, [][]byte{[]byte(`"secret"`)}, random); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// wantOpens checks whether a process can decrypt the value.
func (w *world) wantOpens(k *protect.Keyring, e encrypted, want bool) {
	w.t.Helper()
	ref, err := protect.RefOf(&e.element)
	if err != nil {
		w.t.Fatal(err)
	}
	o, err := k.Opening(w.t.Context(), "acme", []protect.KeyRef{ref})
	if err != nil {
		w.t.Fatal(err)
	}
	key, has := o.Keys[ref]
	if has != want {
		w.t.Errorf("the key can be had: %t, want %t", has, want)
	}
	if o.Destroyed[ref] == want {
		w.t.Errorf("the key is known as destroyed: %t, want %t", o.Destroyed[ref], !want)
	}
	if has {
		if _, err := protect.Open(&key, "acme", e.id, &e.element); err != nil {
			w.t.Errorf("decrypt: got %v, want no error", err)
		}
	}
}

// hold sets a hold on entries of users, and returns how to release it.
func (w *world) hold(users ...string) (release func()) {
	w.t.Helper()
	h := hold.Hold{ID: strings.Join(users, "-") + " held", Tenant: "acme", UserIDs: users, CreatedAt: w.now, Version: 1}
	if err := w.db.Holds().CreateHold(w.t.Context(), h); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		h.ReleasedAt, h.Version = w.now, 2
		if err := w.db.Holds().UpdateHold(w.t.Context(), h); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestAHoldRefusesErasures(t *testing.T) {
	for name, users := range map[string][]string{"of everything": nil, "of the subject": {"eve", "user-42"}} {
		w := newWorld(t)
		release := w.hold(users...)
		request := erasure.Request{Subject: "user-42", Reason: "r"}
		if _, err := w.Create(t.Context(), admin, acme, request); !errors.Is(err, hold.ErrHeld) {
			t.Errorf("a hold %s: got error %v, want %v", name, err, hold.ErrHeld)
		}
		release()
		if _, err := w.Create(t.Context(), admin, acme, request); err != nil {
			t.Errorf("a hold %s, released: got error %v, want none", name, err)
		}
	}
}

// TestAHoldStopsAnErasure: what the hold covers is known only when the erasure begins.
func TestAHoldStopsAnErasure(t *testing.T) {
	for name, test := range map[string]struct {
		held string
		want jobs.State
	}{"an entry of another user has a value": {"eve", jobs.StateFailed}, "no entry has": {"adam", jobs.StateRunning}} {
		w := newWorld(t)
		value := w.encrypt(w.process(), 1)
		e := audit.Entry{
			ID: value.id, Tenant: "acme", UserID: "eve", Action: "VIEW", ResourceType: "order", Timestamp: value.id.Time(), ReceivedAt: w.now,
			Encrypted: []audit.Encrypted{value.element},
		}
		if _, err := w.db.Entries().Append(t.Context(), "acme", []audit.Entry{e}); err != nil {
			t.Fatal(err)
		}
		created := w.create(24)
		w.hold(test.held)
		w.now = w.now.Add(24 * time.Hour)
		w.work(3)
		w.wantState(created.ID, test.want)
		w.wantOpens(w.process(), value, test.want == jobs.StateFailed)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// readHook calls something before each page of entries.
type readHook struct {
	retention.Store
	before func()
}

// Retained implements retention.Store.
func (h readHook) Retained(ctx context.Context, tenant audit.TenantID, of retention.Selection, limit int) ([]retention.Entry, error) {
	h.before()
	return h.Store.Retained(ctx, tenant, of, limit)
}

// TestAHoldThatIsSetDuringTheCheckCounts: the check had passed its entry already.
func TestAHoldThatIsSetDuringTheCheckCounts(t *testing.T) {
	w := newWorld(t)
	value := w.encrypt(w.process(), 1)
	entries := []audit.Entry{{
		ID: value.id, Tenant: "acme", UserID: "eve", Action: "VIEW", ResourceType: "order", Timestamp: value.id.Time(), ReceivedAt: w.now,
		Encrypted: []audit.Encrypted{value.element},
	}}
	for i := range 3 * retention.MaxEncrypted {
		e := entries[0]
		e.Timestamp = w.now.Add(time.Duration(i+1) * time.Second)
		e.ID, e.UserID, e.Encrypted = audit.NewEntryID(e.Timestamp, [10]byte{1}), "adam", nil
		entries = append(entries, e)
	}
	if _, err := w.db.Entries().Append(t.Context(), "acme", entries); err != nil {
		t.Fatal(err)
	}
	created := w.create(0)
	w.hold("somebody")
	pages := 0
	w.runner.Store = readHook{w.db.Entries(), func() {
		if pages++; pages == 3 {
			w.hold("eve")
		}
	}}
	w.work(1)
	w.wantState(created.ID, jobs.StateFailed)
	w.wantOpens(w.process(), value, true)
}

func TestAnErasureWaitsDestroysAndSettles(t *testing.T) {
	w := newWorld(t)
	cached := w.process()
	before := w.encrypt(cached, 1)
	e := w.create(24)
	if want := w.now.Add(24 * time.Hour); !e.ErasesAt.Equal(want) {
		t.Errorf("it erases at %s, want %s", e.ErasesAt, want)
	}
	w.work(3)
	w.now = w.now.Add(24*time.Hour - time.Millisecond)
	during := w.encrypt(cached, 1)
	w.work(1)
	w.wantOpens(w.process(), before, true)
	w.wantState(e.ID, jobs.StateRunning)

	w.now = w.now.Add(time.Millisecond)
	w.work(1)
	w.wantState(e.ID, jobs.StateRunning)
	w.wantOpens(w.process(), before, false)
	w.wantOpens(cached, during, true) // it read the key a moment ago
	w.encrypt(cached, 1)
	w.now = w.now.Add(settleTime - time.Millisecond)
	w.work(1)
	w.wantState(e.ID, jobs.StateRunning)
	w.now = w.now.Add(time.Millisecond)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantOpens(cached, before, false)
	w.wantOpens(cached, during, false)
	after := w.encrypt(cached, 2)
	w.wantOpens(w.process(), after, true)
}

// busySpace is a file in which others remove something during each step. A step erases what one removal left, and
// takes a slice.
type busySpace struct {
	*world
	removed, erased int64
}

// Pending implements jobs.Space.
func (s *busySpace) Pending(context.Context) (int64, error) { return s.removed, nil }

// Erase implements jobs.Space.
func (s *busySpace) Erase(_ context.Context, removal int64) (bool, error) {
	if s.erased >= removal {
		return true, nil
	}
	s.now = s.now.Add(jobs.SliceTime)
	s.removed++
	s.erased++
	return s.erased >= removal, nil
}

// TestAnErasureWaitsForNoLaterRemoval: it erases what it left itself.
func TestAnErasureWaitsForNoLaterRemoval(t *testing.T) {
	w := newWorld(t)
	w.runner.FreeSpace = &busySpace{world: w, removed: 3}
	e := w.create(0)
	w.work(3)
	w.wantState(e.ID, jobs.StateRunning)
	w.now = w.now.Add(settleTime)
	w.work(3)
	w.wantState(e.ID, jobs.StateSucceeded)
}

// TestAnErasureWaitsByTheSharedClock: the clock of a worker is a day ahead. The erasure can be canceled.
func TestAnErasureWaitsByTheSharedClock(t *testing.T) {
	w := newWorld(t)
	shared := w.now
	clock := func(context.Context) (time.Time, error) { return shared, nil }
	w.Clock, w.runner.Clock = clock, clock
	before := w.encrypt(w.process(), 1)
	w.now = w.now.Add(-24 * time.Hour)
	e := w.create(24)
	if want := shared.Add(24 * time.Hour); !e.ErasesAt.Equal(want) {
		t.Errorf("it erases at %s, want %s", e.ErasesAt, want)
	}
	w.now = shared.Add(48 * time.Hour)
	shared = shared.Add(24*time.Hour - time.Millisecond)
	w.work(2)
	w.wantOpens(w.process(), before, true)
	shared = shared.Add(time.Millisecond)
	w.work(1)
	w.wantOpens(w.process(), before, false)
}

// TestAKeyIsGoneByTheSharedClock: the clocks of the worker that destroys it and of the next one are a day off.
func TestAKeyIsGoneByTheSharedClock(t *testing.T) {
	const oneDay = 24 * time.Hour
	for _, off := range [][2]time.Duration{{0, oneDay}, {oneDay, 0}, {oneDay, -oneDay}} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			w := newWorld(t)
			began := w.now
			shared := began
			clock := func(context.Context) (time.Time, error) { return shared, nil }
			w.Clock, w.runner.Clock, w.tombstones.Clock = clock, clock, clock
			e := w.create(0)
			w.now = shared.Add(off[0])
			w.work(1)
			shared = began.Add(settleTime - time.Millisecond)
			w.now = shared.Add(off[1])
			w.work(1)
			w.wantState(e.ID, jobs.StateRunning)
			shared = began.Add(settleTime)
			w.now = shared.Add(off[1])
			w.work(1)
			w.wantState(e.ID, jobs.StateSucceeded)
			found, err := w.Erasure(t.Context(), admin, "acme", e.ID)
			if err != nil {
				t.Fatal(err)
			}
			if !found.ErasedAt.Equal(began) {
				t.Errorf("the key was destroyed at %s, want %s", found.ErasedAt, began)
			}
			if last := w.recorded[len(w.recorded)-1]; !last.Timestamp.Equal(began) {
				t.Errorf("%s was recorded at %s, want %s", last.Action, last.Timestamp, began)
			}
		})
	}
}

// An entry that was under way or a dead letter is stored later with its ciphertext, as it was.
func TestWhatIsStoredLaterStaysErased(t *testing.T) {
	w := newWorld(t)
	late := w.encrypt(w.process(), 1)
	e := w.create(0)
	w.work(1)
	w.encrypt(w.process(), 2)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.now = w.now.Add(14 * 24 * time.Hour)
	w.wantOpens(w.process(), late, false)
}

func TestASubjectThatNeverWas(t *testing.T) {
	w := newWorld(t)
	w.create(0)
	w.work(1)
	w.encrypt(w.process(), 2) // the first generation is never made
}

func TestErasuresOfOneSubject(t *testing.T) {
	w := newWorld(t)
	w.encrypt(w.process(), 1)
	slow := w.create(48)
	last := len(w.messages) - 1
	w.create(0)
	w.work(1)
	between := w.encrypt(w.process(), 2)
	w.now = w.now.Add(48 * time.Hour)
	w.messages = append(w.messages, w.messages[last])
	w.work(1)
	w.wantState(slow.ID, jobs.StateRunning)
	w.wantOpens(w.process(), between, false) // it covers what came until its delay was over
}

// faulty fails after what it did, as a worker that is killed there.
type faulty struct {
	erasure.Keys
	fail bool
}

func (f *faulty) Destroy(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error {
	err := f.Keys.Destroy(ctx, tenant, ref)
	if f.fail {
		err = errDown
	}
	return err
}

func TestARepeatedSliceSparesTheNextKey(t *testing.T) {
	w := newWorld(t)
	w.encrypt(w.process(), 1)
	keys := &faulty{Keys: w.process(), fail: true}
	w.runner.Keys = keys
	e := w.create(0)
	w.work(1) // killed between the destruction and its checkpoint
	after := w.encrypt(w.process(), 2)
	if _, err := w.Cancel(t.Context(), admin, acme, e.ID); !errors.Is(err, jobs.ErrCommitted) {
		t.Errorf("cancel it then: got error %v, want %v", err, jobs.ErrCommitted)
	}
	keys.fail = false
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	w.wantOpens(w.process(), after, true)
}

func TestTheLogTellsOfAnErasureOnce(t *testing.T) {
	w := newWorld(t)
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime)
	w.noRecord = errDown
	w.work(2)
	w.wantState(e.ID, jobs.StateRunning)
	w.noRecord = nil
	run := w.messages[len(w.messages)-1]
	w.work(1)
	job, err := w.Jobs.Store.Job(t.Context(), "acme", e.ID)
	if err != nil {
		t.Fatal(err)
	}
	job.State = jobs.StateRunning // killed between the entry and the end
	if err := w.Jobs.Store.UpdateJob(t.Context(), job, job.Generation); err != nil {
		t.Fatal(err)
	}
	again, err := jobs.ParseMessage(run)
	if err != nil {
		t.Fatal(err)
	}
	again.Generation = job.Generation
	body, err := again.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.messages = append(w.messages, body)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	var got []string
	for _, entry := range w.recorded {
		got = append(got, entry.Action+" "+entry.UserID+" "+entry.ResourceID+" "+string(entry.Metadata))
	}
	want := "erasure.create ann " + e.ID + ` {"subject_hmac":"` + e.Subject.String() + `","reason":"request 17","delay_hours":0}` + "\nerasure.finish ann " + e.ID + ` {"revealed_exports_removed":0}`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("recorded:\n%s\nwant:\n%s", text, want)
	}
}

func TestAnErasureEndsInACertificate(t *testing.T) {
	w := newWorld(t)
	w.exports.removed = 3
	w.tenant.Settings.SensitiveFields = []audit.SensitiveField{{Path: "metadata.email", Mask: audit.MaskEmail, Subject: "user_id"}}
	e := w.create(1)
	requested := w.now
	w.now = w.now.Add(time.Hour)
	w.work(1)
	erased := w.now
	if got := w.erasure(e.ID); got.Certificate != (certificate.ID{}) {
		t.Errorf("it has the certificate %s before its end, want none", got.Certificate)
	}
	w.now = w.now.Add(settleTime)
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	done := w.erasure(e.ID)
	text, err := w.db.Certificates().Certificate(t.Context(), done.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := certificate.Published(t.Context(), w.db.Certificates())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := certificate.Verify(text, keys)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(payload), "user-42") {
		t.Errorf("the certificate names the subject: %s", payload)
	}
	var got certificate.Statement
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	want := certificate.Statement{
		ID: done.Certificate, Kind: certificate.KindErasure, Tenant: "acme",
		Erasure: &certificate.Erasure{
			Job: e.ID, Subject: e.Subject.String(), Generation: 1, Exports: 3, Masks: []certificate.Mask{{Path: "metadata.email", Mask: audit.MaskEmail}},
		},
		RequestedBy: "ann", RequestedAt: requested, DestroyedAt: erased, GoneAt: erased.Add(settleTime), BackupsUntil: erased.Add(35 * 24 * time.Hour),
		Destroyed: got.Destroyed, Remains: got.Remains,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the certificate (-want +got):\n%s", diff)
	}
	if len(got.Destroyed) == 0 || len(got.Remains) == 0 {
		t.Errorf("it says that %v was destroyed and %v remains, want both said", got.Destroyed, got.Remains)
	}
}

func (w *world) erasure(id string) erasure.Erasure {
	w.t.Helper()
	e, err := w.Erasure(w.t.Context(), admin, "acme", id)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// TestAnErasureRemovesRevealedExports: once no process can use the key, and not before. It does not succeed
// while they cannot be removed.
func TestAnErasureRemovesRevealedExports(t *testing.T) {
	w := newWorld(t)
	w.exports.fails, w.exports.pauses, w.exports.removed = errDown, 1, 2
	e := w.create(0)
	w.work(1)
	w.now = w.now.Add(settleTime - time.Millisecond)
	w.work(1)
	if w.exports.calls > 0 {
		t.Errorf("%d calls while a process can use the key, want none", w.exports.calls)
	}
	w.now = w.now.Add(time.Millisecond)
	w.work(2)
	w.wantState(e.ID, jobs.StateRunning)
	if got := w.erasure(e.ID).ExportsRemoved; got != nil {
		t.Errorf("it says that %d files were removed, want nothing said yet", *got)
	}
	w.exports.fails = nil
	w.work(1)
	w.wantState(e.ID, jobs.StateSucceeded)
	if got := w.erasure(e.ID).ExportsRemoved; got == nil || *got != 3 {
		t.Errorf("it says that %v files were removed, want those of both slices, 3", got)
	}
	if w.exports.erasure != e.ID {
		t.Errorf("they were removed for the erasure %s, want %s", w.exports.erasure, e.ID)
	}
}

func TestACanceledErasureDestroysNothing(t *testing.T) {
	w := newWorld(t)
	before := w.encrypt(w.process(), 1)
	e := w.create(1)
	w.work(1)
	if _, err := w.Cancel(t.Context(), other, acme, e.ID); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("without the permission: got error %v, want %v", err, audit.ErrNotFound)
	}
	if _, err := w.Cancel(t.Context(), admin, acme, e.ID); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * time.Hour)
	w.work(1)
	w.wantState(e.ID, jobs.StateCanceled)
	w.wantOpens(w.process(), before, true)
}

func TestADeletedTenantsErasureFails(t *testing.T) {
	w := newWorld(t)
	e := w.create(0)
	w.tenant.Status = audit.TenantDeleting
	w.work(1)
	w.wantState(e.ID, jobs.StateFailed)
}

func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	key := access.Principal{Subject: "key:1", KeyID: "1", Creator: "ann", Grants: admin.Grants}
	restricted := admin
	restricted.Subject, restricted.Resources = "bob", []access.Resource{{Type: "order"}}
	for name, test := range map[string]struct {
		by   access.Principal
		r    erasure.Request
		want error
		at   string // the pointer of the fault
	}{
		"who created it":   {key, erasure.Request{Subject: "ann", Reason: "r"}, erasure.ErrSelf, ""},
		"the key itself":   {key, erasure.Request{Subject: "key:1", Reason: "r"}, erasure.ErrSelf, ""},
		"oneself":          {admin, erasure.Request{Subject: "ann", Reason: "r"}, erasure.ErrSelf, ""},
		"restricted":       {restricted, erasure.Request{Subject: "user-42", Reason: "r"}, audit.ErrForbidden, ""},
		"no subject":       {admin, erasure.Request{Reason: "r"}, nil, "/subject"},
		"a long subject":   {admin, erasure.Request{Subject: strings.Repeat("x", protect.MaxSubject+1), Reason: "r"}, nil, "/subject"},
		"no reason":        {admin, erasure.Request{Subject: "user-42"}, nil, "/reason"},
		"a long reason":    {admin, erasure.Request{Subject: "user-42", Reason: strings.Repeat("x", erasure.MaxReason+1)}, nil, "/reason"},
		"a negative delay": {admin, erasure.Request{Subject: "user-42", Reason: "r", DelayHours: -1}, nil, "/delay_hours"},
		"a long delay":     {admin, erasure.Request{Subject: "user-42", Reason: "r", DelayHours: erasure.MaxDelayHours + 1}, nil, "/delay_hours"},
	} {
		_, err := w.Create(t.Context(), test.by, acme, test.r)
		if test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got error %v, want %v", name, err, test.want)
		}
		var invalid *audit.ValidationError
		if test.at != "" && (!errors.As(err, &invalid) || invalid.Fields[0].Pointer != test.at) {
			t.Errorf("%s: got error %v, want a fault at %s", name, err, test.at)
		}
	}
	if n := len(w.recorded); n > 0 {
		t.Errorf("%d entries were recorded, want none", n)
	}
}

// The job has no name of the subject, and the file no trace of the key.
func TestNothingRemainsInTheFile(t *testing.T) {
	w := newWorld(t)
	w.encrypt(w.process(), 1)
	id, err := w.process().SubjectID(t.Context(), "acme", "user-42")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := w.db.TenantKeys().Keys(t.Context(), "acme", []protect.SubjectID{id})
	if err != nil {
		t.Fatal(err)
	}
	if !w.fileHas(stored[0].Wrapped) {
		t.Fatal("the file lacks the wrapped key before the erasure, want it there")
	}
	w.create(0)
	w.work(1)
	for end := time.Now().Add(10 * time.Second); w.fileHas(stored[0].Wrapped); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the file still has the wrapped key, want no trace of it")
		}
	}
	if w.fileHas([]byte("user-42")) {
		t.Error("the file has the name of the subject, want its HMAC alone")
	}
}

// fileHas reports whether the database or its log has the bytes.
func (w *world) fileHas(b []byte) bool {
	w.t.Helper()
	for _, name := range []string{w.file, w.file + "-wal"} {
		content, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			w.t.Fatal(err)
		}
		if bytes.Contains(content, b) {
			return true
		}
	}
	return false
}
