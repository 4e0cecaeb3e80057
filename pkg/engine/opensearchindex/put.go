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

// CodeRefused is the code of a rejection by OpenSearch itself.
const CodeRefused = "index_refused"

// item is one entry of a bulk request.
type item struct {
	index int    // position in Put's batch
	month string // names the index
	lines []byte // the action and the document
}

// Put implements search.IndexWriter. It retries only the entries that OpenSearch
// has no capacity for, and those of a month without an index. If the write budget
// or the context ends first, it returns an *audit.UnavailableError. Put
// overwrites an entry that is already indexed, so that its success always means
// that the entry is durable.
func (x *Index) Put(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]audit.Rejection, error) {
	f, err := x.family(tenant)
	if err != nil {
		return nil, fmt.Errorf("index entries: %w", err)
	}
	items, rejections := newItems(f, entries)
	for _, batch := range batches(items, x.config.MaxBulkBytes) {
		rejected, err := x.putBatch(ctx, f, batch)
		if err != nil {
			return nil, fmt.Errorf("index %d entries of %s: %w", len(batch), tenant, err)
		}
		rejections = append(rejections, rejected...)
	}
	return rejections, nil
}

func newItems(f family, entries []audit.Entry) (items []item, rejections []audit.Rejection) {
	for i := range entries {
		e := &entries[i]
		month := monthOf(e.ID)
		lines := fmt.Appendf(nil, `{"index":{"_index":%q,"_id":%q,"require_alias":true}}`+"\n", f.writeAlias(month), e.ID.String())
		lines, err := appendDocument(lines, f.tenant, e)
		if err != nil {
			rejections = append(rejections, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: "the metadata is not a JSON object that can be indexed"})
			continue
		}
		items = append(items, item{index: i, month: month, lines: append(lines, '\n')})
	}
	return items, rejections
}

// batches divides items into runs of at most maxBytes. A larger item is a run of its own.
func batches(items []item, maxBytes int) [][]item {
	var runs [][]item
	size := 0
	for i := range items {
		if size += len(items[i].lines); len(runs) == 0 || size > maxBytes {
			runs = append(runs, nil)
			size = len(items[i].lines)
		}
		last := len(runs) - 1
		runs[last] = append(runs[last], items[i])
	}
	return runs
}

func (x *Index) putBatch(ctx context.Context, f family, pending []item) (rejections []audit.Rejection, err error) {
	delays := newRetries(x.config.WriteBudget)
	prepared := false
	for {
		result, err := x.bulk(ctx, pending)
		if err != nil {
			return nil, err
		}
		rejections = append(rejections, result.rejections...)
		for _, month := range result.missing {
			if err := x.prepare(ctx, f, month); err != nil {
				return nil, err
			}
		}
		if len(result.retry) == 0 {
			return rejections, nil
		}
		if len(result.missing) > 0 && !prepared {
			delays, prepared = newRetries(x.config.WriteBudget), true // the new index is not charged to the budget
		}
		if pending = result.retry; !delays.wait(ctx) {
			return nil, errors.Join(ctx.Err(), asUnavailable(result.cause))
		}
	}
}

// bulkResult describes the items of one bulk request that were not indexed.
type bulkResult struct {
	retry      []item
	cause      error    // why one item of retry was not indexed
	missing    []string // months without an index
	rejections []audit.Rejection
}

// bulk sends the items once. It returns an error only if a retry cannot help.
func (x *Index) bulk(ctx context.Context, items []item) (bulkResult, error) {
	r := httpRequest{method: http.MethodPost, path: "/_bulk", query: url.Values{
		"filter_path": {"items.*.status,items.*.error"},
		"timeout":     {"5s"}, // how long OpenSearch waits for a primary shard
	}}
	if x.config.WaitForRefresh {
		r.query.Set("refresh", "wait_for")
	}
	for i := range items {
		r.body = append(r.body, items[i].lines...)
	}
	body, err := x.sendWithin(ctx, x.config.Timeouts.Write, r)
	switch {
	case err != nil && isTemporary(err):
		return bulkResult{retry: items, cause: err}, nil
	case err != nil:
		return bulkResult{}, asUnavailable(err)
	}
	return readBulk(body, items)
}

func readBulk(body []byte, items []item) (result bulkResult, err error) {
	var response struct {
		Items []map[string]itemResponse `json:"items"`
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return bulkResult{}, unexpectedResponse(err)
	}
	if len(response.Items) != len(items) {
		return bulkResult{}, fmt.Errorf("OpenSearch answers for %d of %d entries", len(response.Items), len(items))
	}
	for i := range items {
		if err := result.add(items[i], response.Items[i]["index"]); err != nil {
			return bulkResult{}, err
		}
	}
	return result, nil
}

// itemResponse is OpenSearch's response for one item.
type itemResponse struct {
	Status int         `json:"status"`
	Error  errorDetail `json:"error"`
}

func (b *bulkResult) add(sent item, response itemResponse) error {
	if response.Status >= 200 && response.Status <= 299 {
		return nil
	}
	err := &responseError{status: response.Status, kinds: response.Error.appendKinds(nil)}
	switch {
	case isTemporaryStatus(response.Status):
		b.retry, b.cause = append(b.retry, sent), err
	case response.Status == http.StatusNotFound && err.has(kindNotFound):
		b.retry, b.cause = append(b.retry, sent), &audit.UnavailableError{Err: err}
		if !slices.Contains(b.missing, sent.month) {
			b.missing = append(b.missing, sent.month)
		}
	case response.Status == http.StatusBadRequest && err.has(documentErrorKinds()...):
		b.rejections = append(b.rejections, audit.Rejection{
			Index: sent.index, Code: CodeRefused, Reason: "OpenSearch refuses the document: " + err.kinds[len(err.kinds)-1],
		})
	default:
		return asUnavailable(err) // not the entry's fault: for example, the index is closed or lost its write alias
	}
	return nil
}
