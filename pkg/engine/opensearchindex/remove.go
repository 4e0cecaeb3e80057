package opensearchindex

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Remove implements retention.Index. It looks in every family that can have the entries. Entries
// that no refresh has made visible yet stay.
func (x *Index) Remove(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	s, err := x.scope(ctx, tenant)
	if err == nil {
		err = x.remove(ctx, s, ids)
	}
	if err != nil {
		return fmt.Errorf("remove %d entries of %s from the index: %w", len(ids), tenant, err)
	}
	return nil
}

func (x *Index) remove(ctx context.Context, s scope, ids []audit.EntryID) error {
	texts := make([]string, len(ids))
	from, to := ids[0].Time(), ids[0].Time()
	for i, id := range ids {
		texts[i] = id.String()
		if at := id.Time(); at.Before(from) {
			from = at
		} else if at.After(to) {
			to = at
		}
	}
	to = to.Add(time.Millisecond)
	where, err := compile(s.tenant, audit.Filter{From: from, To: to})
	if err != nil {
		return err
	}
	s = s.within(from, to)
	result, err := x.deleteBy(ctx, "/"+s.patterns(), s.routing(), query{
		"query": query{"bool": query{"filter": []query{where, {"terms": query{fieldID: texts}}}}},
	})
	if err == nil && result.Deleted < result.Total {
		err = &audit.UnavailableError{Err: fmt.Errorf("of %d documents %d were deleted", result.Total, result.Deleted)}
	}
	return err
}

// deleted says what a deletion by query did. Total is what it found.
type deleted struct {
	Total    int               `json:"total"`
	Deleted  int               `json:"deleted"`
	Failures []json.RawMessage `json:"failures"`
}

// maxDeletions is how often a deletion by query is tried that finds documents and deletes none.
const maxDeletions = 3

// deleteBy deletes what a query finds. A closed index makes it fail. It returns an
// *audit.UnavailableError if it found documents and could delete none.
func (x *Index) deleteBy(ctx context.Context, path, routing string, q query) (result deleted, err error) {
	for range maxDeletions {
		result, err = x.deleteOnce(ctx, path, routing, q)
		if err != nil || result.Deleted > 0 || result.Total == 0 || len(result.Failures) > 0 {
			break
		}
		// It found what was visible, and others have written all of it since then.
		if _, err = x.sendWrite(ctx, httpRequest{method: http.MethodPost, path: path + "/_refresh"}); err != nil {
			return result, err
		}
	}
	if err == nil && result.Deleted == 0 && (result.Total > 0 || len(result.Failures) > 0) {
		err = &audit.UnavailableError{Err: fmt.Errorf("of %d documents none was deleted, %d failures", result.Total, len(result.Failures))}
	}
	return result, err
}

// deleteOnce sends a deletion by query.
func (x *Index) deleteOnce(ctx context.Context, path, routing string, q query) (deleted, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return deleted{}, err
	}
	raw, err := x.sendWithin(ctx, deleteTimeout, httpRequest{method: http.MethodPost, path: path + "/_delete_by_query", body: body,
		query: parameters(routing, url.Values{"conflicts": {"proceed"}, "refresh": {"true"}})})
	if err != nil {
		return deleted{}, asUnavailable(err)
	}
	var result deleted
	if err := json.Unmarshal(raw, &result); err != nil {
		return deleted{}, err
	}
	return result, nil
}
