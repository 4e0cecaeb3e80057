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
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// CodeRefused is the code of a rejection by OpenSearch itself.
const CodeRefused = "index_refused"

// item is one entry of a bulk request.
type item struct {
	batch  int // position among Put's batches
	index  int // position in the batch
	family family
	month  string // with the family it names the index
	lines  []byte // the action and the document
}

// Put implements search.IndexWriter. Batches share bulk requests of up to
// Config.MaxBulkBytes. Put retries only the entries that OpenSearch has no capacity for,
// and those of a month without an index. If the write budget or the context ends first, the
// result is an *audit.UnavailableError. Put overwrites an entry that is already indexed, so
// that its success always means that the entry is durable.
func (x *Index) Put(ctx context.Context, batches []search.Batch) []search.PutResult {
	w := &bulkWrite{Index: x, results: make([]search.PutResult, len(batches)), delays: newRetries(x.config.WriteBudget)}
	var items []item
	for i, b := range batches {
		s, err := x.scope(ctx, b.Tenant)
		if err != nil {
			w.results[i].Err = err
			continue
		}
		added, rejections := newItems(s, b.Entries)
		for j := range added {
			added[j].batch = i
		}
		items, w.results[i].Rejections = append(items, added...), rejections
	}
	if len(items) > 0 {
		if err := x.putTemplates(ctx); err != nil {
			w.fail(items, err)
		}
	}
	for _, run := range divide(items, x.config.MaxBulkBytes) {
		w.write(ctx, run)
	}
	for i, b := range batches {
		if err := w.results[i].Err; err != nil {
			w.results[i] = search.PutResult{Err: fmt.Errorf("index %d entries of %s: %w", len(b.Entries), b.Tenant, err)}
		}
	}
	return w.results
}

func newItems(s scope, entries []audit.Entry) (items []item, rejections []audit.Rejection) {
	for i := range entries {
		e := &entries[i]
		f, month := s.familyAt(e.ReceivedAt), monthOf(e.ID)
		lines, err := appendDocument(appendAction(nil, s.tenant, f.index(month), f.pool, e.ID), s.tenant, e)
		if err != nil {
			rejections = append(rejections, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: "the metadata is not a JSON object that can be indexed"})
			continue
		}
		items = append(items, item{index: i, family: f, month: month, lines: append(lines, '\n')})
	}
	return items, rejections
}

// appendAction appends the line of a bulk request that precedes a document.
func appendAction(dst []byte, tenant audit.TenantID, index string, pool bool, id audit.EntryID) []byte {
	if pool {
		return fmt.Appendf(dst, `{"index":{"_index":%q,"_id":%q,"routing":%q}}`+"\n", index, documentID(tenant, id), tenant)
	}
	return fmt.Appendf(dst, `{"index":{"_index":%q,"_id":%q}}`+"\n", index, documentID(tenant, id))
}

