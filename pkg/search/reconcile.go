package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// IDLister lists the ids of entries. The system of record and the index both implement it.
type IDLister interface {
	// IDs returns the ids of the tenant's entries with from ≤ timestamp < to
	// that are greater than after, in rising order. A zero bound is open. It may
	// return fewer than limit although more follow, and returns at most MaxIDs. An empty
	// result means that none is left.
	IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error)
	// Count returns the number of these entries.
	Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error)
}

// EntryReader reads entries from the system of record. EntriesByID returns those of the ids
// that the tenant has, in any order.
type EntryReader interface {
	EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error)
}

// Queue takes messages for the indexer; see ingest.Queue.
type Queue interface {
	Send(ctx context.Context, tenant audit.TenantID, bodies []string) error
}

// Remover removes entries from the index; see retention.Index.
type Remover interface {
	Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error
}

// Refused is Rejected for many entries.
type Refused interface {
	Rejected
	// HasAny reports whether any entry of the tenant is in quarantine.
	HasAny(ctx context.Context, tenant audit.TenantID) (bool, error)
}

// Reconciler finds entries that are stored but not indexed, and sends them to the index
// queue again. It removes from the index what is not stored: a message that came late has put
// it back after a cleanup. It keeps what is too much for that: the system of record may have lost
// it, and the index may have the last copy.
type Reconciler struct {
	Store  IDLister
	Index  IDLister
	Reader EntryReader
	Queue  Queue
	// Remover is the index too. Index only lists it.
	Remover Remover
	// Refused tells which entries are not to be sent again.
	Refused Refused
	// Grace is how long after its receipt an entry may be missing in the index. It
	// should be longer than the longest backlog of the index queue. Otherwise entries
	// that wait in the queue are sent twice, which costs work and does no harm.
	Grace time.Duration
	Clock jobs.Clock // see Indexer
	Now   func() time.Time
}

// Reconciliation is the result for one tenant and day.
type Reconciliation struct {
	Tenant   audit.TenantID
	Day      time.Time // its beginning, UTC
	Stored   int64     // entries in the system of record
	Indexed  int64     // of them, those in the index
	Repaired int64     // of them, those that were missing and are on the queue again
	Pending  int64     // of them, those that were received within the grace
	Expired  int64     // of them, those that are missing because they are about to be removed
	Refused  int64     // of them, those that are missing because the index refused them: they are in quarantine
	// Extra counts the entries that only the index had. They were removed from it.
	Extra int64
	// Kept counts the entries that only the index has, and that were not removed, because there are too many.
	Kept int64
	// Lag is the time since the oldest missing entry was received; zero if none is missing.
	Lag time.Duration
}

// MaxIDs is how many ids one call of IDs returns at most, and how many are compared at once.
// They have 160 KB. It is OpenSearch's max_result_window.
const MaxIDs = 10_000

// readBatch is how many entries are read from the system of record together. Each can have 384 KiB.
const readBatch = 100

// At most minRemovable entries of a day that are only in the index are removed from it, or one in removableShare of
// the stored ones, up to maxRemovable. A late message has up to audit.MaxBulkEntries.
const (
	minRemovable   = audit.MaxBulkEntries
	removableShare = 100
	maxRemovable   = MaxIDs // their ids are in memory
)

// Reconcile compares one day of a tenant, in UTC, from where the last step stopped. If its time is up before the end of
// the day, rest is the Progress of the next step, and found is what the steps have found so far. After an error,
// entries that were counted may be in the queue. The call can be repeated.
func (r *Reconciler) Reconcile(ctx context.Context, tenant *audit.Tenant, day activity.Day) (found Reconciliation, rest activity.Progress, err error) {
	day.Day = day.Day.UTC().Truncate(oneDay)
	run := &dayRun{Reconciler: r, tenant: tenant, day: day, state: dayState{Found: Reconciliation{Tenant: tenant.ID, Day: day.Day}}}
	if day.State != "" {
		err = json.Unmarshal([]byte(day.State), &run.state)
	}
	if err == nil {
		rest, err = run.step(ctx)
	}
	if err != nil {
		err = fmt.Errorf("reconcile %s %s: %w", tenant.ID, day.Day.Format(time.DateOnly), err)
	}
	return run.state.Found, rest, err
}

