package restore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const (
	// pageSize and pageBytes bound the entries that come back together. A single one can have more bytes.
	pageSize  = 500
	pageBytes = 4 << 20
	// pageTimeout bounds the writing of a page. A deletion of the tenant waits for longer before it looks at
	// the stores for the last time.
	pageTimeout = 25 * time.Second
	// settleTime is how long after a cancellation a cleanup waits for the page that a worker may still write. It
	// is longer than pageTimeout: a store can end a call that its caller has given up.
	settleTime = time.Minute
)

// SettleTime implements jobs.Settler.
func (*Runner) SettleTime() time.Duration { return settleTime }

// endPage brings back the entries of the page, and saves that they are done. It returns errTimeUp if the
// slice has to end.
func (r *restoreRun) endPage(ctx context.Context) error {
	next := r.at
	next.Read, next.After = next.Read+int64(len(r.page)), r.page[len(r.page)-1].ID
	back, err := r.choose(ctx, &next)
	if err == nil {
		err = r.checkTenant(ctx) // right before the store is written
	}
	if err == nil && len(back) > 0 {
		var n int
		n, err = r.bringBack(ctx, back)
		next.Count += int64(n)
	}
	if err != nil {
		return err
	}
	r.at = next
	r.Job.Count = r.at.Count
	if r.at.Rows > 0 {
		r.Job.Progress = max(r.Job.Progress, min(0.99, checkShare+(1-checkShare)*float64(r.at.Read)/float64(r.at.Rows)))
	}
	r.page, r.bytes = r.page[:0], 0
	if r.TimeUp() {
		if err := r.Save(ctx, r.at); err != nil {
			return err
		}
		return errTimeUp
	}
	return r.SaveIfDue(ctx, r.at)
}

// choose returns those entries of the page that are to be stored, and counts the others.
func (r *restoreRun) choose(ctx context.Context, counts *checkpoint) (back []audit.Entry, err error) {
	for i := range r.page {
		e := &r.page[i]
		if e.Timestamp.Before(r.at.From) || !e.Timestamp.Before(r.at.To) {
			continue
		}
		if r.tenant.Settings.IsExpired(e, r.now) {
			counts.Expired++
			continue
		}
		if r.cleaned != nil {
			gone, err := r.cleaned.Has(ctx, e.ID)
			if err != nil {
				return nil, err
			}
			if gone {
				counts.Cleaned++
				continue
			}
		}
		e.RestoredUntil = r.at.Until
		back = append(back, *e)
	}
	return back, nil
}

// bringBack stores the entries that are missing, keeps those of earlier restores and those that are about to
// leave, and has both indexed. It returns how many the restore has brought back, whoever has repeated it.
func (r *restoreRun) bringBack(ctx context.Context, entries []audit.Entry) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	tenant := r.Job.Tenant
	stored, err := r.Entries.EntriesByID(ctx, tenant, audit.IDsOf(entries))
	if err != nil {
		return 0, err
	}
	byID := make(map[audit.EntryID]*audit.Entry, len(stored))
	for i := range stored {
		byID[stored[i].ID] = &stored[i]
	}
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !r.isMine(&e, byID[e.ID]) })
	if len(entries) == 0 {
		return 0, nil
	}
	if err := r.Days.Touch(ctx, tenant, entries); err != nil { // before the entries, so that none is forgotten
		return 0, err
	}
	if err := r.keep(ctx, entries, byID); err != nil { // before store: the others may be about to be removed
		return 0, err
	}
	conflicts, err := r.store(ctx, entries)
	if err != nil {
		return 0, err
	}
	entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return conflicts[e.ID] })
	bodies, err := envelope.Pack(tenant, entries)
	if err == nil {
		err = r.Index.Send(ctx, tenant, bodies)
	}
	return len(entries), err
}

// isMine reports whether the restore brings an entry back, of which stored is what the store has; nil: nothing.
// A living entry stays as it is, and so does one that a later restore keeps for longer. Other content under the
// same identity is no copy of what is archived.
func (r *restoreRun) isMine(e, stored *audit.Entry) bool {
	switch {
	case stored == nil:
		return true
	case stored.Digest != e.Digest:
		return false
	case stored.RestoredUntil.IsZero():
		return r.tenant.Settings.LeavesStores(stored, r.now)
	}
	return !stored.RestoredUntil.After(r.at.Until)
}

// keep keeps those of the entries for longer that are stored and are to leave before the end of the restore.
func (r *restoreRun) keep(ctx context.Context, entries []audit.Entry, stored map[audit.EntryID]*audit.Entry) error {
	var ids []audit.EntryID
	for i := range entries {
		if e := stored[entries[i].ID]; e != nil && e.RestoredUntil.Before(r.at.Until) {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := r.Save(ctx, r.at); err != nil { // see store
		return err
	}
	return r.Entries.KeepRestored(ctx, r.Job.Tenant, ids, r.at.Until)
}

// store stores the entries that the store does not have: also those that it has removed since it was asked. It
// returns the ids under which there are other entries now. It saves the checkpoint of before the page first. So a worker
// that slept until a cancellation, and perhaps a cleanup after it, stores nothing.
func (r *restoreRun) store(ctx context.Context, entries []audit.Entry) (conflicts map[audit.EntryID]bool, err error) {
	if err := r.Save(ctx, r.at); err != nil {
		return nil, err
	}
	appended, err := r.Entries.Append(ctx, r.Job.Tenant, entries)
	if err != nil {
		return nil, err
	}
	for _, rejection := range appended.Rejections {
		id := entries[rejection.Index].ID
		if rejection.Code != audit.CodeIdentityConflict {
			return nil, &jobs.FailedError{Reason: fmt.Sprintf("entry %s cannot be stored: %s", id, rejection.Reason)}
		}
		if conflicts == nil {
			conflicts = map[audit.EntryID]bool{}
		}
		conflicts[id] = true
	}
	return conflicts, nil
}
