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
)

// Purge implements jobs.Purger, with entries as records. A month that has at
// most limit entries left goes with its index. When none is left, the template
// goes too.
func (x *Index) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	f, err := x.family(tenant)
	if err != nil {
		return 0, fmt.Errorf("purge index: %w", err)
	}
	n, err := x.purge(ctx, f, limit)
	if err != nil {
		return 0, fmt.Errorf("purge index of %s: %w", tenant, err)
	}
	return n, nil
}

func (x *Index) purge(ctx context.Context, f family, limit int) (int, error) {
	indexes, err := x.indexes(ctx, f)
	if err != nil {
		return 0, err
	}
	for _, index := range indexes {
		if n, err := x.purgeIndex(ctx, index, limit); err != nil || n > 0 {
			return n, err
		}
	}
	err = x.manage(ctx, http.MethodDelete, "/_index_template/"+f.alias, nil)
	var answer *answerError
	if errors.As(err, &answer) && answer.status == http.StatusNotFound {
		err = nil
	}
	return 0, err
}

// indexes returns the family's indexes in their order, also such as have lost the alias.
func (x *Index) indexes(ctx context.Context, f family) ([]string, error) {
	// The pattern also matches tenants whose id goes on after a hyphen.
	body, err := x.insist(ctx, call{method: http.MethodGet, path: "/_resolve/index/" + f.alias + "-*", query: url.Values{
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

// purgeIndex removes up to limit entries, or the index where it has no more.
func (x *Index) purgeIndex(ctx context.Context, index string, limit int) (int, error) {
	if err := x.refresh(ctx, index); err != nil {
		return 0, gone(err)
	}
	body, err := x.insist(ctx, call{method: http.MethodGet, path: "/" + index + "/_count"})
	if err != nil {
		return 0, gone(err)
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
	if counted.Count > limit {
		return x.deleteSome(ctx, index, limit)
	}
	if err := x.manage(ctx, http.MethodDelete, "/"+index, nil); err != nil {
		return 0, gone(err)
	}
	return counted.Count, nil
}

// refresh has the index count what it has. One that was closed is opened for that.
func (x *Index) refresh(ctx context.Context, index string) error {
	refresh := call{method: http.MethodPost, path: "/" + index + "/_refresh"}
	_, err := x.insist(ctx, refresh)
	var answer *answerError
	if !errors.As(err, &answer) || !answer.has(kindClosed) {
		return err
	}
	if err := x.manage(ctx, http.MethodPost, "/"+index+"/_open", nil); err != nil {
		return err
	}
	_, err = x.insist(ctx, refresh)
	return err
}

// gone forgives that another purge was faster.
func gone(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// deleteTime is how long a deletion may take; OpenSearch goes on with one that
// took longer, and the next finds less.
const deleteTime = 2 * time.Minute

func (x *Index) deleteSome(ctx context.Context, index string, limit int) (int, error) {
	body, err := json.Marshal(query{"query": query{"match_all": query{}}, "max_docs": limit})
	if err != nil {
		return 0, err
	}
	answer, err := x.attempt(ctx, deleteTime, call{method: http.MethodPost, path: "/" + index + "/_delete_by_query", body: body, query: url.Values{
		"conflicts": {"proceed"}, "refresh": {"true"},
	}})
	if err != nil {
		return 0, failure(err)
	}
	var done struct {
		Deleted  int               `json:"deleted"`
		Failures []json.RawMessage `json:"failures"`
	}
	if err := json.Unmarshal(answer, &done); err != nil {
		return 0, err
	}
	if done.Deleted == 0 {
		return 0, &audit.UnavailableError{Err: fmt.Errorf("nothing of %s was deleted, %d failures", index, len(done.Failures))}
	}
	return done.Deleted, nil
}
