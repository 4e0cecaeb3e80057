package opensearchindex_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
)

// record is a system of record with entries in rising order of their ids.
type record []audit.Entry

func (r record) Count(_ context.Context, _ audit.TenantID, from, to time.Time) (n int64, err error) {
	for _, e := range r {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) {
			n++
		}
	}
	return n, nil
}

func (r record) IDs(_ context.Context, _ audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	var ids []audit.EntryID
	for _, e := range r {
		if !e.Timestamp.Before(from) && e.Timestamp.Before(to) && slices.Compare(e.ID[:], after[:]) > 0 && len(ids) < limit {
			ids = append(ids, e.ID)
		}
	}
	return ids, nil
}

func (r record) EntriesByID(_ context.Context, _ audit.TenantID, ids []audit.EntryID) (found []audit.Entry, err error) {
	for _, e := range r {
		if slices.Contains(ids, e.ID) {
			found = append(found, e)
		}
	}
	return found, nil
}

// directQueue is an index queue that indexes messages when they are sent.
type directQueue struct{ index search.IndexWriter }

func (q directQueue) Send(ctx context.Context, tenant audit.TenantID, bodies []string) error {
	for _, body := range bodies {
		contents, err := envelope.Unpack(body)
		if err != nil {
			return err
		}
		if _, err := search.PutEntries(ctx, q.index, contents.Tenant, contents.Entries); err != nil {
			return err
		}
	}
	return nil
}

// noneRefused is a quarantine without items.
type noneRefused struct{ search.Refused }

func (noneRefused) HasAny(context.Context, audit.TenantID) (bool, error) { return false, nil }

func TestReconcileEntriesRemovedByHand(t *testing.T) {
	url := enginetest.OpenSearch(t)
	prefix := newPrefix(t, url)
	x := open(t, url, prefix, waitForRefresh)
	entries := record(newEntries(acme, 2000))
	put(t, x, acme, entries...)
	ghosts := newEntries(acme, 2005)[2000:]
	put(t, x, acme, ghosts...) // they are not stored any more
	engineRequest(t, http.MethodPost, url+"/"+prefix+"-t-acme.*/_delete_by_query?refresh=true", map[string]any{"query": map[string]any{
		"terms": map[string]any{"id": []string{entries[0].ID.String(), entries[777].ID.String(), entries[1999].ID.String()}},
	}}, nil)
	r := search.Reconciler{
		Store: entries, Index: x, Reader: entries, Queue: directQueue{x}, Remover: x, Refused: noneRefused{}, Grace: time.Minute,
		Now: func() time.Time { return begin.Add(time.Hour) },
	}
	want := search.Reconciliation{Tenant: acme, Day: begin.Truncate(24 * time.Hour), Stored: 2000, Indexed: 1997, Repaired: 3, Extra: 5, Lag: time.Hour}
	for _, run := range []string{"first run", "run after the repair"} {
		got, _, err := r.Reconcile(t.Context(), &audit.Tenant{ID: acme}, activity.Day{Receipt: activity.Receipt{Day: begin}})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%s: got %+v, want %+v", run, got, want)
		}
		want.Indexed, want.Repaired, want.Extra, want.Lag = 2000, 0, 0, 0
	}
	for _, e := range ghosts {
		if has, err := x.Contains(t.Context(), acme, e.ID); err != nil || has {
			t.Errorf("the index has %s, which is not stored: %t, %v", e.ID, has, err)
		}
	}
}
