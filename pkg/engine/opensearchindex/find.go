package opensearchindex

import (
	"context"
	"fmt"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// Find implements search.Index. A position consists of timestamp and id. It
// stays valid when its entry is removed.
func (x *Index) Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Find)
	defer cancel()
	page, err := x.find(ctx, tenant, filter, request)
	if err != nil {
		return audit.Page{}, fmt.Errorf("find entries of %s: %w", tenant, err)
	}
	return page, nil
}

func (x *Index) find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	if request.Limit < 1 || request.Limit > audit.MaxPageLimit {
		return audit.Page{}, audit.Invalid("?limit", "out_of_range", "must be from 1 to %d", audit.MaxPageLimit)
	}
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return audit.Page{}, err
	}
	where, err := compile(s.tenant, filter)
	if err != nil {
		return audit.Page{}, err
	}
	r := pageReader{index: x, scope: s.within(filter.From, filter.To), where: where, request: request, from: request.From}
	if err := r.read(ctx); err != nil {
		return audit.Page{}, err
	}
	return r.page(), nil
}

// pageReader reads one page. It needs one search if the entries have the usual size.
type pageReader struct {
	index   *Index
	scope   scope
	where   query
	request audit.PageRequest

	from    *audit.Position // of the last entry read
	entries []audit.Entry
	bytes   int
	more    bool
}

// maxFirstSearch limits the entries of a search while their size is unknown.
// With 256 KiB each they are a response of 30 to 60 MB.
const maxFirstSearch = 128

// nextSize returns how many entries the next search requests.
func (r *pageReader) nextSize() int {
	missing := r.request.Limit + 1 - len(r.entries)
	if len(r.entries) == 0 {
		return min(missing, maxFirstSearch)
	}
	meanBytes := r.bytes/len(r.entries) + 1
	fitting := maxFirstSearch * audit.MaxEntryBytes / meanBytes / 4 // the next ones may be larger
	return min(missing, max(fitting, maxFirstSearch))
}

func (r *pageReader) read(ctx context.Context) error {
	for !r.more {
		size := r.nextSize()
		body, err := r.body(size)
		if err != nil {
			return err
		}
		response, err := r.index.search(ctx, r.scope, body)
		if err != nil {
			return err
		}
		for i := range response.Hits.Hits {
			if err := r.add(&response.Hits.Hits[i]); err != nil || r.more {
				return err
			}
		}
		if len(response.Hits.Hits) < size {
			return nil
		}
	}
	return nil
}

func (r *pageReader) body(size int) (query, error) {
	order := "asc"
	if (r.request.Order == audit.NewestFirst) != r.request.Backwards {
		order = "desc"
	}
	body := query{
		"size": size, "query": r.where, "_source": []string{fieldEntry}, "track_total_hits": false,
		"sort": []query{{fieldTimestamp: order}, {fieldID: order}},
	}
	if r.from == nil {
		return body, nil
	}
	if id, err := audit.ParseEntryID(r.from.Tie); err != nil || !id.Time().Equal(r.from.Time) {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
	}
	body["search_after"] = []any{r.from.Time.UnixMilli(), r.from.Tie}
	return body, nil
}

// add adds an entry to the page. If the page is full, it sets more instead.
func (r *pageReader) add(h *hit) error {
	text := []byte(h.Source.Entry)
	full := len(r.entries) == r.request.Limit
	tooLarge := r.request.MaxBytes > 0 && len(r.entries) > 0 && r.bytes+len(text) > r.request.MaxBytes
	if full || tooLarge {
		r.more = true
		return nil
	}
	e, err := entryjson.ParseStored(text)
	if err != nil {
		return err
	}
	r.entries = append(r.entries, e)
	r.bytes += len(text)
	r.from = positionOf(&e)
	return nil
}

func positionOf(e *audit.Entry) *audit.Position {
	return &audit.Position{Time: e.Timestamp, Tie: e.ID.String()}
}

func (r *pageReader) page() audit.Page {
	if len(r.entries) == 0 {
		return audit.Page{}
	}
	if r.request.Backwards {
		slices.Reverse(r.entries)
	}
	return audit.Page{
		Entries: r.entries, More: r.more,
		First: positionOf(&r.entries[0]), Last: positionOf(&r.entries[len(r.entries)-1]),
	}
}
