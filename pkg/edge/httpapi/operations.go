package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// degraded is the header of a list that the index did not answer.
func degraded() parameter {
	return parameter{
		name: degradedHeader, schema: choice("", "search"),
		description: "The search index is unavailable and the system of record answered. What it cannot answer is a 503 with Retry-After.",
	}
}

func jsonAnswer(status int, component, description string, headers ...parameter) answer {
	return answer{status: status, description: description, media: mediaJSON, schema: ref(component), headers: headers}
}

// longRequest is what the server itself answers before any function sees the
// request. Only operations with filters have so much to say.
func longRequest() answer {
	return answer{status: http.StatusRequestHeaderFieldsTooLarge, media: "text/plain", schema: str(""), bare: true,
		description: "The filters are longer than the server or the gateway before it takes (from 8 KiB on)."}
}

func logOperations() []operation {
	return []operation{
		{
			function: "create-log", group: groupWrite,
			description: "Once this answers 202 the entry is durable and will be stored exactly once. " +
				"To be able to repeat a request without storing the entry twice, send a timestamp and an idempotency key (in the entry or as Idempotency-Key). " +
				"The body may be compressed (Content-Encoding: gzip or zstd).",
			headers: []parameter{{name: idempotencyHeader, description: "The entry's idempotency_key, beside it. Where the entry has one too, they must agree.",
				schema: &schema{kind: "string", minLength: 1, maxLength: audit.MaxIdempotencyKey, pattern: `^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$`}}},
			body:    &requestBody{description: "One entry.", media: []string{mediaJSON}, schema: ref("NewEntry")},
			answers: []answer{jsonAnswer(http.StatusAccepted, "Accepted", "The entry was taken; status says what becomes of it.")},
			refusals: []refusal{
				{kindTooLarge, fmt.Sprintf("The entry is larger than %d KiB.", audit.MaxEntryBytes>>10)},
				{kindInvalid, "A field of the entry is faulty; errors names each."},
			},
		},
		{
			function: "create-logs-bulk", group: groupWrite,
			description: fmt.Sprintf("Up to %d entries, %s on the wire and %s unpacked, as a JSON array or as NDJSON (one entry a line), "+
				"as they are or compressed (Content-Encoding: gzip or zstd). Each entry is taken or rejected on its own: one bad entry, a broken line of NDJSON included, never sinks the rest. "+
				"Only a JSON array that is no valid JSON is refused as a whole.", audit.MaxBulkEntries, bytesText(audit.MaxBulkWire), bytesText(audit.MaxBulkUnpacked)),
			body: &requestBody{description: "The entries.", media: []string{mediaJSON, mediaNDJSON, mediaJSONL}, lines: true,
				schema: &schema{kind: "array", items: bulkItem(), minItems: 1, maxItems: audit.MaxBulkEntries}},
			answers: []answer{
				jsonAnswer(http.StatusAccepted, "BulkAnswer", "Every entry was accepted."),
				jsonAnswer(http.StatusMultiStatus, "BulkAnswer", "Not every entry was accepted; items says what became of each."),
			},
			refusals: []refusal{
				{kindTooLarge, "The body is too large as sent or unpacked."},
				{kindInvalid, fmt.Sprintf("There is no entry in the body, or more than %d.", audit.MaxBulkEntries)},
			},
		},
		{
			function: "search-logs", group: groupRead,
			description: "Every parameter narrows the list; a filter given several times chooses entries with any of its values. " + filterLimits +
				"The list is one of a moment that moves on: following next and prev neither repeats nor skips an entry, while new ones appear at the newest end. " +
				"A page can be shorter than limit and still have a next.",
			query: append(filterParameters(),
				parameter{name: search.ParamSort, description: "Newest first (`-timestamp`) or oldest first (`+timestamp`, the plus as `%2B`).", schema: orEmpty(choice("", "-timestamp", "+timestamp", "timestamp").otherwise("-timestamp"))},
				limitParameter(), cursorParameter()),
			answers:  []answer{jsonAnswer(http.StatusOK, "EntryList", "One page of entries.", degraded()), longRequest()},
			refusals: []refusal{{kindInvalid, "A filter, q or the cursor is faulty."}},
		},
		{
			function: "get-stats", group: groupRead,
			description: "Counts over the same filters as the list. Totals are exact. " + filterLimits,
			query: append(filterParameters(),
				parameter{name: search.ParamGroupBy, description: fmt.Sprintf("Up to %d fields, separated by commas: filter fields or metadata.<path>.", audit.MaxGroupBy),
					schema: &schema{kind: "string", pattern: groupByPattern()}},
				parameter{name: search.ParamInterval, description: "The width of the histogram's buckets: a number and one of s, m, h, d, w, at most 366 days.",
					schema: orEmpty(&schema{kind: "string", pattern: `^[1-9][0-9]{0,3}[smh]$|^(?:[1-9]|[1-9][0-9]|[12][0-9]{2})d$|^(?:[1-9]|[1-4][0-9])w$`})},
				parameter{name: search.ParamTop, description: "How many groups are returned.", schema: orEmpty(integer(1, audit.MaxTop, "").otherwise(audit.DefaultTop))}),
			answers:  []answer{jsonAnswer(http.StatusOK, "Stats", "The counts."), longRequest()},
			refusals: []refusal{{kindInvalid, fmt.Sprintf("A filter, q, group_by or interval is faulty, or the histogram would have more than %d buckets.", audit.MaxBuckets)}},
		},
		{
			function: "get-log", group: groupRead,
			description: "An entry can be read as soon as it is stored, before searches find it. " +
				"An entry outside the credential's scope is not found.",
			path:    []parameter{{name: "id", required: true, schema: entryID(""), description: "The entry's id."}},
			answers: []answer{jsonAnswer(http.StatusOK, "EntryWithStatus", "The entry and how far it has come.")},
			refusals: []refusal{
				{kindNotFound, "The tenant has no entry with this id."},
				{kindNotYet, "The id's time is under five minutes ago, so the entry may be under way; Retry-After says when to ask again."},
			},
		},
	}
}

