package localcloud_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// errKilled is the error of what a killed worker tries to write.
var errKilled = errors.New("the worker was killed")

// errNoAnswer is the error of a write about which a store or a queue gives no answer. The write can have been made.
var errNoAnswer error = &audit.UnavailableError{Err: errors.New("no answer")}

// faults are what befalls two workers.
type faults struct {
	// kills is how often they are killed, and apart the most writes of a worker between two faults. As often, at most, a
	// write of theirs gets no answer.
	kills, apart int
	// skew is how far the clock of one worker is ahead, and that of the other one behind.
	skew time.Duration
	// each is called now and then while they work.
	each func()
	// before are called right before these writes, while no worker begins another one.
	before map[nth]func()
}

// nth is a write of the workers: the first one of a name has the number 1.
type nth struct {
	name   string
	number int
}

// fate is what befalls the workers from now on.
type fate struct {
	faults
	mu     sync.Mutex
	kills  int            // left
	silent int            // writes without an answer, left
	writes map[string]int // that were begun, by their names
}

// begin begins a write of a worker that has so many writes left until a fault. It returns the error of the write.
func (f *fate) begin(name string, left int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes[name]++
	if do := f.before[nth{name, f.writes[name]}]; do != nil {
		do()
	}
	switch {
	case left > 0 || f.kills == 0:
		return nil
	case f.silent > 0 && rand.IntN(2) == 0:
		f.silent--
		return errNoAnswer
	}
	f.kills--
	return errKilled
}

// mortal is a worker of jobs, which is killed at some of its writes, and gets no answer about others. Once it is killed it
// writes nothing, until its function has returned: then another process has taken its place.
type mortal struct {
	services *wiring.Services
	working  atomic.Bool
	fate     *fate

	mu         sync.Mutex
	dead       bool
	unanswered bool // a write since it took its place
	left       int  // writes until a fault
}

// newMortal returns a worker beside the service, whose clock is ahead.
func (r *retained) newMortal(f *fate, ahead time.Duration) *mortal {
	m := &mortal{fate: f}
	stores, queue := r.stores, r.stores.Queue
	stores.Jobs, stores.Tenants, stores.Holds = mortalJobs{stores.Jobs, m}, mortalTenants{stores.Tenants, m}, mortalHolds{stores.Holds, m}
	stores.Archive, stores.Activity = mortalArchive{stores.Archive, m}, mortalActivity{stores.Activity, m}
	stores.Exports = mortalExports{stores.Exports, m}
	stores.Queue = func(name manifest.QueueName) wiring.Queue { return mortalQueue{queue(name), m} }
	m.services = wiring.New(stores, wiring.Security{}, discard())
	m.services.Now = func() time.Time { return time.Now().Add(ahead) }
	m.services.Stores.Entries = mortalEntries{m.services.Stores.Entries, m}
	m.services.Stores.Index = mortalIndex{m.services.Stores.Index, m}
	m.revive()
	return m
}

// revive puts another process in the place of the worker if it was killed. It reports that, and whether a write of it
// got no answer.
func (m *mortal) revive() (killed, unanswered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	killed, unanswered = m.dead, m.unanswered
	if m.dead, m.unanswered = false, false; killed || m.left == 0 {
		m.left = m.fate.next()
	}
	return killed, unanswered
}

// next returns how many writes a worker makes until its next fault.
func (f *faults) next() int { return 1 + rand.IntN(f.apart) }

// write makes a write of the worker. A fault comes before the write or after it.
func (m *mortal) write(name string, do func() error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return errKilled
	}
	m.left--
	fault := m.fate.begin(name, m.left)
	if m.dead = errors.Is(fault, errKilled); audit.IsUnavailable(fault) {
		m.unanswered, m.left = true, m.fate.next()
	}
	m.mu.Unlock()
	if fault != nil && rand.IntN(2) == 0 {
		return fault
	}
	return cmp.Or(do(), fault)
}

// result is write for what returns a value.
func result[T any](m *mortal, name string, do func() (T, error)) (value T, err error) {
	err = m.write(name, func() error {
		value, err = do()
		return err
	})
	return value, err
}

type mortalJobs struct {
	jobs.Store
	m *mortal
}

func (s mortalJobs) CreateJob(ctx context.Context, job jobs.Job) error {
	return s.m.write("CreateJob", func() error { return s.Store.CreateJob(ctx, job) })
}

func (s mortalJobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	return s.m.write("UpdateJob", func() error { return s.Store.UpdateJob(ctx, job, generation) })
}

type mortalTenants struct {
	tenants.Store
	m *mortal
}

func (s mortalTenants) Update(ctx context.Context, tenant audit.Tenant) error {
	return s.m.write("Update", func() error { return s.Store.Update(ctx, tenant) })
}

func (s mortalTenants) Tombstone(ctx context.Context, id audit.TenantID, version int64) error {
	return s.m.write("Tombstone", func() error { return s.Store.Tombstone(ctx, id, version) })
}

type holdStore = wiring.Holds // which has a method Holds

type mortalHolds struct {
	holdStore
	m *mortal
}

func (s mortalHolds) UpdateHold(ctx context.Context, h hold.Hold) error {
	return s.m.write("UpdateHold", func() error { return s.holdStore.UpdateHold(ctx, h) })
}

