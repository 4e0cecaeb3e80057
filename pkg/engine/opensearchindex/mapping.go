package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The fields of a document beside audit.FilterFields.
const (
	fieldID             = "id"
	fieldTenant         = "tenant_id"
	fieldTimestamp      = "timestamp"
	fieldUserAgent      = "user_agent"
	fieldMessage        = "message"
	fieldIdempotencyKey = "idempotency_key"
	fieldReceivedAt     = "received_at"
	fieldExpiresAt      = "expires_at"
	fieldTokens         = "tokens" // the scalar leaves of the metadata
	fieldEntry          = "entry"  // the stored entry's text
)

// schemaVersion counts the changes of the mapping; it stands in the template and in every index.
const schemaVersion = 1

// templatePriority is above what other templates of a cluster usually have.
const templatePriority = 1000

func mapping() map[string]any {
	keyword := map[string]any{"type": "keyword"}
	date := map[string]any{"type": "date", "format": "strict_date_time"}
	// kept are in the document for people to read. Nothing is built from them,
	// which makes their length of no concern.
	kept := map[string]any{"type": "keyword", "index": false, "doc_values": false}
	properties := map[string]any{
		fieldID: keyword, fieldTenant: keyword, fieldTokens: keyword,
		fieldTimestamp: date, fieldReceivedAt: date, fieldExpiresAt: date,
		// The field holds the words of audit.Words with spaces between them, so
		// that words are the same here as everywhere else.
		fieldMessage:   map[string]any{"type": "text", "analyzer": "whitespace", "norms": false},
		fieldUserAgent: kept, fieldIdempotencyKey: kept, fieldEntry: kept,
	}
	for _, field := range audit.FilterFields() {
		properties[string(field)] = keyword // addresses too: they are compared byte for byte
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

// template is the index template of a family. Its pattern also matches the
// indexes of tenants whose id goes on after a hyphen; theirs has the higher
// priority, because their id is longer.
func (x *Index) template(f family) map[string]any {
	return map[string]any{
		"index_patterns": []string{f.alias + "-*"},
		"priority":       templatePriority + len(f.tenant),
		"version":        schemaVersion,
		"template":       map[string]any{"settings": x.settings(), "mappings": mapping()},
	}
}

// prepare makes sure that the family has an index for the month, with its
// aliases. Any number of writers may do so at once.
func (x *Index) prepare(ctx context.Context, f family, month string) error {
	if err := x.manage(ctx, http.MethodPut, "/_index_template/"+f.alias, x.template(f)); err != nil {
		return fmt.Errorf("put template %s: %w", f.alias, err)
	}
	aliases := map[string]any{f.alias: map[string]any{}, f.writeAlias(month): map[string]any{}}
	err := x.manage(ctx, http.MethodPut, "/"+f.index(month), map[string]any{"aliases": aliases})
	var answer *answerError
	if errors.As(err, &answer) && answer.has(kindExists) {
		err = x.addAliases(ctx, f, month)
	}
	if err != nil {
		return fmt.Errorf("create index %s: %w", f.index(month), err)
	}
	return nil
}

// addAliases mends an index that exists without its aliases.
func (x *Index) addAliases(ctx context.Context, f family, month string) error {
	var actions []any
	for _, alias := range []string{f.alias, f.writeAlias(month)} {
		actions = append(actions, map[string]any{"add": map[string]any{"index": f.index(month), "alias": alias}})
	}
	return x.manage(ctx, http.MethodPost, "/_aliases", map[string]any{"actions": actions})
}

// manage changes the cluster's state. Its requests hold no content of entries.
func (x *Index) manage(ctx context.Context, method, path string, body any) error {
	c := call{method: method, path: path}
	if body != nil {
		var err error
		if c.body, err = json.Marshal(body); err != nil {
			return err
		}
	}
	_, err := x.insist(ctx, c)
	return explained(err)
}