// bulkItem is anything: what is no NewEntry is rejected by itself.
func bulkItem() *schema {
	return &schema{anyOf: []*schema{ref("NewEntry"), {description: "Anything else is rejected alone."}}}
}

// fieldPattern is a field that can be grouped by.
func fieldPattern() string {
	return `(?:` + strings.Join(words(audit.FilterFields()...), "|") + `|metadata\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)`
}

func groupByPattern() string {
	one := fieldPattern()
	return `^` + one + `(?:,` + one + `)?$`
}

// orEmpty lets a parameter be there without a value, which is as good as leaving it out.
func orEmpty(s *schema) *schema {
	initial := s.initial
	return (&schema{anyOf: []*schema{s.otherwise(nil), choice("", "")}}).otherwise(initial)
}

// The lengths of filter values stand in words, not as maxLength: what passes
// them by far is turned away by the server in front, with a 431.
func filterParameters() []parameter {
	parameters := make([]parameter, 0, len(audit.FilterFields())+4)
	for _, f := range audit.FilterFields() {
		parameters = append(parameters, filterParameter(f))
	}
	return append(parameters,
		parameter{name: "metadata", free: true,
			description: "`metadata.<path>=value`, for any dotted path: entries whose metadata has this scalar there. An array matches by any of its elements. Can be given several times.",
			schema: &schema{kind: "object", open: true, names: `^metadata\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$`,
				values: str("")}},
		parameter{name: search.ParamFrom, description: "Only entries at or after this time.", schema: orEmpty(moment(""))},
		parameter{name: search.ParamTo, description: "Only entries before this time.", schema: orEmpty(moment(""))},
		parameter{name: search.ParamQuery, description: limitBytes(queryHelp, search.MaxQueryBytes), schema: str("")})
}

var filterLimits = fmt.Sprintf("All filters together have at most %d values, each of at most %d bytes. ", search.MaxFilterValues, search.MaxFilterValueBytes)

const queryHelp = "Full text and field operators: `payment failed` (both words of the message), `\"payment failed\"` (side by side), `fail*` (how a word begins), " +
	"`action:DELETE` (a field's whole value; quote one with spaces or with `*`), `severity>=ERROR`, `timestamp:2026-01-31` (that day in UTC; also `<`, `<=`, `>`, `>=`, and RFC 3339 times), `metadata.plan:gold`, `-word` (without), `a OR b`, parentheses."

