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

// Put implements search.IndexWriter. Entries that OpenSearch has no room for
// now, and those of a month that has no index yet, are sent again alone, until
// the write budget or the context ends; then the error is an
// *audit.UnavailableError. An entry that is there already is written again:
// its acknowledgement then means that it is durable, whatever became of the
// first one's.
func (x *Index) Put(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) ([]audit.Rejection, error) {
	f, err := x.family(tenant)
	if err != nil {
		return nil, fmt.Errorf("index entries: %w", err)
	}
	items, rejections := newItems(f, entries)
	for _, batch := range batches(items, x.config.MaxBulkBytes) {
		refused, err := x.putBatch(ctx, f, batch)
		if err != nil {
			return nil, fmt.Errorf("index %d entries of %s: %w", len(batch), tenant, err)
		}
		rejections = append(rejections, refused...)
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

// batches cuts items into runs of at most limit bytes, or of one item.
func batches(items []item, limit int) [][]item {
	var cut [][]item
	size := 0
	for i := range items {
		if size += len(items[i].lines); len(cut) == 0 || size > limit {
			cut = append(cut, nil)
			size = len(items[i].lines)
		}
		last := len(cut) - 1
		cut[last] = append(cut[last], items[i])
	}
	return cut
}

func (x *Index) putBatch(ctx context.Context, f family, pending []item) (refused []audit.Rejection, err error) {
	pause := newPause(x.config.WriteBudget)
	prepared := false
	for {
		var sent outcome
		if sent, err = x.bulk(ctx, pending); err != nil {
			return nil, err
		}
		refused = append(refused, sent.refused...)
		for _, month := range sent.missing {
			if err := x.prepare(ctx, f, month); err != nil {
				return nil, err
			}
		}
		if len(sent.again) == 0 {
			return refused, nil
		}
		if len(sent.missing) > 0 && !prepared {
			pause, prepared = newPause(x.config.WriteBudget), true // making an index takes its time
		}
		if pending = sent.again; !pause.wait(ctx) {
			return nil, errors.Join(ctx.Err(), failure(sent.cause))
		}
	}
}

// outcome is what became of the items of one bulk request that were not indexed.
type outcome struct {
	again   []item // to be sent again
	cause   error  // of one of them
	missing []string
	refused []audit.Rejection
}

// bulk sends the items once. Its error is one that does not pass.
func (x *Index) bulk(ctx context.Context, items []item) (outcome, error) {
	c := call{method: http.MethodPost, path: "/_bulk", query: url.Values{
		"filter_path": {"items.*.status,items.*.error"},
		"timeout":     {"5s"}, // for a primary shard; after that it is ours to wait
	}}
	if x.config.WaitForRefresh {
		c.query.Set("refresh", "wait_for")
	}
	for i := range items {
		c.body = append(c.body, items[i].lines...)
	}
	body, err := x.attempt(ctx, x.config.Timeouts.Write, c)
	switch {
	case err != nil && passes(err):
		return outcome{again: items, cause: err}, nil
	case err != nil:
		return outcome{}, failure(err)
	}
	var answer struct {
		Items []map[string]itemAnswer `json:"items"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return outcome{}, notAsked(err)
	}
	if len(answer.Items) != len(items) {
		return outcome{}, fmt.Errorf("OpenSearch answers for %d of %d entries", len(answer.Items), len(items))
	}
	var o outcome
	for i := range items {
		if err := o.add(items[i], answer.Items[i]["index"]); err != nil {
			return outcome{}, err
		}
	}
	return o, nil
}

// itemAnswer is OpenSearch's answer for one item.
type itemAnswer struct {
	Status int   `json:"status"`
	Error  cause `json:"error"`
}

func (o *outcome) add(sent item, answer itemAnswer) error {
	if answer.Status >= 200 && answer.Status <= 299 {
		return nil
	}
	err := &answerError{status: answer.Status, kinds: answer.Error.kinds(nil)}
	switch {
	case passingStatus(answer.Status):
		o.again, o.cause = append(o.again, sent), err
	case answer.Status == http.StatusNotFound && err.has(kindNotFound):
		o.again, o.cause = append(o.again, sent), &audit.UnavailableError{Err: err}
		if !slices.Contains(o.missing, sent.month) {
			o.missing = append(o.missing, sent.month)
		}
	case answer.Status == http.StatusBadRequest && err.has(refusals()...):
		o.refused = append(o.refused, audit.Rejection{
			Index: sent.index, Code: CodeRefused, Reason: "OpenSearch refuses the document: " + err.kinds[len(err.kinds)-1],
		})
	default:
		return failure(err) // such as an index that is closed or has lost its write alias: not the entry's fault
	}
	return nil
}

// refusals are the errors that are of the document itself.
func refusals() []string {
	return []string{
		"mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception", "parse_exception", "parsing_exception",
		"x_content_parse_exception", "max_bytes_length_exceeded_exception",
	}
}
