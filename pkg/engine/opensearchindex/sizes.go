package opensearchindex

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The methods in this file are about families and not about entries. They return numbers
// and no content.

// Sizes implements tenants.IndexSizes.
func (x *Index) Sizes(ctx context.Context, month time.Time) (own map[audit.TenantID]int64, pools map[string]int64, err error) {
	suffix := monthAt(month)
	ownPrefix, poolPrefix := x.config.Prefix+"-t-", x.config.Prefix+"-"
	path := "/_cat/indices/" + ownPrefix + "*." + suffix + "," + poolPrefix + "p*-" + suffix
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: path, query: url.Values{
		"format": {"json"}, "h": {"index,docs.count"}, "expand_wildcards": {"open,hidden"},
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("measure the indexes of %s: %w", suffix, err)
	}
	var listed []struct {
		Index string `json:"index"`
		Count string `json:"docs.count"`
	}
	if err := json.Unmarshal(body, &listed); err != nil {
		return nil, nil, unexpectedResponse(err)
	}
	own, pools = map[audit.TenantID]int64{}, map[string]int64{}
	for _, index := range listed {
		n, err := strconv.ParseInt(index.Count, 10, 64)
		if err != nil {
			continue // its shards do not answer now
		}
		if name, ok := strings.CutPrefix(index.Index, ownPrefix); ok {
			own[audit.TenantID(strings.TrimSuffix(name, "."+suffix))] = n
		} else if pool := strings.TrimSuffix(strings.TrimPrefix(index.Index, poolPrefix), "-"+suffix); audit.IsPool(pool) {
			pools[pool] = n
		}
	}
	return own, pools, nil
}

// LargestInPools implements tenants.IndexSizes.
func (x *Index) LargestInPools(ctx context.Context, month time.Time, smallest int64, limit int) ([]audit.TenantID, error) {
	ctx, cancel := context.WithTimeout(ctx, x.config.Timeouts.Count)
	defer cancel()
	body, err := json.Marshal(query{"size": 0, "aggs": query{"tenants": query{"terms": query{
		"field": fieldTenant, "size": limit, "shard_size": 10 * limit, // a tenant's entries lie on several shards
	}}}})
	if err != nil {
		return nil, err
	}
	path := "/" + x.config.Prefix + "-p*-" + monthAt(month) + "/_search"
	raw, err := x.sendRead(ctx, httpRequest{method: http.MethodPost, path: path, body: body, query: url.Values{
		"allow_partial_search_results": {"false"}, "filter_path": {"aggregations"},
	}})
	if err != nil {
		return nil, fmt.Errorf("count the entries of tenants: %w", err)
	}
	var counted struct {
		Aggregations struct {
			Tenants struct {
				Buckets []struct {
					Tenant audit.TenantID `json:"key"`
					Count  int64          `json:"doc_count"`
				} `json:"buckets"`
			} `json:"tenants"`
		} `json:"aggregations"`
	}
	if err := json.Unmarshal(raw, &counted); err != nil {
		return nil, unexpectedResponse(err)
	}
	var largest []audit.TenantID
	for _, b := range counted.Aggregations.Tenants.Buckets {
		if b.Count >= smallest {
			largest = append(largest, b.Tenant)
		}
	}
	return largest, nil
}

// Prepare implements tenants.IndexSizes.
func (x *Index) Prepare(ctx context.Context, name string, tenant audit.TenantID, month time.Time, shards int) error {
	f := x.poolFamily(name)
	switch {
	case name == audit.FamilyOwn:
		if _, err := audit.ParseTenantID(string(tenant)); err != nil {
			return err
		}
		f = x.ownFamily(tenant)
	case !audit.IsPool(name):
		return fmt.Errorf("%q is not a family of indexes", name)
	}
	return x.create(ctx, f, monthAt(month), shards)
}