type mortalArchive struct {
	wiring.ArchiveFiles
	m *mortal
}

func (s mortalArchive) Create(ctx context.Context, tenant audit.TenantID, key string, c export.Content) error {
	return s.m.write("Create", func() error { return s.ArchiveFiles.Create(ctx, tenant, key, c) })
}

func (s mortalArchive) Replace(ctx context.Context, tenant audit.TenantID, key, etag string, c export.Content) error {
	return s.m.write("Replace", func() error { return s.ArchiveFiles.Replace(ctx, tenant, key, etag, c) })
}

func (s mortalArchive) Delete(ctx context.Context, tenant audit.TenantID, key string) error {
	return s.m.write("Delete", func() error { return s.ArchiveFiles.Delete(ctx, tenant, key) })
}

func (s mortalArchive) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return result(s.m, "Purge", func() (int, error) { return s.ArchiveFiles.Purge(ctx, tenant, limit) })
}

type mortalExports struct {
	wiring.ExportFiles
	m *mortal
}

func (s mortalExports) BeginUpload(ctx context.Context, tenant audit.TenantID, key, mediaType string) (export.Upload, error) {
	return result(s.m, "BeginUpload", func() (export.Upload, error) { return s.ExportFiles.BeginUpload(ctx, tenant, key, mediaType) })
}

func (s mortalExports) PutPart(ctx context.Context, tenant audit.TenantID, u export.Upload, number int, content []byte) (export.Part, error) {
	return result(s.m, "PutPart", func() (export.Part, error) { return s.ExportFiles.PutPart(ctx, tenant, u, number, content) })
}

func (s mortalExports) CompleteUpload(ctx context.Context, tenant audit.TenantID, u export.Upload, parts []export.Part, size int64, sum [sha256.Size]byte) error {
	return s.m.write("CompleteUpload", func() error { return s.ExportFiles.CompleteUpload(ctx, tenant, u, parts, size, sum) })
}

type mortalEntries struct {
	wiring.Entries
	m *mortal
}

func (s mortalEntries) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	return result(s.m, "Append", func() (ingest.Appended, error) { return s.Entries.Append(ctx, tenant, entries) })
}

func (s mortalEntries) Mark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, after time.Duration) error {
	return s.m.write("Mark", func() error { return s.Entries.Mark(ctx, tenant, ids, after) })
}

func (s mortalEntries) MarkRead(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	return s.m.write("MarkRead", func() error { return s.Entries.MarkRead(ctx, tenant, entries) })
}

func (s mortalEntries) Unmark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return s.m.write("Unmark", func() error { return s.Entries.Unmark(ctx, tenant, ids) })
}

func (s mortalEntries) RemoveDue(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (int, error) {
	return result(s.m, "RemoveDue", func() (int, error) { return s.Entries.RemoveDue(ctx, tenant, ids) })
}

func (s mortalEntries) KeepRestored(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, until time.Time) error {
	return s.m.write("KeepRestored", func() error { return s.Entries.KeepRestored(ctx, tenant, ids, until) })
}

func (s mortalEntries) EndRestore(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return s.m.write("EndRestore", func() error { return s.Entries.EndRestore(ctx, tenant, ids) })
}

func (s mortalEntries) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return result(s.m, "Purge", func() (int, error) { return s.Entries.Purge(ctx, tenant, limit) })
}

type mortalIndex struct {
	wiring.Index
	m *mortal
}

func (x mortalIndex) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	return x.m.write("Index.Remove", func() error { return x.Index.Remove(ctx, tenant, ids) })
}

func (x mortalIndex) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	return result(x.m, "Purge", func() (int, error) { return x.Index.Purge(ctx, tenant, limit) })
}

type mortalActivity struct {
	wiring.Activity
	m *mortal
}

func (a mortalActivity) Touch(ctx context.Context, tenant audit.TenantID, receipts []activity.Receipt, due time.Time) error {
	return a.m.write("Touch", func() error { return a.Activity.Touch(ctx, tenant, receipts, due) })
}

func (a mortalActivity) TouchAll(ctx context.Context, work activity.Work, tenant audit.TenantID, due time.Time) error {
	return a.m.write("TouchAll", func() error { return a.Activity.TouchAll(ctx, work, tenant, due) })
}

func (a mortalActivity) TouchDays(ctx context.Context, days []activity.Day, due time.Time) error {
	return a.m.write("TouchDays", func() error { return a.Activity.TouchDays(ctx, days, due) })
}

func (a mortalActivity) Claim(ctx context.Context, days []activity.Day, until time.Time) error {
	return a.m.write("Claim", func() error { return a.Activity.Claim(ctx, days, until) })
}

func (a mortalActivity) Check(ctx context.Context, day activity.Day, due time.Time) error {
	return a.m.write("Check", func() error { return a.Activity.Check(ctx, day, due) })
}

type mortalQueue struct {
	wiring.Queue
	m *mortal
}

func (s mortalQueue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	return s.m.write("Send", func() error { return s.Queue.Send(ctx, tenant, bodies) })
}

func (s mortalQueue) SendAfter(ctx context.Context, tenant audit.TenantID, delay time.Duration, body string) error {
	return s.m.write("Send", func() error { return s.Queue.SendAfter(ctx, tenant, delay, body) })
}
