package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// readBudget is how long a search goes on trying: it is not long, because
// another store may answer where OpenSearch does not.
const readBudget = time.Second

// answer is what is read of a search's answer.
type answer struct {
	TimedOut bool `json:"timed_out"`
	Shards   struct {
		Failed int `json:"failed"`
	} `json:"_shards"`
	Hits struct {
		Total struct {
			Value int64 `json:"value"`
		} `json:"total"`
		Hits []hit `json:"hits"`
	} `json:"hits"`
	Aggregations map[string]json.RawMessage `json:"aggregations"`
}

type hit struct {
	Source struct {
		ID    string `json:"id"`
		Entry string `json:"entry"`
	} `json:"_source"`
}

// search asks all of a tenant's months. found is false where it has none. An
// answer of some shards only is an error.
func (x *Index) search(ctx context.Context, f family, body query) (a answer, found bool, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return a, false, err
	}
	c := call{method: http.MethodPost, path: "/" + f.alias + "/_search", body: text, query: url.Values{
		"allow_partial_search_results": {"false"},
		// The hits' own _source, all aggregations but the list of distinct users.
		"filter_path": {"timed_out,_shards.failed,hits.total,hits.hits._source,aggregations,-aggregations." + aggUsers + ".buckets"},
	}}
	raw, err := x.try(ctx, c)
	switch {
	case isNotFound(err):
		return a, false, nil
	case err != nil:
		return a, false, refused(err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, false, notAsked(err)
	}
	if a.TimedOut || a.Shards.Failed > 0 {
		return a, false, &audit.UnavailableError{Err: fmt.Errorf("OpenSearch answers in part: timed out %t, %d shards failed", a.TimedOut, a.Shards.Failed)}
	}
	return a, true, nil
}

// refused tells a query that OpenSearch finds too complex from other errors.
func refused(err error) error {
	var answer *answerError
	if errors.As(err, &answer) && answer.has(tooComplex()...) {
		return audit.Invalid("?q", "too_complex", "must have fewer conditions, and at least a few letters before a *")
	}
	return err
}

func tooComplex() []string {
	return []string{"too_many_clauses", "too_many_nested_clauses", "too_complex_to_determinize_exception"}
}

// notAsked says that an answer has another form, such as a proxy's.
func notAsked(err error) error {
	return &audit.UnavailableError{Err: fmt.Errorf("OpenSearch's answer is not what was asked for: %w", err)}
}

// Find implements search.Index. Positions are those of (timestamp, id) and stay
// good for as long as the entry beside them would, whether it is there or not.
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
	f, err := x.family(tenant)
	if err != nil {
		return audit.Page{}, err
	}
	where, err := compile(f, filter)
	if err != nil {
		return audit.Page{}, err
	}
	where = x.unexpired(where)
	r := pageReader{index: x, family: f, where: where, request: request, from: request.From}
	if err := r.read(ctx); err != nil {
		return audit.Page{}, err
	}
	return r.page(), nil
}

// pageReader gathers one page, in one request where entries are of the usual size.
type pageReader struct {
	index   *Index
	family  family
	where   query
	request audit.PageRequest

	from    *audit.Position // of the last entry that was read
	entries []audit.Entry
	bytes   int
	more    bool
}

// maxChunk is how many entries are asked for before their size is known: of
// 256 KiB each they are an answer of 30 to 60 MB.
const maxChunk = 128

// chunk is how many entries to ask for next.
func (r *pageReader) chunk() int {
	missing := r.request.Limit + 1 - len(r.entries)
	if len(r.entries) == 0 {
		return min(missing, maxChunk)
	}
	fitting := maxChunk * (256 << 10) / (r.bytes/len(r.entries) + 1) / 4 // entries vary
	return min(missing, max(fitting, maxChunk))
}

func (r *pageReader) read(ctx context.Context) error {
	for !r.more {
		asked := r.chunk()
		body, err := r.body(asked)
		if err != nil {
			return err
		}
		a, found, err := r.index.search(ctx, r.family, body)
		if err != nil || !found {
			return err
		}
		for i := range a.Hits.Hits {
			if err := r.take(&a.Hits.Hits[i]); err != nil || r.more {
				return err
			}
		}
		if len(a.Hits.Hits) < asked {
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

// take adds an entry, or finds that the page is full.
func (r *pageReader) take(h *hit) error {
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

// Contains implements search.Index. It asks for what searches find: an entry
// that Put returned for is there within a second.
func (x *Index) Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error) {
	f, err := x.family(tenant)
	if err != nil {
		return false, fmt.Errorf("look for %s in the index: %w", id, err)
	}
	c := call{method: http.MethodGet, path: "/" + f.writeAlias(monthOf(id)) + "/_doc/" + id.String(), query: url.Values{
		"realtime": {"false"}, "_source_includes": {fieldTenant},
	}}
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Contains)
	defer cancel()
	body, err := x.try(ctx, c)
	var none *answerError
	if errors.As(err, &none) && none.status == http.StatusNotFound && (len(none.kinds) == 0 || none.has(kindNotFound)) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, err)
	}
	var document struct {
		Source struct {
			Tenant audit.TenantID `json:"tenant_id"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, notAsked(err))
	}
	return document.Source.Tenant == tenant, nil
}

// maxIDs is OpenSearch's max_result_window.
const maxIDs = 10_000

// IDs implements search.IDLister. It lists what has expired as well: the system
// of record takes its time to remove it, and what only one of the two lists
// would count as missing meanwhile.
func (x *Index) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	f, err := x.family(tenant)
	if err != nil {
		return nil, fmt.Errorf("list ids: %w", err)
	}
	where, err := compile(f, audit.Filter{From: from, To: to})
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	body := query{
		"size": min(limit, maxIDs), "query": where, "_source": []string{fieldID}, "track_total_hits": false,
		"sort": []query{{fieldID: "asc"}}, "search_after": []string{after.String()},
	}
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Count)
	defer cancel()
	a, _, err := x.search(ctx, f, body)
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	ids := make([]audit.EntryID, len(a.Hits.Hits))
	for i := range a.Hits.Hits {
		if ids[i], err = audit.ParseEntryID(a.Hits.Hits[i].Source.ID); err != nil {
			return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
		}
	}
	return ids, nil
}
