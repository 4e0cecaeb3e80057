package archive

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// scan reads the ids of a tenant's entries that are not archived, in rising order.
type scan struct {
	store  search.IDLister
	tenant audit.TenantID
	spans  []span // that are left
	known  *known
	page   []audit.EntryID // that was read
	after  audit.EntryID   // the last id that was looked at
	ended  bool
}

// newScan returns a scan of the times, which are in their order, after an id.
func newScan(store search.IDLister, blobs Getter, m *Manifest, of month, spans []span, after audit.EntryID) *scan {
	from := spans[0].from
	if at := after.Time(); at.After(from) {
		from = at
	}
	return &scan{store: store, tenant: m.Tenant, spans: spans, known: newKnown(blobs, m, of, from, spans[len(spans)-1].to), after: after}
}

// next looks at up to a page of ids. It returns those that are not archived, up to limit, and whether more can
// follow. What it has looked at is up to after: a scan after that id goes on from there.
func (s *scan) next(ctx context.Context, limit int) (ids []audit.EntryID, more bool, err error) {
	if len(s.page) == 0 {
		if err := s.load(ctx); err != nil || s.ended {
			return nil, false, err
		}
	}
	for len(s.page) > 0 && len(ids) < limit {
		id := s.page[0]
		archived, err := s.known.has(ctx, id)
		if err != nil {
			return nil, false, err
		}
		if !archived {
			ids = append(ids, id)
		}
		s.page, s.after = s.page[1:], id
	}
	return ids, true, nil
}

// load reads the next page of ids. It sets ended if there is none.
func (s *scan) load(ctx context.Context) (err error) {
	for len(s.spans) > 0 {
		at := s.spans[0]
		if s.page, err = s.store.IDs(ctx, s.tenant, at.from, at.to, s.after, search.MaxIDs); err != nil || len(s.page) > 0 {
			return err
		}
		s.spans = s.spans[1:]
	}
	s.ended = true
	return nil
}