func filterParameter(f audit.Field) parameter {
	p := parameter{name: string(f), repeatable: true, description: "Entries whose `" + string(f) + "` is this.", schema: str("")}
	switch f {
	case audit.FieldSeverity:
		p.schema = severities("")
	case audit.FieldIPAddress:
		p.schema = address("")
	case audit.FieldAction:
		p.schema = actionSchema().says("")
	case audit.FieldChanged:
		p.description = "Entries in which this dotted path of the state changed."
	}
	return p
}

func limitParameter() parameter {
	return parameter{name: search.ParamLimit, description: "The largest number of items on the page.",
		schema: orEmpty(integer(1, audit.MaxPageLimit, "").otherwise(audit.DefaultPageLimit))}
}

func cursorParameter() parameter {
	return parameter{name: search.ParamCursor, description: "A next or prev of an earlier page of the same list.", schema: str("")}
}

func quarantineOperations() []operation {
	item := parameter{name: "id", required: true, schema: &schema{kind: "string", pattern: "^[0-9a-f]{32}$"}, description: "The item's id."}
	return []operation{
		{
			function: "list-quarantine", group: groupQuarantine,
			description: "Entries that were accepted and that a later step could not take, each with its step and reason. They are kept as long as the tenant's retention keeps entries.",
			query:       []parameter{limitParameter(), cursorParameter()},
			answers:     []answer{jsonAnswer(http.StatusOK, "QuarantineList", "One page of items.")},
			refusals:    []refusal{{kindInvalid, "The cursor is faulty."}},
		},
		{
			function: "retry-quarantine", group: groupQuarantine,
			description: "The entry goes through its step again and leaves the quarantine. If the step cannot take it again, it comes back. The retry is itself recorded in the tenant's log.",
			path:        []parameter{item},
			answers:     []answer{jsonAnswer(http.StatusAccepted, "Retried", "The entry is on its way.")},
			refusals:    []refusal{{kindNotFound, "The tenant has no such item."}},
		},
		{
			function: "delete-quarantine", group: groupQuarantine,
			description: "The entry is discarded for good. The deletion is itself recorded in the tenant's log.",
			path:        []parameter{item},
			answers:     []answer{{status: http.StatusNoContent, description: "The entry is gone."}},
			refusals: []refusal{
				{kindNotFound, "The tenant has no such item."},
				{kindConflict, "The tenant is under legal hold."},
			},
		},
	}
}

func notInEffectParameter() parameter {
	return parameter{
		name: notInEffectHeader, schema: &schema{kind: "string"},
		description: "Settings of the tenant that are kept and do nothing in this version, separated by commas: do not rely on them yet.",
	}
}

func tenantParameter() parameter {
	return parameter{name: "id", required: true, schema: tenantIDSchema(""), description: "The tenant's id."}
}

func etagHeader() parameter {
	return parameter{name: "ETag", required: true, schema: &schema{kind: "string", pattern: `^"[0-9]+"$`}, description: "The record's version, for If-Match."}
}

