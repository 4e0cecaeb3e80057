package erasure

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// Entries is the system of record.
type Entries interface {
	// DropTokens removes the tokens beside what the key of a subject encrypted from those of the entries
	// that exist.
	DropTokens(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, key protect.KeyRef) error
}

// Index is the search index.
type Index interface {
	search.Finder
	search.IndexWriter
	retention.Index
}

// Quarantine changes entries in quarantine; see quarantine.Rewriter.
type Quarantine interface {
	Rewrite(ctx context.Context, tenant audit.TenantID, last *string, change func(context.Context, *audit.Entry) (changed bool, err error), stop func() bool) (done bool, err error)
}

// awaitIndex returns how long to wait for the index, in which dropTokens finds the entries. Those that
// are stored once no process can use the key are stored without its tokens.
func (r *erasureRun) awaitIndex(ctx context.Context, tenant *audit.Tenant) (time.Duration, error) {
	settled := r.at.ErasedAt.Add(r.SettleTime)
	end := settled.Add(audit.MaxLead)
	return walk.AwaitIndex(ctx, r.Lag, tenant, settled, end, &r.at.Indexed, func() error { return r.Save(ctx, r.at) })
}

// dropTokens removes the tokens of the erased values, also from what is left in a file. It reports false if the slice
// ended before that.
// Steps that store or index entries later bring none back; see protect.DropErasedTokens.
func (r *erasureRun) dropTokens(ctx context.Context, tenant *audit.Tenant) (bool, error) {
	if r.at.Erasing == 0 { // else an earlier slice has removed them
		if dropped, err := r.dropStored(ctx, tenant); err != nil || !dropped {
			return false, err
		}
	}
	return r.eraseSpace(ctx)
}

// dropStored removes the tokens from the stores. The next slice finds only the entries in the index that still have
// them.
func (r *erasureRun) dropStored(ctx context.Context, tenant *audit.Tenant) (bool, error) {
	ofKey := audit.Filter{Where: audit.HasToken{Token: r.at.ref().Token()}}
	request := audit.PageRequest{Order: audit.OldestFirst, Limit: retention.MaxEncrypted}
	for more := true; more; {
		page, err := r.Index.Find(ctx, tenant.ID, ofKey, request)
		if err == nil {
			err = r.dropTokensOf(ctx, tenant, page.Entries)
		}
		if err != nil || r.TimeUp() {
			return false, err
		}
		request.From, more = page.Last, page.More
	}
	dropped, err := r.Quarantine.Rewrite(ctx, tenant.ID, &r.at.Quarantined, r.dropQuarantined, r.TimeUp)
	if err != nil || !dropped {
		err = errors.Join(err, r.Save(ctx, r.at))
	}
	return dropped, err
}

// dropQuarantined removes the tokens from an entry in quarantine. The index can have refused it, so that it is
// found nowhere else: it loses them in the system of record, too, and first, for a slice that is repeated.
func (r *erasureRun) dropQuarantined(ctx context.Context, e *audit.Entry) (dropped bool, err error) {
	if dropped = protect.DropTokens(e, r.at.ref()); dropped {
		err = r.Entries.DropTokens(ctx, r.Job.Tenant, []audit.EntryID{e.ID}, r.at.ref())
	}
	return dropped, err
}

// dropTokensOf removes the tokens from the system of record first: a slice that is repeated finds an
// entry as long as the index has them. If a worker is killed before it has indexed an entry again,
// reconciliation does.
func (r *erasureRun) dropTokensOf(ctx context.Context, tenant *audit.Tenant, entries []audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	ids := audit.IDsOf(entries)
	for i := range entries {
		protect.DropTokens(&entries[i], r.at.ref())
	}
	if err := r.Entries.DropTokens(ctx, tenant.ID, ids, r.at.ref()); err != nil {
		return err
	}
	kept := slices.DeleteFunc(entries, func(e audit.Entry) bool { return tenant.Settings.IsExpired(&e, r.Now()) })
	if !r.PutReplaces {
		if err := r.Index.Remove(ctx, tenant.ID, ids); err != nil {
			return err
		}
	}
	rejections, err := search.PutEntries(ctx, r.Index, tenant.ID, kept)
	if err != nil || !r.PutReplaces {
		return err
	}
	stay := make(map[audit.EntryID]bool, len(kept))
	for i := range kept {
		stay[kept[i].ID] = true
	}
	for _, rejected := range rejections { // the index still has it as it was, with the tokens
		stay[kept[rejected.Index].ID] = false
	}
	gone := slices.DeleteFunc(ids, func(id audit.EntryID) bool { return stay[id] })
	if len(gone) == 0 {
		return nil
	}
	return r.Index.Remove(ctx, tenant.ID, gone)
}
