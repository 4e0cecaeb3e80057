package opensearchindex

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Contains implements search.Index. It sees what searches see: an entry within a
// second after Put returned.
func (x *Index) Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error) {
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return false, fmt.Errorf("look for %s in the index: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Contains)
	defer cancel()
	// The id gives the month but not the time of the receipt: the entry can be in each of
	// the tenant's families.
	at := id.Time()
	n, err := x.countIn(ctx, s, audit.Filter{From: at, To: at.Add(time.Millisecond)}, term(fieldID, id.String()))
	if err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, err)
	}
	return n > 0, nil
}

// countIn counts the documents of a scope that match the filter and the other conditions.
func (x *Index) countIn(ctx context.Context, s scope, filter audit.Filter, others ...query) (int64, error) {
	where, err := compile(s.tenant, filter)
	if err != nil {
		return 0, err
	}
	both := query{"bool": query{"filter": append(others, where)}}
	r, err := x.search(ctx, s.within(filter.From, filter.To), query{"size": 0, "query": both, "track_total_hits": true})
	return r.Hits.Total.Value, err
}

// IDs implements search.IDLister. It also lists expired entries, as the system of
// record does.
func (x *Index) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Count)
	defer cancel()
	ids, err := x.ids(ctx, tenant, audit.Filter{From: from, To: to}, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	return ids, nil
}

func (x *Index) ids(ctx context.Context, tenant audit.TenantID, filter audit.Filter, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return nil, err
	}
	where, err := compile(s.tenant, filter)
	if err != nil {
		return nil, err
	}
	response, err := x.search(ctx, s.within(filter.From, filter.To), query{
		"size": min(limit, search.MaxIDs), "query": where, "_source": false, "track_total_hits": false,
		"sort": []query{{fieldID: "asc"}}, "search_after": []string{after.String()},
	})
	if err != nil {
		return nil, err
	}
	ids := make([]audit.EntryID, len(response.Hits.Hits))
	for i := range response.Hits.Hits {
		// The sort value is the id. Reading it from _source takes twenty times as long.
		var text string
		if err := json.Unmarshal(slices.Concat(response.Hits.Hits[i].Sort...), &text); err != nil {
			return nil, unexpectedResponse(err)
		}
		if ids[i], err = audit.ParseEntryID(text); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Count implements search.IDLister.
func (x *Index) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Count)
	defer cancel()
	s, err := x.scope(ctx, tenant)
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	n, err := x.countIn(ctx, s, audit.Filter{From: from, To: to})
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (x *Index) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return x.Count(ctx, tenant, time.Time{}, time.Time{})
}