func tenantOperations() []operation {
	location := parameter{name: "Location", required: true, schema: str(""), description: "The tenant's path."}
	return []operation{
		{
			function: "list-tenants", group: groupTenants,
			description: "Only tenants that the credential may see.",
			query:       []parameter{limitParameter(), cursorParameter()},
			answers:     []answer{jsonAnswer(http.StatusOK, "TenantList", "One page of tenants, ordered by id.")},
			refusals:    []refusal{{kindInvalid, "The cursor is faulty."}},
		},
		{
			function: "create-tenant", group: groupTenants,
			description: "For platform operators. An id can be used once, even after its tenant was deleted.",
			body:        &requestBody{description: "The tenant.", media: []string{mediaJSON}, schema: ref("NewTenant")},
			answers:     []answer{jsonAnswer(http.StatusCreated, "Tenant", "The tenant as it was made.", etagHeader(), notInEffectParameter(), location)},
			refusals: []refusal{
				{kindConflict, "A tenant has, or once had, this id."},
				{kindInvalid, "A field is faulty; errors names each."},
			},
		},
		{
			function: "get-tenant", group: groupTenants,
			description: "The record with its ETag.",
			path:        []parameter{tenantParameter()},
			answers:     []answer{jsonAnswer(http.StatusOK, "Tenant", "The tenant.", etagHeader(), notInEffectParameter())},
		},
		{
			function: "update-tenant", group: groupTenants,
			description: "Changes name and settings; what is left out keeps its value. A tenant that is being deleted can be changed too, so that a legal hold can stop the deletion. If-Match keeps two people from overwriting one another. The change is itself recorded in the tenant's log.",
			path:        []parameter{tenantParameter()},
			headers: []parameter{{name: ifMatchHeader, required: true, schema: &schema{kind: "string", pattern: etagPattern},
				description: "The ETag of the record that the change is based on, or `*` to overwrite whatever is there. Without it the answer is 428."}},
			body:    &requestBody{description: "The change.", media: []string{mediaJSON}, schema: ref("TenantChange")},
			answers: []answer{jsonAnswer(http.StatusOK, "Tenant", "The tenant as it is now.", etagHeader(), notInEffectParameter())},
			refusals: []refusal{
				{kindMalformed, "If-Match holds no entity tag."},
				{kindPrecondition, "The record changed since it was read."},
				{kindInvalid, "A field is faulty; errors names each."},
				{kindNoPrecondition, "If-Match is missing."},
			},
		},
		{
			function: "delete-tenant", group: groupTenants,
			description: "For platform operators. The tenant is closed at once and a job removes its records from every store. Asking again returns the same job. The request is itself recorded in the tenant's log.",
			path:        []parameter{tenantParameter()},
			answers:     []answer{jsonAnswer(http.StatusAccepted, "Job", "The job.")},
			refusals:    []refusal{{kindConflict, "The tenant is under legal hold."}},
		},
	}
}

func keyOperations() []operation {
	key := parameter{name: "key", required: true, schema: &schema{kind: "string", pattern: "^[0-9a-f]{16}$"}, description: "The key's id."}
	return []operation{
		{
			function: "list-keys", group: groupKeys,
			description: "Every key of the tenant on one page, the oldest first, without their secrets.",
			path:        []parameter{tenantParameter()},
			answers:     []answer{jsonAnswer(http.StatusOK, "KeyList", "The keys.")},
		},
		{
			function: "create-key", group: groupKeys,
			description: "The secret is shown this once; the service stores only its SHA-256. The creation is itself recorded in the tenant's log.",
			path:        []parameter{tenantParameter()},
			body:        &requestBody{description: "The key.", media: []string{mediaJSON}, schema: ref("NewKey")},
			answers:     []answer{jsonAnswer(http.StatusCreated, "KeyWithSecret", "The key and its secret.")},
			refusals: []refusal{
				{kindForbidden, "The key would hold what its creator does not."},
				{kindConflict, fmt.Sprintf("The tenant has %d keys already.", tenants.MaxKeys)},
				{kindInvalid, "A field is faulty; errors names each."},
			},
		},
		{
			function: "delete-key", group: groupKeys,
			description: "The key stops working within a minute. The deletion is itself recorded in the tenant's log.",
			path:        []parameter{tenantParameter(), key},
			answers:     []answer{{status: http.StatusNoContent, description: "The key is gone."}},
			refusals:    []refusal{{kindNotFound, "The tenant has no such key."}},
		},
	}
}

func serviceOperations() []operation {
	return []operation{
		{
			function: "get-health", group: groupService,
			description: "Whether the service answers and what it depends on. Public.",
			answers: []answer{
				jsonAnswer(http.StatusOK, "Health", "The service takes entries."),
				jsonAnswer(http.StatusServiceUnavailable, "Health", "Something is missing without which the service takes no entries."),
			},
		},
		{
			function: "get-openapi", group: groupService,
			description: "This API as an OpenAPI 3.1 document. Public.",
			answers:     []answer{{status: http.StatusOK, description: "The document.", media: mediaJSON, schema: anyObject("")}},
		},
		{
			function: "get-docs", group: groupService,
			description: "This page. It needs nothing from elsewhere. Public.",
			answers:     []answer{{status: http.StatusOK, description: "The page.", media: "text/html", schema: str("")}},
		},
	}
}
