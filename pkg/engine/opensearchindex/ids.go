package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Contains implements search.Index. It sees what searches see: an entry within a
// second after Put returned.
func (x *Index) Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error) {
	f, err := x.family(tenant)
	if err != nil {
		return false, fmt.Errorf("look for %s in the index: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Contains)
	defer cancel()
	owner, err := x.ownerOf(ctx, f, id)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s of %s in the index: %w", id, tenant, err)
	}
	return owner == tenant, nil
}

// ownerOf returns the tenant of an indexed entry. It returns audit.ErrNotFound
// if the entry or its month is not in the index.
func (x *Index) ownerOf(ctx context.Context, f family, id audit.EntryID) (audit.TenantID, error) {
	path := "/" + f.writeAlias(monthOf(id)) + "/_doc/" + id.String()
	body, err := x.sendRead(ctx, httpRequest{method: http.MethodGet, path: path, query: url.Values{
		"realtime": {"false"}, "_source_includes": {fieldTenant},
	}})
	var response *responseError
	if errors.As(err, &response) && response.status == http.StatusNotFound && (len(response.kinds) == 0 || response.has(kindNotFound)) {
		return "", audit.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	var document struct {
		Source struct {
			Tenant audit.TenantID `json:"tenant_id"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return "", unexpectedResponse(err)
	}
	return document.Source.Tenant, nil
}

// maxIDs is OpenSearch's max_result_window.
const maxIDs = 10_000

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
	f, err := x.family(tenant)
	if err != nil {
		return nil, err
	}
	where, err := compile(f, filter)
	if err != nil {
		return nil, err
	}
	response, _, err := x.search(ctx, f, query{
		"size": min(limit, maxIDs), "query": where, "_source": []string{fieldID}, "track_total_hits": false,
		"sort": []query{{fieldID: "asc"}}, "search_after": []string{after.String()},
	})
	if err != nil {
		return nil, err
	}
	ids := make([]audit.EntryID, len(response.Hits.Hits))
	for i := range response.Hits.Hits {
		if ids[i], err = audit.ParseEntryID(response.Hits.Hits[i].Source.ID); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
