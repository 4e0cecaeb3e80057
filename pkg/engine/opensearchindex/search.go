package opensearchindex

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

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
		ID    string `json:"id"`
		Entry string `json:"entry"`
	} `json:"_source"`
}

// aggregations are results of aggregations by their names. A bucket of an
// aggregation has the same form.
type aggregations map[string]json.RawMessage

// search searches all months of a tenant. found is false if the tenant has
// none. A response of only some shards is an error.
func (x *Index) search(ctx context.Context, f family, body query) (r searchResponse, found bool, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return r, false, err
	}
	raw, err := x.sendRead(ctx, httpRequest{method: http.MethodPost, path: "/" + f.alias + "/_search", body: text, query: url.Values{
		"allow_partial_search_results": {"false"},
		// Only the _source of hits, and no list of distinct users.
		"filter_path": {"timed_out,_shards.failed,hits.total,hits.hits._source,aggregations,-aggregations." + aggUsers + ".buckets"},
	}})
	switch {
	case isNotFound(err):
		return r, false, nil
	case err != nil:
		return r, false, complexityError(err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, false, unexpectedResponse(err)
	}
	if r.TimedOut || r.Shards.Failed > 0 {
		return r, false, &audit.UnavailableError{Err: fmt.Errorf("OpenSearch answers in part: timed out %t, %d shards failed", r.TimedOut, r.Shards.Failed)}
	}
	return r, true, nil
}