// dayState is what the steps of the comparison of a day leave to the next one.
type dayState struct {
	Found    Reconciliation `json:"found"`
	Unstored int64          `json:"unstored,omitempty"` // entries that only the index has
	ByIDs    bool           `json:"by_ids,omitempty"`   // the whole day is compared by its ids
	// Removing says that the day was compared, and is compared once more to remove the unstored entries.
	Removing bool `json:"removing,omitempty"`
}

// dayRun is one step of the comparison of a day.
type dayRun struct {
	*Reconciler
	tenant *audit.Tenant
	day    activity.Day
	state  dayState
}

func (d *dayRun) timeUp() bool { return d.day.TimeUp(d.Now()) }

// step does what is next, up to the end of the day or of its time.
func (d *dayRun) step(ctx context.Context) (rest activity.Progress, err error) {
	c := comparison{Store: d.Store, Index: d.Index, Reader: d.Reader, found: Reconciliation{Tenant: d.tenant.ID}, timeUp: d.timeUp, byIDs: d.state.ByIDs}
	unstored := &unstored{Reconciler: d.Reconciler, tenant: d.tenant.ID, count: d.state.Unstored}
	if d.state.Removing {
		unstored.count -= d.state.Found.Extra
		c.drop = func(ctx context.Context, ids []audit.EntryID) error {
			return unstored.removeSome(ctx, ids, &d.state.Found)
		}
	} else {
		c.found = d.state.Found
		repair := &repair{Reconciler: d.Reconciler, settings: &d.tenant.Settings, found: &c.found, now: d.Now()}
		c.use, c.drop = repair.entries, unstored.add
	}
	after, err := c.all(ctx, d.day.Day, d.day.Day.Add(oneDay), d.day.After)
	d.state.ByIDs = c.byIDs
	if !d.state.Removing {
		d.state.Found, d.state.Unstored = c.found, unstored.count
	}
	switch {
	case err != nil:
		return activity.Progress{}, err
	case !after.IsZero(): // it goes on from there
	case d.state.Removing:
		return activity.Progress{}, nil
	default:
		if d.state.Removing, err = unstored.remove(ctx, &d.state.Found); err != nil || !d.state.Removing {
			return activity.Progress{}, err
		}
		d.state.ByIDs = false // the day is counted again
	}
	state, err := json.Marshal(d.state)
	return activity.Progress{After: after, State: string(state)}, err
}

// comparison compares what a tenant has in the system of record and in the index.
type comparison struct {
	Store   IDLister
	Index   IDLister
	Reader  EntryReader
	found   Reconciliation
	missing []audit.EntryID // that the index lacks, not yet read
	extra   []audit.EntryID // that the list of the store lacks, not yet dropped
	// use gets the entries that the index lacks; nil: they are passed over.
	use func(ctx context.Context, entries []audit.Entry) error
	// drop gets the ids that the list of the store lacks; nil: they are passed over.
	drop func(ctx context.Context, ids []audit.EntryID) error
	// timeUp reports whether to stop before the end; nil: there is time.
	timeUp func() bool
	after  audit.EntryID // what was compared so far
	byIDs  bool          // the whole range is compared by its ids
}

// errStopped ends a comparison whose time is up.
var errStopped = errors.New("the time is up")

// all compares those of a range of timestamps that follow an id. If it stops before the end, it returns the id of the
// last entry that was compared.
func (c *comparison) all(ctx context.Context, from, to time.Time, after audit.EntryID) (stopped audit.EntryID, err error) {
	if after.IsZero() {
		err = c.compare(ctx, from, to)
	} else {
		err = c.resume(ctx, from, to, after)
	}
	if err == nil {
		c.after = audit.EntryID{}
	} else if !errors.Is(err, errStopped) {
		return stopped, err
	}
	if err := c.read(ctx); err != nil {
		return stopped, err
	}
	return c.after, c.dropExtra(ctx)
}

