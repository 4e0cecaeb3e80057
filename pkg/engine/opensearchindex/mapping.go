package opensearchindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

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
	fieldTokens         = "tokens"  // the scalar leaves of the metadata
	fieldWidths         = "widths"  // the paths with many values; see groupwidths.go
	fieldObjects        = "objects" // the paths of the metadata with scalars below
	fieldNumbers        = "numbers" // the numbers of the metadata; see numbers.go
	fieldAddress        = "address" // the address as a number, for networks
	fieldValues         = "values"  // the tokens of encrypted values
	fieldEntry          = "entry"   // the stored entry's text
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
	// A matched field is only for conditions. Nothing is sorted or grouped by it.
	matched := map[string]any{"type": "keyword", "doc_values": false}
	properties := map[string]any{
		fieldID: keyword, fieldTenant: keyword, fieldTokens: keyword, fieldWidths: keyword,
		fieldTimestamp: date, fieldReceivedAt: date, fieldObjects: matched, fieldNumbers: matched, fieldValues: matched,
		fieldAddress: map[string]any{"type": "ip", "doc_values": false},
		// The field has the words of words.Split, separated by spaces, so that all
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

// FieldCount returns the number of fields in the mapping of every index.
func FieldCount() int { return len(mapping()["properties"].(map[string]any)) }

// settings returns the settings of an index with a number of primary shards. With more than
// one shard, a tenant's documents in a pool go to some of them.
func (x *Index) settings(f family, shards int) map[string]any {
	index := map[string]any{
		"number_of_shards": shards, "number_of_replicas": x.config.Replicas,
		"refresh_interval": "1s",               // search.Index promises a second
		"codec":            "best_compression", // written once, read seldom
		"translog":         map[string]any{"durability": "request"},
	}
	if partition := RoutingPartition(shards); f.pool && partition > 1 {
		index["routing_partition_size"] = partition
	}
	return map[string]any{"index": index}
}

// RoutingPartition returns the number of shards that the documents of one tenant in a pool may
// go to, of an index with so many. OpenSearch wants less than the number of shards.
func RoutingPartition(shards int) int { return max(1, shards/2) }

// mappingOf returns the mapping of a family's indexes. Documents of a pool must have a routing.
func mappingOf(f family) map[string]any {
	m := mapping()
	if f.pool {
		m["_routing"] = map[string]any{"required": true}
	}
	return m
}

// templates records whether this process has put the templates.
type templates struct {
	mu  sync.Mutex
	put bool
}

// templateOf returns the name and the body of the template of own families, or of pools.
func (x *Index) templateOf(pool bool) (name string, body map[string]any) {
	f := family{stem: x.config.Prefix + "-t-", pool: pool}
	name = x.config.Prefix + "-own"
	if pool {
		name, f.stem = x.config.Prefix+"-pool", x.config.Prefix+"-p"
	}
	return name, map[string]any{
		"index_patterns": []string{f.stem + "*"},
		"priority":       templatePriority,
		"version":        schemaVersion,
		"template":       map[string]any{"settings": x.settings(f, x.config.Shards), "mappings": mappingOf(f)},
	}
}

// putTemplates puts both templates, once in the life of the process. OpenSearch creates an
// index at its first write, with what its template says.
func (x *Index) putTemplates(ctx context.Context) error {
	x.templates.mu.Lock()
	defer x.templates.mu.Unlock()
	if x.templates.put {
		return nil
	}
	for _, pool := range []bool{false, true} {
		name, body := x.templateOf(pool)
		if err := x.manage(ctx, http.MethodPut, "/_index_template/"+name, body); err != nil {
			return fmt.Errorf("put template %s: %w", name, err)
		}
	}
	x.templates.put = true
	return nil
}

// create creates an index, unless it exists. Several processes may call it at the same time.
func (x *Index) create(ctx context.Context, f family, month string, shards int) error {
	err := x.manage(ctx, http.MethodPut, "/"+f.index(month), map[string]any{"settings": x.settings(f, shards), "mappings": mappingOf(f)})
	var response *responseError
	if errors.As(err, &response) && response.has(kindExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create index %s: %w", f.index(month), err)
	}
	return nil
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
