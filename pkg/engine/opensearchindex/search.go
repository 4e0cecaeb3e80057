package opensearchindex

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// searchResponse has the parts of a search's response that this package reads.
type searchResponse struct {
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
	Aggregations aggregations `json:"aggregations"`
}

type hit struct {
	Source struct {
		Entry string `json:"entry"`
	} `json:"_source"`
	Sort []json.RawMessage `json:"sort"`
}

// aggregations are results of aggregations by their names. A bucket of an
// aggregation has the same form.
type aggregations map[string]json.RawMessage

// search searches the indexes of a scope. The body's query must have the tenant's condition,
// which compile gives it. A response of only some shards is an error.
func (x *Index) search(ctx context.Context, s scope, body query) (searchResponse, error) {
	return x.searchWithin(ctx, s, body, 0)
}

// searchWithin is search with a limit of the response, in bytes; 0: none. OpenSearch ends
// the search when ctx ends: it cancels the search of a closed connection, and gets the
// time that is left, in case a proxy keeps the connection open.
func (x *Index) searchWithin(ctx context.Context, s scope, body query, maxResponse int64) (r searchResponse, err error) {
	values := url.Values{
		"allow_partial_search_results": {"false"},
		// Only the _source and the sort values of hits, and no list of distinct users.
		"filter_path": {"timed_out,_shards.failed,hits.total,hits.hits._source,hits.hits.sort,aggregations,-aggregations." + aggUsers + ".buckets"},
	}
	if deadline, bounded := ctx.Deadline(); bounded {
		left := strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10) + "ms"
		body = maps.Clone(body)
		body["timeout"] = left
		values.Set("cancel_after_time_interval", left)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return r, err
	}
	raw, err := x.sendRead(ctx, httpRequest{
		method: http.MethodPost, path: "/" + s.patterns() + "/_search", body: text, query: parameters(s.routing(), values), maxResponse: maxResponse,
	})
	if err != nil {
		return r, complexityError(err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, unexpectedResponse(err)
	}
	if r.TimedOut || r.Shards.Failed > 0 {
		return r, &audit.UnavailableError{Err: fmt.Errorf("OpenSearch answers in part: timed out %t, %d shards failed", r.TimedOut, r.Shards.Failed)}
	}
	return r, nil
}

// parameters adds to the parameters of a request what it needs for patterns of indexes. A
// closed index makes the request fail, so that its entries are not silently absent.
func parameters(routing string, values url.Values) url.Values {
	values.Set("expand_wildcards", "open,closed,hidden")
	values.Set("allow_no_indices", "true")
	if routing != "" {
		values.Set("routing", routing)
	}
	return values
}