// stop returns errStopped if the time is up.
func (c *comparison) stop() error {
	if c.timeUp != nil && c.timeUp() {
		return errStopped
	}
	return nil
}

// compare compares a range by its counts, and by its ids only if the counts differ. The
// index holds only what is stored, so equal counts mean equal entries. (A message that comes late after a
// cleanup is an exception until the next comparison of the day.) It is counted
// first, so that an entry that is stored meanwhile makes the counts differ. A range with
// many entries is then compared day by day, and a day hour by hour.
func (c *comparison) compare(ctx context.Context, from, to time.Time) error {
	tenant := c.found.Tenant
	indexed, err := c.Index.Count(ctx, tenant, from, to)
	if err != nil {
		return fmt.Errorf("count the index: %w", err)
	}
	stored, err := c.Store.Count(ctx, tenant, from, to)
	switch {
	case err != nil:
		return fmt.Errorf("count the store: %w", err)
	case stored == indexed:
		c.found.Stored += stored
		c.found.Indexed += indexed
		return nil
	case to.Sub(from) <= time.Hour:
		return c.merge(ctx, from, to, audit.EntryID{})
	case stored <= MaxIDs:
		c.byIDs = true
		return c.merge(ctx, from, to, audit.EntryID{})
	case to.Sub(from) > oneDay:
		return c.each(ctx, from, to, oneDay)
	}
	return c.each(ctx, from, to, time.Hour)
}