// divide divides items into runs of at most maxBytes. A larger item is a run of its own.
func divide(items []item, maxBytes int) [][]item {
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

// bulkWrite is one call of Put.
type bulkWrite struct {
	*Index
	results  []search.PutResult
	delays   *retries             // of all bulk requests together
	prepared bool                 // whether an index was created
	blocked  map[string]*meetings // of indexes that take no writes, by their names
}

// meetings counts the bulk requests that met an index which takes no writes.
type meetings struct {
	all  int
	free int // of these the last ones, after which the index had no lock
}

// fail ends the batches of the items with an error.
func (w *bulkWrite) fail(items []item, err error) {
	for i := range items {
		if r := &w.results[items[i].batch]; r.Err == nil {
			r.Err = err
		}
	}
}

// write sends the items until each is indexed or rejected, or its batch has failed.
func (w *bulkWrite) write(ctx context.Context, pending []item) {
	for {
		pending = slices.DeleteFunc(pending, func(i item) bool { return w.results[i.batch].Err != nil })
		if len(pending) == 0 {
			return
		}
		result, err := w.bulk(ctx, pending)
		if err != nil {
			w.fail(pending, err)
			return
		}
		w.apply(ctx, &result)
		w.applyBlocked(ctx, &result)
		if len(result.retry) == 0 {
			return
		}
		if len(result.missing) > 0 && !w.prepared {
			w.delays, w.prepared = newRetries(w.config.WriteBudget), true // the new index is not charged to the budget
		}
		if pending = result.retry; !w.delays.wait(ctx) {
			w.fail(pending, errors.Join(ctx.Err(), asUnavailable(result.cause)))
			return
		}
	}
}

// apply enters the rejections and failures of a bulk request, and creates missing indexes.
func (w *bulkWrite) apply(ctx context.Context, result *bulkResult) {
	for _, r := range result.rejections {
		w.results[r.batch].Rejections = append(w.results[r.batch].Rejections, r.Rejection)
	}
	for _, f := range result.failures {
		w.fail([]item{f.item}, f.err)
	}
	for _, missing := range result.missing {
		if err := w.create(ctx, missing.family, missing.month, w.config.Shards); err != nil {
			w.fail([]item{missing}, err)
		}
	}
}

// undoAfter is how often an index was met that takes no writes before a removal of it that was killed
// is undone. By then it has taken longer than a removal takes.
const undoAfter = 5

// applyBlocked has the items sent again that met an index which is being removed. It fails those that
// met an index which others have blocked.
func (w *bulkWrite) applyBlocked(ctx context.Context, result *bulkResult) {
	answers := map[string]error{}
	for _, i := range result.blocked {
		index := i.family.index(i.month)
		err, asked := answers[index]
		if !asked {
			err = w.mayOpen(ctx, index)
			answers[index] = err
		}
		if err != nil {
			w.fail([]item{i}, asUnavailable(errors.Join(err, result.cause)))
			continue
		}
		result.retry = append(result.retry, i)
	}
}

// mayOpen returns an error if an index that takes no writes is not being removed.
func (w *bulkWrite) mayOpen(ctx context.Context, index string) error {
	if w.blocked == nil {
		w.blocked = map[string]*meetings{}
	}
	met := w.blocked[index]
	if met == nil {
		met = new(meetings)
		w.blocked[index] = met
	}
	if met.all++; met.all == undoAfter {
		return w.undoRemoval(ctx, index)
	}
	locks, err := w.locks(ctx, index)
	if err != nil {
		return err
	}
	if len(locks) > 0 {
		met.free = 0
		return nil
	}
	if met.free++; met.free > 1 { // after one meeting its removal may just be over
		return errors.New("writes to the index are blocked")
	}
	return nil
}

// bulkResult describes the items of one bulk request that were not indexed.
type bulkResult struct {
	retry      []item
	blocked    []item // of indexes that take no writes
	cause      error  // why one item of retry or blocked was not indexed
	missing    []item // one item of each month without an index
	rejections []rejection
	failures   []itemFailure
}

// rejection is the rejection of an entry of a batch.
type rejection struct {
	batch int
	audit.Rejection
}

// itemFailure is the failure of an item for which a retry cannot help.
type itemFailure struct {
	item item
	err  error
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
		result.add(items[i], response.Items[i]["index"])
	}
	return result, nil
}

// itemResponse is OpenSearch's response for one item.
type itemResponse struct {
	Status int         `json:"status"`
	Error  errorDetail `json:"error"`
}

func (b *bulkResult) add(sent item, response itemResponse) {
	if response.Status >= 200 && response.Status <= 299 {
		return
	}
	err := &responseError{status: response.Status, kinds: response.Error.appendKinds(nil)}
	switch {
	case isTemporaryStatus(response.Status):
		b.retry, b.cause = append(b.retry, sent), err
	case response.Status == http.StatusNotFound && err.has(kindNotFound):
		b.retry, b.cause = append(b.retry, sent), &audit.UnavailableError{Err: err}
		if !slices.ContainsFunc(b.missing, func(m item) bool { return m.family == sent.family && m.month == sent.month }) {
			b.missing = append(b.missing, sent)
		}
	case response.Status == http.StatusForbidden && err.has(kindBlocked):
		b.blocked, b.cause = append(b.blocked, sent), err
	case response.Status == http.StatusBadRequest && err.has(documentErrorKinds()...):
		b.rejections = append(b.rejections, rejection{batch: sent.batch, Rejection: audit.Rejection{
			Index: sent.index, Code: CodeRefused, Reason: "OpenSearch refuses the document: " + err.kinds[len(err.kinds)-1],
		}})
	default: // not the entry's fault: for example, the index is closed
		b.failures = append(b.failures, itemFailure{item: sent, err: asUnavailable(err)})
	}
}
