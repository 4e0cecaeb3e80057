package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The fields of a document that are not in audit.FilterFields.
const (
	fieldID             = "id"
	fieldTenant         = "tenant_id"
	fieldTimestamp      = "timestamp"
	fieldUserAgent      = "user_agent"
	fieldMessage        = "message"
	fieldIdempotencyKey = "idempotency_key"
	fieldReceivedAt     = "received_at"
	fieldTokens         = "tokens" // the scalar leaves of the metadata
	fieldEntry          = "entry"  // the stored entry's text
)

// schemaVersion is the version of the mapping. The template and every index have it.
const schemaVersion = 1

// templatePriority is higher than the usual priority of other templates.
const templatePriority = 1000

func mapping() map[string]any {
	keyword := map[string]any{"type": "keyword"}
	date := map[string]any{"type": "date", "format": "strict_date_time"}
	// A stored field is only for people who read the document. It is not indexed,
	// so it may have any length.
	stored := map[string]any{"type": "keyword", "index": false, "doc_values": false}
	properties := map[string]any{
		fieldID: keyword, fieldTenant: keyword, fieldTokens: keyword,
		fieldTimestamp: date, fieldReceivedAt: date,
		// The field has the words of audit.Words, separated by spaces, so that all
		// engines find the same words.
		fieldMessage:   map[string]any{"type": "text", "analyzer": "whitespace", "norms": false},
		fieldUserAgent: stored, fieldIdempotencyKey: stored, fieldEntry: stored,
	}
	for _, field := range audit.FilterFields() {
		properties[string(field)] = keyword // addresses are compared byte for byte too
	}
	return map[string]any{
		"dynamic": false, "date_detection": false, "numeric_detection": false,
		"_meta": map[string]any{"ocelot_schema": schemaVersion}, "properties": properties,
	}
}

func (x *Index) settings() map[string]any {
	return map[string]any{"index": map[string]any{
		"number_of_shards": x.config.Shards, "number_of_replicas": x.config.Replicas,
		"refresh_interval": "1s",               // search.Index promises a second
		"codec":            "best_compression", // written once, read seldom
		"translog":         map[string]any{"durability": "request"},
	}}
}

// template returns the index template of a family. Its pattern also matches the
// indexes of tenants whose id continues after a hyphen. Their own template has a
// higher priority, because their id is longer.
func (x *Index) template(f family) map[string]any {
	return map[string]any{
		"index_patterns": []string{f.alias + "-*"},
		"priority":       templatePriority + len(f.tenant),
		"version":        schemaVersion,
		"template":       map[string]any{"settings": x.settings(), "mappings": mapping()},
	}
}

// prepare creates the family's index for the month with its aliases, unless it
// exists. Several writers may call it at the same time.
func (x *Index) prepare(ctx context.Context, f family, month string) error {
	if err := x.manage(ctx, http.MethodPut, "/_index_template/"+f.alias, x.template(f)); err != nil {
		return fmt.Errorf("put template %s: %w", f.alias, err)
	}
	aliases := map[string]any{f.alias: map[string]any{}, f.writeAlias(month): map[string]any{}}
	err := x.manage(ctx, http.MethodPut, "/"+f.index(month), map[string]any{"aliases": aliases})
	var response *responseError
	if errors.As(err, &response) && response.has(kindExists) {
		err = x.addAliases(ctx, f, month)
	}
	if err != nil {
		return fmt.Errorf("create index %s: %w", f.index(month), err)
	}
	return nil
}

// addAliases adds the aliases to an index that may exist without them.
func (x *Index) addAliases(ctx context.Context, f family, month string) error {
	var actions []any
	for _, alias := range []string{f.alias, f.writeAlias(month)} {
		actions = append(actions, map[string]any{"add": map[string]any{"index": f.index(month), "alias": alias}})
	}
	return x.manage(ctx, http.MethodPost, "/_aliases", map[string]any{"actions": actions})
}

// manage changes the cluster's state. Its requests have no content of entries.
func (x *Index) manage(ctx context.Context, method, path string, body any) error {
	r := httpRequest{method: method, path: path}
	if body != nil {
		var err error
		if r.body, err = json.Marshal(body); err != nil {
			return err
		}
	}
	_, err := x.sendWrite(ctx, r)
	return withReason(err)
}