// each compares the parts of a range.
func (c *comparison) each(ctx context.Context, from, to time.Time, step time.Duration) error {
	for ; from.Before(to); from = from.Add(step) {
		end := from.Add(step)
		if end.After(to) {
			end = to
		}
		if err := c.compare(ctx, from, end); err != nil {
			return err
		}
		if c.after = lastID(end); end.Before(to) {
			if err := c.stop(); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastID returns the greatest id of an entry before a time.
func lastID(before time.Time) audit.EntryID {
	return audit.NewEntryID(before.Add(-time.Millisecond), [10]byte(bytes.Repeat([]byte{0xff}, 10)))
}

// resume compares the rest of a day: by its ids to the end of the hour in which the last step stopped, or of the day, and
// then as compare does.
func (c *comparison) resume(ctx context.Context, from, to time.Time, after audit.EntryID) error {
	if c.byIDs {
		return c.merge(ctx, from, to, after)
	}
	end := after.Time().UTC().Truncate(time.Hour).Add(time.Hour)
	if after == lastID(end) {
		return c.each(ctx, end, to, time.Hour)
	}
	if err := c.merge(ctx, from, end, after); err != nil || !end.Before(to) {
		return err
	}
	c.after = lastID(end)
	if err := c.stop(); err != nil {
		return err
	}
	return c.each(ctx, end, to, time.Hour)
}

// merge reads both lists of a range in parallel, from what follows an id on.
func (c *comparison) merge(ctx context.Context, from, to time.Time, after audit.EntryID) error {
	stored := &idStream{lister: c.Store, tenant: c.found.Tenant, from: from, to: to, after: after}
	indexed := &idStream{lister: c.Index, tenant: c.found.Tenant, from: from, to: to, after: after}
	for {
		s, moreStored, err := stored.peek(ctx)
		if err != nil {
			return fmt.Errorf("list the store: %w", err)
		}
		x, moreIndexed, err := indexed.peek(ctx)
		if err != nil {
			return fmt.Errorf("list the index: %w", err)
		}
		order := bytes.Compare(s[:], x[:])
		used := false
		switch {
		case !moreStored && !moreIndexed:
			return nil
		case !moreStored, moreIndexed && order > 0:
			used, err = c.addExtra(ctx, x)
			c.after = x
			indexed.skip()
		case !moreIndexed, order < 0:
			used, err = c.addMissing(ctx, s)
			c.after = s
			stored.skip()
		default:
			c.found.Stored++
			c.found.Indexed++
			c.after = s
			stored.skip()
			indexed.skip()
		}
		if err == nil && (used || stored.isRead() || indexed.isRead()) {
			err = c.stop()
		}
		if err != nil {
			return err
		}
	}
}

// addExtra adds an entry that the list of the store lacks. It reports whether it has had those dropped that there are.
func (c *comparison) addExtra(ctx context.Context, id audit.EntryID) (dropped bool, err error) {
	if c.extra = append(c.extra, id); len(c.extra) < readBatch {
		return false, nil
	}
	return true, c.dropExtra(ctx)
}

// addMissing adds an entry that the index lacks. It reports whether it has had those used that there are.
func (c *comparison) addMissing(ctx context.Context, id audit.EntryID) (used bool, err error) {
	if c.missing = append(c.missing, id); len(c.missing) < readBatch {
		return false, nil
	}
	return true, c.read(ctx)
}

// read reads the missing entries, and has them used.
func (c *comparison) read(ctx context.Context) error {
	missing := c.missing
	c.missing = c.missing[:0]
	if len(missing) == 0 || c.use == nil {
		return nil
	}
	entries, err := c.Reader.EntriesByID(ctx, c.found.Tenant, missing)
	if err != nil {
		return fmt.Errorf("read %d missing entries: %w", len(missing), err)
	}
	c.found.Stored += int64(len(entries)) // the others were removed since they were listed
	return c.use(ctx, entries)
}

// dropExtra has the ids dropped that only the index has.
func (c *comparison) dropExtra(ctx context.Context) error {
	ids := c.extra
	c.extra = c.extra[:0]
	if len(ids) == 0 || c.drop == nil {
		return nil
	}
	return c.drop(ctx, ids)
}

// unstored are the entries of one comparison that only the index has.
type unstored struct {
	*Reconciler
	tenant audit.TenantID
	count  int64
	ids    []audit.EntryID // the first maxRemovable of this step
}

// add adds those of the entries that are not stored. Once they are too many to be removed, it asks no more, and adds all.
func (u *unstored) add(ctx context.Context, ids []audit.EntryID) error {
	if u.count > maxRemovable {
		u.count += int64(len(ids))
		return nil
	}
	gone, err := u.notStored(ctx, ids)
	u.count += int64(len(gone))
	u.ids = append(u.ids, gone[:min(len(gone), maxRemovable-len(u.ids))]...)
	return err
}

// notStored returns those of the entries that are not stored. It asks for them again: a list can be older than the
// index. An entry is stored before it is indexed.
func (u *unstored) notStored(ctx context.Context, ids []audit.EntryID) ([]audit.EntryID, error) {
	stored, err := u.Reader.EntriesByID(ctx, u.tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("look for %d entries that the index has: %w", len(ids), err)
	}
	is := make(map[audit.EntryID]bool, len(stored))
	for i := range stored {
		is[stored[i].ID] = true
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id audit.EntryID) bool { return is[id] }), nil
}

// remove removes the entries from the index, unless they are too many. rest says that it removed none, because earlier
// steps have found some of them: they have to be found again.
func (u *unstored) remove(ctx context.Context, found *Reconciliation) (rest bool, err error) {
	switch {
	case u.count > min(max(found.Stored/removableShare, minRemovable), maxRemovable):
		found.Kept = u.count
		return false, nil
	case u.count > int64(len(u.ids)):
		return true, nil
	}
	for ids := range slices.Chunk(u.ids, readBatch) {
		if err := u.removeSome(ctx, ids, found); err != nil {
			return false, err
		}
	}
	return false, nil
}

// removeSome removes up to count of the entries. They can be stored again since they were added.
func (u *unstored) removeSome(ctx context.Context, ids []audit.EntryID, found *Reconciliation) error {
	gone, err := u.notStored(ctx, ids)
	if err != nil {
		return err
	}
	if gone = gone[:min(int64(len(gone)), u.count)]; len(gone) == 0 {
		return nil
	}
	if err := u.Remover.Remove(ctx, u.tenant, gone); err != nil {
		return fmt.Errorf("remove %d entries from the index that are not stored: %w", len(gone), err)
	}
	found.Extra += int64(len(gone))
	u.count -= int64(len(gone))
	return nil
}

// repair sends the missing entries of one comparison that the index should have by now.
type repair struct {
	*Reconciler
	settings *audit.Settings
	found    *Reconciliation
	now      time.Time
	// asked says that anyRefused tells whether the tenant has anything in quarantine. Most tenants have nothing there.
	asked, anyRefused bool
}

// entries sends those of the entries that are overdue and that the index has not refused.
func (r *repair) entries(ctx context.Context, entries []audit.Entry) error {
	leaves, err := leavesIndex(ctx, r.Clock, r.now, r.settings, entries)
	if err != nil {
		return err
	}
	overdue := entries[:0]
	for _, entry := range entries {
		if leaves(&entry) {
			r.found.Expired++
			continue
		}
		if age := r.now.Sub(entry.ReceivedAt); age < r.Grace {
			r.found.Pending++
			r.found.Lag = max(r.found.Lag, age)
			continue
		}
		overdue = append(overdue, entry)
	}
	if overdue, err = r.notRefused(ctx, overdue); err != nil {
		return err
	}
	for i := range overdue {
		r.found.Lag = max(r.found.Lag, r.now.Sub(overdue[i].ReceivedAt))
	}
	if len(overdue) == 0 {
		return nil
	}
	bodies, err := envelope.Pack(r.found.Tenant, overdue)
	if err != nil {
		return err
	}
	if err := r.Queue.Send(ctx, r.found.Tenant, bodies); err != nil {
		return fmt.Errorf("send %d missing entries to the index queue: %w", len(overdue), err)
	}
	r.found.Repaired += int64(len(overdue))
	return nil
}

// notRefused returns those of the entries that the index has not refused. It would refuse the others again.
func (r *repair) notRefused(ctx context.Context, entries []audit.Entry) (kept []audit.Entry, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	if !r.asked {
		if r.anyRefused, err = r.Refused.HasAny(ctx, r.found.Tenant); err != nil {
			return nil, fmt.Errorf("look for entries in quarantine: %w", err)
		}
		r.asked = true
	}
	if !r.anyRefused {
		return entries, nil
	}
	refused, err := r.Refused.Contains(ctx, r.found.Tenant, audit.StepIndex, entries)
	if err != nil {
		return nil, fmt.Errorf("look for %d entries in quarantine: %w", len(entries), err)
	}
	for i := range entries {
		if refused[i] {
			r.found.Refused++
		} else {
			kept = append(kept, entries[i])
		}
	}
	return kept, nil
}

// idStream reads a list page by page.
type idStream struct {
	lister   IDLister
	tenant   audit.TenantID
	from, to time.Time

	page  []audit.EntryID
	after audit.EntryID
	ended bool
}

// peek returns the next id; more is false at the end.
func (s *idStream) peek(ctx context.Context) (id audit.EntryID, more bool, err error) {
	if s.isRead() {
		if s.page, err = s.lister.IDs(ctx, s.tenant, s.from, s.to, s.after, MaxIDs); err != nil {
			return id, false, err
		}
		s.ended = len(s.page) == 0
	}
	if s.ended {
		return id, false, nil
	}
	return s.page[0], true, nil
}

// isRead reports whether the next id has to be asked for.
func (s *idStream) isRead() bool { return len(s.page) == 0 && !s.ended }

func (s *idStream) skip() {
	s.after = s.page[0]
	s.page = s.page[1:]
}
