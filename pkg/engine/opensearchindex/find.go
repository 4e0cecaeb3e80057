package opensearchindex

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	if from := request.From; from != nil {
		if id, err := audit.ParseEntryID(from.Tie); err != nil || !id.Time().Equal(from.Time) {
			return audit.Page{}, audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
		}
	}
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return audit.Page{}, err
	}
	r := pageReader{index: x, scope: s, filter: filter, request: request, from: request.From}
	starts, err := r.starts(ctx)
	if err != nil {
		return audit.Page{}, err
	}
	for _, start := range starts {
		if err := r.read(ctx, start); err != nil {
			return audit.Page{}, err
		}
		if r.more {
			break
		}
	}
	return r.page(), nil
}

// pageReader reads one page.
type pageReader struct {
	index   *Index
	scope   scope
	filter  audit.Filter
	request audit.PageRequest

	from    *audit.Position // of the last entry read
	entries []audit.Entry
	bytes   int
	more    bool
}

// descending reports whether the entries are read from the newest to the oldest.
func (r *pageReader) descending() bool {
	return (r.request.Order == audit.NewestFirst) != r.request.Backwards
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

// read reads the entries since a time, until the page is full. It needs one search if they have the
// usual size.
func (r *pageReader) read(ctx context.Context, start time.Time) error {
	filter := r.filter
	filter.From = start
	for !r.more {
		size := r.nextSize()
		response, err := r.search(ctx, filter, r.body(size))
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

func (r *pageReader) body(size int) query {
	order := "asc"
	if r.descending() {
		order = "desc"
	}
	body := query{
		"size": size, "_source": []string{fieldEntry}, "track_total_hits": false,
		"sort": []query{{fieldTimestamp: order}, {fieldID: order}},
	}
	if r.from != nil {
		body["search_after"] = []any{r.from.Time.UnixMilli(), r.from.Tie}
	}
	return body
}

// search searches the tenant's entries that match a filter.
func (r *pageReader) search(ctx context.Context, filter audit.Filter, body query) (searchResponse, error) {
	where, err := compile(r.scope.tenant, filter)
	if err != nil {
		return searchResponse{}, err
	}
	body["query"] = where
	return r.index.search(ctx, r.scope.within(filter.From, filter.To), body)
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
