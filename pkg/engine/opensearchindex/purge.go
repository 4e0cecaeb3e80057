package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Purge implements jobs.Purger. Its records are entries. It removes each index of the
// tenant's own family as a whole, whatever the limit, and about limit documents of the
// pools. It does not need the tenant's placements: it looks in every pool.
func (x *Index) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	if _, err := audit.ParseTenantID(string(tenant)); err != nil {
		return 0, fmt.Errorf("purge index: %w", err)
	}
	n, err := x.purgeOwn(ctx, tenant)
	if err == nil && n == 0 {
		n, err = x.purgePools(ctx, tenant, limit)
	}
	if err != nil {
		return 0, fmt.Errorf("purge index of %s: %w", tenant, err)
	}
	return n, nil
}

func (x *Index) purgeOwn(ctx context.Context, tenant audit.TenantID) (int, error) {
	indexes, err := x.indexes(ctx, x.ownFamily(tenant))
	if err != nil {
		return 0, err
	}
	for _, index := range indexes {
		if n, err := x.purgeIndex(ctx, index); err != nil || n > 0 {
			return n, err
		}
	}
	return 0, nil
}

// indexes returns the sorted names of the family's indexes.
func (x *Index) indexes(ctx context.Context, f family) ([]string, error) {
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: "/_resolve/index/" + f.index("*"), query: url.Values{
		"expand_wildcards": {"open,closed,hidden"},
	}})
	if err != nil {
		return nil, err
	}
	var resolved struct {
		Indices []struct {
			Name string `json:"name"`
		} `json:"indices"`
	}
	if err := json.Unmarshal(body, &resolved); err != nil {
		return nil, err
	}
	var names []string
	for _, index := range resolved.Indices {
		if f.has(index.Name) {
			names = append(names, index.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// deleteTimeout bounds one deletion by query. OpenSearch completes the deletion after the
// timeout, and the next call finds fewer documents.
const deleteTimeout = 2 * time.Minute

// purgePools deletes up to limit of the tenant's documents from the pools. A closed index
// makes it fail, so that its documents are not left behind.
func (x *Index) purgePools(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	where, err := compile(tenant, audit.Filter{})
	if err != nil {
		return 0, err
	}
	path := "/" + x.config.Prefix + "-p*"
	names, err := x.poolsWith(ctx, path, tenant, where)
	if err == nil && len(names) == 0 { // perhaps in what no refresh has made visible yet
		if _, err = x.sendWrite(ctx, httpRequest{method: http.MethodPost, path: path + "/_refresh"}); err == nil {
			names, err = x.poolsWith(ctx, path, tenant, where)
		}
	}
	if err != nil || len(names) == 0 {
		return 0, err
	}
	result, err := x.deleteBy(ctx, "/"+strings.Join(names, ","), string(tenant), query{"query": where, "max_docs": limit})
	return result.Deleted, err
}

// maxPurgedPools is how many indexes one deletion by query names. They fit into a URL, which
// OpenSearch limits to 4,096 bytes.
const maxPurgedPools = 20

// poolsWith returns some of the pools' indexes that have documents of the tenant, so that only
// those are searched and refreshed. It fails if an index is closed.
func (x *Index) poolsWith(ctx context.Context, path string, tenant audit.TenantID, where query) ([]string, error) {
	body, err := json.Marshal(query{"size": 0, "query": where, "aggs": query{"indexes": query{"terms": query{"field": "_index", "size": maxPurgedPools}}}})
	if err != nil {
		return nil, err
	}
	raw, err := x.sendWrite(ctx, httpRequest{method: http.MethodPost, path: path + "/_search", body: body,
		query: parameters(string(tenant), url.Values{"expand_wildcards": {"open,closed"}, "allow_partial_search_results": {"false"}})})
	if err != nil {
		return nil, err
	}
	var result struct {
		Aggregations struct {
			Indexes struct {
				Buckets []struct {
					Key string `json:"key"`
				} `json:"buckets"`
			} `json:"indexes"`
		} `json:"aggregations"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return nil, err
	}
	var names []string
	for _, b := range result.Aggregations.Indexes.Buckets {
		names = append(names, b.Key)
	}
	return names, nil
}

// purgeIndex removes an index and returns how many entries it had. It returns 0 if another
// purge has removed the index.
func (x *Index) purgeIndex(ctx context.Context, index string) (int, error) {
	n, err := x.deleteIndex(ctx, index)
	if isNotFound(err) {
		return 0, nil
	}
	return n, err
}

func (x *Index) deleteIndex(ctx context.Context, index string) (int, error) {
	if err := x.refresh(ctx, index); err != nil {
		return 0, err
	}
	n, err := x.countIndex(ctx, index)
	if err != nil {
		return 0, err
	}
	return n, x.manage(ctx, http.MethodDelete, "/"+index, nil)
}

// countIndex counts the documents in the primary shards: a replica may have been refreshed earlier.
func (x *Index) countIndex(ctx context.Context, index string) (int, error) {
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: "/" + index + "/_count", query: url.Values{"preference": {"_primary"}}})
	if err != nil {
		return 0, err
	}
	if err := checkShards(body, index); err != nil {
		return 0, err
	}
	var counted struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(body, &counted); err != nil {
		return 0, unexpectedResponse(err)
	}
	return counted.Count, nil
}

// checkShards returns an *audit.UnavailableError if shards failed in what a response is about.
func checkShards(body []byte, index string) error {
	var response struct {
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return unexpectedResponse(err)
	}
	if n := response.Shards.Failed; n > 0 {
		return &audit.UnavailableError{Err: fmt.Errorf("%d shards of %s failed", n, index)}
	}
	return nil
}

// refresh makes all writes to the index countable. It opens a closed index first.
func (x *Index) refresh(ctx context.Context, index string) error {
	refresh := httpRequest{method: http.MethodPost, path: "/" + index + "/_refresh"}
	_, err := x.sendWrite(ctx, refresh)
	var response *responseError
	if !errors.As(err, &response) || !response.has(kindClosed) {
		return err
	}
	if err := x.manage(ctx, http.MethodPost, "/"+index+"/_open", nil); err != nil {
		return err
	}
	_, err = x.sendWrite(ctx, refresh)
	return err
}
