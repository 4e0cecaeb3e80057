package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Purge implements jobs.Purger. Its records are entries. It removes the index of one
// month as a whole, whatever the limit. After the last index it removes the template.
func (x *Index) Purge(ctx context.Context, tenant audit.TenantID, _ int) (int, error) {
	f, err := x.family(tenant)
	if err != nil {
		return 0, fmt.Errorf("purge index: %w", err)
	}
	n, err := x.purge(ctx, f)
	if err != nil {
		return 0, fmt.Errorf("purge index of %s: %w", tenant, err)
	}
	return n, nil
}

func (x *Index) purge(ctx context.Context, f family) (int, error) {
	indexes, err := x.indexes(ctx, f)
	if err != nil {
		return 0, err
	}
	for _, index := range indexes {
		if n, err := x.purgeIndex(ctx, index); err != nil || n > 0 {
			return n, err
		}
	}
	err = x.manage(ctx, http.MethodDelete, "/_index_template/"+f.alias, nil)
	var response *responseError
	if errors.As(err, &response) && response.status == http.StatusNotFound {
		err = nil
	}
	return 0, err
}

// indexes returns the sorted names of the family's indexes. They include
// indexes that have lost their alias.
func (x *Index) indexes(ctx context.Context, f family) ([]string, error) {
	// The pattern also matches tenants whose id continues after a hyphen.
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: "/_resolve/index/" + f.alias + "-*", query: url.Values{
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
		if f.owns(index.Name) {
			names = append(names, index.Name)
		}
	}
	slices.Sort(names)
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

func (x *Index) countIndex(ctx context.Context, index string) (int, error) {
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: "/" + index + "/_count"})
	if err != nil {
		return 0, err
	}
	var counted struct {
		Count  int `json:"count"`
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
	}
	if err := json.Unmarshal(body, &counted); err != nil {
		return 0, err
	}
	if counted.Shards.Failed > 0 {
		return 0, &audit.UnavailableError{Err: fmt.Errorf("%d shards of %s failed", counted.Shards.Failed, index)}
	}
	return counted.Count, nil
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
