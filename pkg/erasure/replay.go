package erasure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Replay destroys keys again that a restored database brought back. Its progress lies in the store of
// keys, so that a restore sets it back too: the next run then replays what the restored store lacks.
// Several runs at once do no harm.
type Replay struct {
	Tombstones *Tombstones
	Keys       protect.KeyStore
	// Destroy destroys a key also in the process; see protect.Keyring.Destroy.
	Destroy func(ctx context.Context, tenant audit.TenantID, ref protect.KeyRef) error
	// FreeSpace erases what a destroyed key left in a file; nil if the engines have none.
	FreeSpace jobs.Space
	Now       func() time.Time
	Log       *slog.Logger
}

const (
	// writeTime is more than passes between naming a tombstone and its place in every list.
	writeTime = 30 * time.Minute
	// replayTime bounds one run. Another one goes on.
	replayTime = 4 * time.Minute
)

// progress is a key that nobody has. Its generation is the last hour whose tombstones are replayed:
// destroying a later generation moves it forward, and never back.
var progress = protect.KeyRef{Subject: protect.SubjectID([]byte("replayed erasure"))}

// Run replays the tombstones that the store of keys may lack. It returns how many keys it destroyed.
func (r *Replay) Run(ctx context.Context) (int, error) {
	run := &replayRun{Replay: r, end: r.Now().Add(replayTime)}
	err := run.all(ctx)
	if run.count > 0 {
		r.Log.WarnContext(ctx, "keys that were erased are destroyed again: the store had them", "keys", run.count)
	}
	if err != nil {
		return run.count, fmt.Errorf("replay erasures: %w", err)
	}
	return run.count, nil
}

// replayRun is one run.
type replayRun struct {
	*Replay
	end    time.Time
	count  int   // of destroyed keys
	failed error // of tenants whose keys cannot be destroyed: the progress waits for them
}

func (r *replayRun) timeUp() bool { return !r.Now().Before(r.end) }

func (r *replayRun) all(ctx context.Context) error {
	replayed, err := r.replayed(ctx)
	if err != nil {
		return err
	}
	now, err := r.Tombstones.Clock.Now(ctx, r.Now)
	if err != nil {
		return err
	}
	closed := hourOf(now.Add(-writeTime)) - 1 // later hours can get more tombstones
	last, after, more := replayed, (replayed + 1).String(), true
	for more && !r.timeUp() {
		page, err := r.Tombstones.after(ctx, after, export.MaxList)
		if err != nil {
			return err
		}
		list := r.parse(ctx, page)
		if err := r.page(ctx, list); err != nil {
			return err
		}
		if more = len(page) == export.MaxList; more {
			after = page[len(page)-1].Key
		}
		if len(list) > 0 {
			last = list[len(list)-1].hour
		}
		if more && r.failed == nil { // the rest of that hour is on the next page
			if err := r.advance(ctx, min(closed, last-1)); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(r.scrub(ctx), r.failed); err != nil {
		return err
	}
	if more {
		r.Log.WarnContext(ctx, "more erasures remain for the next run")
		return nil
	}
	return r.advance(ctx, min(closed, last))
}

// replayed returns the last hour whose tombstones are replayed, 0 if there is none.
func (r *replayRun) replayed(ctx context.Context) (hour, error) {
	stored, err := r.Keys.Keys(ctx, tombstones, []protect.SubjectID{progress.Subject})
	if err != nil || len(stored) == 0 {
		return 0, err
	}
	return hour(stored[0].Ref.Generation), nil
}

// advance saves that the tombstones up to an hour are replayed. It never moves back.
func (r *replayRun) advance(ctx context.Context, to hour) error {
	saved, err := r.replayed(ctx)
	if err != nil || to <= saved {
		return err
	}
	return r.Keys.DestroyKey(ctx, tombstones, protect.KeyRef{Subject: progress.Subject, Generation: uint32(to)})
}

// parse returns the tombstones of a list. Another blob does not stop the replay of those.
func (r *replayRun) parse(ctx context.Context, listed []export.Listed) []tombstone {
	list := make([]tombstone, 0, len(listed))
	for _, blob := range listed {
		t, err := parseTombstone(blob.Key)
		if err != nil {
			r.Log.ErrorContext(ctx, "a blob beside the tombstones is none", "key", blob.Key)
			continue
		}
		list = append(list, t)
	}
	return list
}

// page replays tombstones, which are ordered by hour and tenant. A tenant that fails does not stop the
// others.
func (r *replayRun) page(ctx context.Context, list []tombstone) error {
	for len(list) > 0 {
		tenant := list[0].tenant
		n := slices.IndexFunc(list, func(t tombstone) bool { return t.tenant != tenant })
		if n < 0 {
			n = len(list)
		}
		err := r.tenant(ctx, tenant, list[:n])
		if audit.IsUnavailable(err) || ctx.Err() != nil {
			return err
		}
		r.failed = errors.Join(r.failed, err)
		list = list[n:]
	}
	return nil
}

// tenant replays tombstones of one tenant, that of the root first. Without a root no key can be used.
func (r *replayRun) tenant(ctx context.Context, tenant audit.TenantID, list []tombstone) error {
	subjects := []protect.SubjectID{protect.RootRef.Subject}
	for i := range list {
		subjects = append(subjects, list[i].ref.Subject)
	}
	keys, err := r.Keys.Keys(ctx, tenant, subjects)
	if err != nil {
		return err
	}
	stored := make(map[protect.SubjectID]protect.StoredKey, len(keys))
	for _, k := range keys {
		stored[k.Ref.Subject] = k
	}
	if len(stored[protect.RootRef.Subject].Wrapped) == 0 {
		return nil
	}
	for i := range list {
		ref := list[i].ref
		if k, has := stored[ref.Subject]; has && (k.Ref.Generation > ref.Generation || k.Ref == ref && len(k.Wrapped) == 0) {
			continue
		}
		if err := r.Destroy(ctx, tenant, ref); err != nil {
			return err
		}
		stored[ref.Subject] = protect.StoredKey{Ref: ref}
		r.count++
		if ref == protect.RootRef {
			return nil
		}
	}
	return nil
}

// scrub erases what the destroyed keys left in a file.
func (r *replayRun) scrub(ctx context.Context) error {
	if r.FreeSpace == nil || r.count == 0 {
		return nil
	}
	toTheEnd := func() bool { return false }
	_, err := jobs.Scrub(ctx, r.FreeSpace, new(int64), toTheEnd)
	return err
}
