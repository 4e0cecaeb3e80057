package apispec

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// degraded is the header of a list that the index did not answer.
func degradedHeader() Header {
	return Header{
		Name: httpapi.DegradedHeader, Schema: oneOf("", "search"),
		Description: "The search index is unavailable and the system of record answered. What it cannot answer is a 503 with Retry-After.",
	}
}

// quotaHeaders are on the answers of operations that accept entries.
func quotaHeaders() []Header {
	return []Header{
		{Name: httpapi.RateLimitHeader, Schema: anyText(""),
			Description: "What is left of each quota that applies: send no more than `r` entries within `t` seconds. A list of structured fields, by draft-ietf-httpapi-ratelimit-headers."},
		{Name: httpapi.RateLimitPolicyHeader, Schema: anyText(""),
			Description: "The quotas that apply, `tenant` and `credential`: `q` entries in `w` seconds, all of which may come at once. There is none without a quota."},
	}
}

func jsonResponse(status int, component, description string, headers ...Header) Response {
	return Response{Status: status, Description: description, MediaType: httpapi.MediaJSON, Schema: ref(component), Headers: headers}
}

const quotaDescription = "The tenant or the credential sent more entries a second than its quota allows. None of the request was accepted."

func logOperations() []Operation {
	return []Operation{
		{
			Name: "create-log", Group: groupWrite,
			Description: "After a 202 response the entry is durable and will be stored exactly once. " +
				"To repeat a request safely, send a timestamp and an idempotency key (in the entry or as Idempotency-Key). " +
				"An entry's identity is its id, or its timestamp and idempotency key. " + conflictHelp +
				"The body may be compressed (Content-Encoding: gzip or zstd).",
			Parameters: []Parameter{{In: InHeader, Name: httpapi.IdempotencyKeyHeader, Description: "The entry's idempotency_key, in addition to it. If the entry has one too, both must be equal.",
				Schema: &Schema{Type: "string", MinLength: 1, MaxLength: audit.MaxIdempotencyKey, Pattern: `^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$`}}},
			Body: &RequestBody{Description: "One entry.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewEntry")},
			Responses: []Response{
				jsonResponse(http.StatusOK, "Accepted", "The entry is valid and is not stored. `status` says why: `filtered` or `expired`.", quotaHeaders()...),
				jsonResponse(http.StatusAccepted, "Accepted", "The entry was accepted.", quotaHeaders()...),
			},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemTooLarge, fmt.Sprintf("The entry is larger than %d KiB.", audit.MaxEntryBytes>>10)},
				{httpapi.ProblemInvalid, "A field of the entry is invalid. `errors` names each."},
				{httpapi.ProblemQuota, quotaDescription},
			},
		},
		{
			Name: "create-logs-bulk", Group: groupWrite,
			Description: fmt.Sprintf("Up to %d entries, %d MiB on the wire and %d MiB unpacked, as a JSON array or as NDJSON (one entry a line), "+
				"as they are or compressed (Content-Encoding: gzip or zstd). Each entry is accepted or rejected on its own. One bad entry, or a broken line of NDJSON, does not affect the others. "+
				"Only an array that is not valid JSON is rejected as a whole. "+conflictHelp, audit.MaxBulkEntries, audit.MaxBulkWire>>20, audit.MaxBulkUnpacked>>20),
			Body: &RequestBody{Description: "The entries.", MediaTypes: []string{httpapi.MediaJSON, httpapi.MediaNDJSON, httpapi.MediaJSONL}, OnePerLine: true,
				Schema: &Schema{Type: "array", Items: bulkItem(), MinItems: 1, MaxItems: audit.MaxBulkEntries}},
			Responses: []Response{
				jsonResponse(http.StatusAccepted, "BulkAnswer", "Every entry was accepted.", quotaHeaders()...),
				jsonResponse(http.StatusMultiStatus, "BulkAnswer", "Not every entry was accepted. `items` has the result of each.", quotaHeaders()...),
			},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemTooLarge, "The body is too large as sent or unpacked."},
				{httpapi.ProblemInvalid, fmt.Sprintf("There is no entry in the body, or more than %d.", audit.MaxBulkEntries)},
				{httpapi.ProblemQuota, quotaDescription},
			},
		},
		{
			Name: "cleanup-logs", Group: groupWrite,
			Description: "A job that removes the selected entries whose timestamp is earlier than `before`, for ever and before their end. It passes over what a legal hold covers, and over the service's own entries. " +
				"Entries that are received after the job was created stay. With `dry_run=true` nothing is removed, and the answer says what would be. " +
				"DELETE /jobs/{id} cancels it: what was removed until then is gone. Start and end are recorded in the tenant's log. " + filterLimits,
			Parameters: append(withValues(filterParameters()),
				Parameter{Name: cleanup.ParamBefore, In: InQuery, Required: true, Description: "Only entries before this time are removed. With `to`, the earlier one counts.", Schema: timestamp("")},
				Parameter{Name: cleanup.ParamDryRun, In: InQuery, Description: "`true` counts the entries and removes none.", Schema: oneOf("", "true", "false").withDefault("false")},
				Parameter{Name: cleanup.ParamArchive, In: InQuery, Description: "`true` removes the entries from the archive as well, also those that no list shows any more. Parts that have some are replaced. A preview does not count them.", Schema: oneOf("", "true", "false").withDefault("false")}),
			Responses: []Response{
				jsonResponse(http.StatusOK, "CleanupPreview", "What would be removed now."),
				jobStarted("The cleanup is a job."),
			},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemConflict, "The tenant has too many queued jobs, or 20 unfinished cleanups."},
				{httpapi.ProblemInvalid, "`before` is missing, or a parameter is invalid. `errors` names each."},
			},
		},
		{
			Name: "list-logs", Group: groupRead,
			Description: "Every parameter narrows the list; a filter given several times chooses entries with any of its values. " + filterLimits +
				"Entries past their expires_at are left out, at most a minute late. Following next and prev neither repeats nor skips an entry. New entries appear at the newest end. " +
				"A page can be shorter than limit and still have a next.",
			Parameters:     listParameters(),
			Responses:      []Response{jsonResponse(http.StatusOK, "EntryList", "One page of entries.", degradedHeader())},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "A filter, q or the cursor is invalid."}},
		},
		{
			Name: "search-logs", Group: groupRead,
			Description: "The list of GET /logs with its parameters as members of a JSON object: for long filters, and for values that must not stand in an address, where proxies and browsers keep it. " +
				"A member is a string or an array of strings. Values of `metadata.<path>` may be numbers, true and false. Cursors are valid for both. " + filterLimits,
			Body:      &RequestBody{Description: "The parameters.", MediaTypes: []string{httpapi.MediaJSON}, Schema: &Schema{Ref: "Search"}},
			Responses: []Response{jsonResponse(http.StatusOK, "EntryList", "One page of entries.", degradedHeader())},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemTooLarge, "The body is larger than 1 MiB."}, {httpapi.ProblemInvalid, "A filter, q or the cursor is invalid."},
				{httpapi.ProblemTooMany, "The credential searched by encrypted values too often."},
			},
		},
		{
			Name: "export-logs", Group: groupRead,
			Description: fmt.Sprintf("The list of GET /logs as a file, up to %d entries and %d MiB before compression. More, or async=true, starts a job like POST /logs/exports. Each export is recorded in the tenant's log. ", export.MaxEntries, export.MaxBytes>>20) +
				"The entries have no tenant_id unless fields names it, so a file of format ndjson or json can be sent to POST /logs/bulk of any tenant: it gives the same entries with the same ids. " + filterLimits,
			Parameters: append(append(append(filterParameters(), sortParameter()), exportParameters()...),
				Parameter{Name: "async", In: InQuery, Description: "`true` starts a job however small the export is. A HEAD request must leave it out.", Schema: orEmpty(oneOf("", "true", "false").withDefault("false"))}),
			Responses: []Response{{Status: http.StatusOK, Description: "The file.", MediaType: httpapi.MediaJSON, Schema: list(anyObject("An entry, or the fields that were asked for.")),
				Files:   []string{httpapi.MediaNDJSON, "text/csv", "application/vnd.apache.parquet", "application/gzip", "application/zstd"},
				Headers: []Header{degradedHeader(), {Name: httpapi.SearchableFromHeader, Schema: timestamp(""), Description: searchableFromHelp}, {Name: "Content-Disposition", Required: true, Schema: anyText(""), Description: "The name of the file."}}},
				exportStarted()},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "There is no legal hold with the id in `hold`."},
				{httpapi.ProblemConflict, "The tenant has too many queued jobs or unfinished exports, or the legal hold is released."},
				{httpapi.ProblemInvalid, "A parameter is invalid, or a HEAD request selects more entries than are answered at once."},
			},
		},
		{
			Name: "create-export", Group: groupRead,
			Description: "A job that writes the entries to a file, whatever their number. The file has what was received before the job was created: the job waits until the index has what was stored by then. Nothing that comes later is in it. " +
				"GET /logs/exports/{id} answers its state and a URL of the file, which is removed after 7 days. DELETE /jobs/{id} cancels it. Start and end are recorded in the tenant's log. " + filterLimits,
			Body:      &RequestBody{Description: "The parameters of GET /logs/export as members.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewExport")},
			Responses: []Response{exportStarted()},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "There is no legal hold with the id in `hold`."},
				{httpapi.ProblemConflict, "The tenant has too many queued jobs or unfinished exports, or the legal hold is released."},
				{httpapi.ProblemTooLarge, "The body is larger than 1 MiB."},
				{httpapi.ProblemInvalid, "A parameter is invalid. `errors` names each."},
			},
		},
		{
			Name: "list-exports", Group: groupRead,
			Description:    "The newest first. An export can be seen for 90 days after its end, by credentials that are not restricted to other resources than the one that started it.",
			Parameters:     []Parameter{limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "ExportList", "One page of exports.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The limit or the cursor is invalid."}},
		},
		{
			Name: "get-export", Group: groupRead,
			Description:    "How far an export is and, once it has succeeded, a new URL of its file. Credentials that could not have made the export get none.",
			Parameters:     []Parameter{{Name: "id", In: InPath, Required: true, Schema: anyText(""), Description: "The export's id, which is that of its job."}},
			Responses:      []Response{jsonResponse(http.StatusOK, "Export", "The export.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such export, or the credential may not see it."}},
		},
		{
			Name: "feed-logs", Group: groupRead,
			Description: "For programs that copy the log, such as a SIEM agent. A walk from cursor to cursor gets every entry once, also while others write. " +
				"An entry with an old timestamp comes when it arrives. Filters choose from what is read, and may change from request to request. " + filterLimits +
				fmt.Sprintf("A request reads at most %d places or for %d seconds, so a page can be empty although more is true. ", arrival.MaxPlaces, int(arrival.MaxTime.Seconds())) +
				"A cursor stays valid. If its place no longer exists, the feed continues at the oldest one.",
			Parameters: append(filterParameters(), limitParameter(),
				Parameter{Name: search.ParamCursor, In: InQuery, Description: "The next of an earlier page, or `" + arrival.FromNow + "` for the end of the log. Without it, the feed begins at the oldest place.", Schema: anyText("")}),
			Responses:      []Response{jsonResponse(http.StatusOK, "Feed", "One page of entries.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "A filter, q or the cursor is invalid."}},
		},
		{
			Name: "get-stats", Group: groupRead,
			Description: fmt.Sprintf("Counts over the same filters as the list. Totals and groups are exact. What cannot be counted exactly within the limits gets a 422 that says how to narrow it. "+
				"Grouped by two fields, an entry may have at most %d pairs of values; up to four times as many may be counted too, depending on the engine. Up to %d groups of all entries, with %d MiB of values, are always counted. "+
				"An answer takes at most 25 seconds and has at most %d MiB. One tenant's statistics are counted one at a time; a request that waits too long for its turn gets a 503 with Retry-After. ",
				audit.MaxEntryGroups, audit.MaxGroups, audit.MaxGroupBytes>>20, audit.MaxPageBytes>>20) + filterLimits,
			Parameters: append(filterParameters(),
				Parameter{Name: search.ParamGroupBy, In: InQuery, Description: fmt.Sprintf("Up to %d fields, separated by commas: filter fields or metadata.<path>. A part of a path in quotes can have any characters: `metadata.\"a,b\"`.", audit.MaxGroupBy),
					Schema: &Schema{Type: "string", Pattern: groupByPattern()}},
				Parameter{Name: search.ParamInterval, In: InQuery, Description: "The width of the histogram's buckets: a number and one of s, m, h, d, w, at most 366 days.",
					Schema: orEmpty(&Schema{Type: "string", Pattern: `^[1-9][0-9]{0,3}[smh]$|^(?:[1-9]|[1-9][0-9]|[12][0-9]{2})d$|^(?:[1-9]|[1-4][0-9])w$`})},
				Parameter{Name: search.ParamTimeZone, In: InQuery, Description: "The time zone of the histogram, and of dates in from and to: a name of the tz database, such as Europe/Berlin. " +
					"Days begin at midnight there, and have 23 or 25 hours when its clocks change. Starts have its offset. Dates in q stay days in UTC. The default is UTC.",
					Schema: orEmpty(&Schema{Type: "string", Pattern: search.ZonePattern})},
				Parameter{Name: search.ParamTop, In: InQuery, Description: "How many groups are returned.", Schema: orEmpty(integer(1, audit.MaxTop, "").withDefault(audit.DefaultTop))}),
			Responses:      []Response{jsonResponse(http.StatusOK, "Stats", "The counts.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, fmt.Sprintf("A filter, q, group_by, interval or time_zone is invalid, the histogram would have more than %d buckets, or the counts pass a limit. `errors` names the parameter to narrow.", audit.MaxBuckets)}},
		},
		{
			Name: "get-log", Group: groupRead,
			Description: "An entry can be read as soon as it is stored, before searches find it. " +
				"An entry outside the credential's scope, or past its expires_at, is not found.",
			Parameters: []Parameter{
				{Name: "id", In: InPath, Required: true, Schema: entryID(""), Description: "The entry's id."},
				{Name: "reveal", In: InQuery, Schema: boolean(""), Description: revealHelp},
				{Name: "reason", In: InQuery, Schema: nonEmptyText(protect.MaxReason, ""), Description: "Why the values are asked for. It is recorded, and must be left out without `reveal`."},
			},
			Responses: []Response{jsonResponse(http.StatusOK, "EntryWithStatus", "The entry and its status.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "The tenant has no entry with this id."},
				{httpapi.ProblemArchived, "Entries of the id's time are older than the tenant's searchable_days. It does not tell whether there is one."},
				{httpapi.ProblemNotYet, "The id's time is under five minutes ago, so the entry may still be in a queue. Retry-After says when to ask again."},
			},
		},
	}
}

// revealHelp says what the parameter reveal does.
const revealHelp = "Whether the answer has encrypted values in plain. That needs `logs:reveal` and a reason, and is recorded in the tenant's log."

// conflictHelp says what happens to an entry whose identity another one has.
const conflictHelp = "If another entry has this identity, the same content is a repetition, and nothing changes. " +
	"Content is compared as JSON, so neither the order of members nor white space matters. Other content is accepted too, because the answer comes before the comparison. " +
	"Then the first entry stays, and the new one goes to the quarantine with the code `identity_conflict` (GET /logs/quarantine). "

// bulkItem is anything. An item that is not a NewEntry is rejected alone.
func bulkItem() *Schema {
	return &Schema{AnyOf: []*Schema{ref("NewEntry"), {Description: "Anything else is rejected alone."}}}
}

// fieldPattern is the name of a field that can be filtered by, as a member of an object has it.
func fieldPattern() string {
	return `(?:` + strings.Join(textsOf(audit.FilterFields()...), "|") + `|metadata\.[\s\S]+)`
}

// groupByPattern is a list of fields as audit.SplitFields reads it. In quotes, a backslash stands before a quote or
// another backslash. Before any other character it is itself.
func groupByPattern() string {
	const quoted = `(?:[^"\\]|\\[\s\S])`
	const path = `(?:""|(?:[^,"]|"` + quoted + `+")(?:[^,"]|"` + quoted + `*")*)`
	one := `(?:` + strings.Join(textsOf(audit.FilterFields()...), "|") + `|metadata\.` + path + `)`
	return `^` + one + `(?:,` + one + `)?$`
}

// orEmpty lets a parameter be there without a value, which is as good as leaving it out.
func orEmpty(s *Schema) *Schema {
	initial := s.Default
	return (&Schema{AnyOf: []*Schema{s.withDefault(nil), oneOf("", "")}}).withDefault(initial)
}

// withValues leaves out of q, from and to that they can be empty.
func withValues(parameters []Parameter) []Parameter {
	for i := range parameters {
		switch p := &parameters[i]; p.Name {
		case search.ParamFrom, search.ParamTo:
			p.Schema = timestamp("")
		case search.ParamQuery:
			p.Schema = &Schema{Type: "string", MinLength: 1}
		}
	}
	return parameters
}

// The description states the lengths of filter values, instead of maxLength: values that are much
// longer get a 431.
func filterParameters() []Parameter {
	parameters := make([]Parameter, 0, len(audit.FilterFields())+4)
	for _, f := range audit.FilterFields() {
		parameters = append(parameters, filterParameter(f))
	}
	return append(parameters,
		Parameter{Name: "metadata", In: InQuery, FreeForm: true,
			Description: "`metadata.<path>=value`, for any dotted path: entries whose metadata has this scalar there. An array matches by any of its elements. Can be given several times.",
			Schema: &Schema{Type: "object", Open: true, PropertyNames: `^metadata\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$`,
				AdditionalProperties: anyText("")}},
		Parameter{Name: search.ParamFrom, In: InQuery, Description: "Only entries at or after this time.", Schema: orEmpty(timestamp(""))},
		Parameter{Name: search.ParamTo, In: InQuery, Description: "Only entries before this time.", Schema: orEmpty(timestamp(""))},
		Parameter{Name: search.ParamQuery, In: InQuery, Description: limitBytes(queryHelp, search.MaxQueryBytes), Schema: anyText("")})
}

var filterLimits = fmt.Sprintf("All filters together have at most %d values, each of at most %d bytes. ", search.MaxFilterValues, search.MaxFilterValueBytes)

var queryHelp = fmt.Sprintf("Full text and field operators. `payment failed` finds both words in the message, `\"payment failed\"` finds them side by side, and `fail*` finds words that begin so. "+
	"`action:DELETE` compares a field's whole value, `action:(a OR b)` several, and `action:user.*` the beginning, of up to %d bytes. `has:session_id` finds entries with a value. "+
	"Quote a value with spaces or with `*`, and put the `*` of a beginning after the quote: `user_id:\"Ann S\"*`, `\"payment fail\"*`. In quotes, `\\\"` and `\\\\` stand for a quote and a backslash. "+
	"`severity>=ERROR` compares by rank. `metadata.plan:gold` compares a nested value, `metadata.amount>=100` a number, and `metadata.\"a:b\":c` names any member. "+
	"`ip_address:203.0.113.0/24` is a network. `timestamp:2026-01-31` is that day in UTC, and `received_at` works likewise. RFC 3339 times and `<`, `<=`, `>`, `>=` work too. "+
	"`-word` excludes a word, `a OR b` finds either, and parentheses group.", audit.MaxPrefix)

// listParameters returns the parameters of a list of entries.
func listParameters() []Parameter {
	return append(filterParameters(), sortParameter(), limitParameter(), cursorParameter())
}

func sortParameter() Parameter {
	return Parameter{Name: search.ParamSort, In: InQuery, Description: "Newest first (`-timestamp`) or oldest first (`+timestamp`, the plus as `%2B`).",
		Schema: orEmpty(oneOf("", "-timestamp", "+timestamp", "timestamp").withDefault("-timestamp"))}
}

// exportParameters are an export's own parameters.
func exportParameters() []Parameter {
	return []Parameter{
		{Name: export.ParamFormat, In: InQuery, Description: "`ndjson` is one entry a line, `json` one array, `csv` a table with a header line (RFC 4180), `parquet` a table with types.",
			Schema: orEmpty(oneOf("", textsOf(export.Formats()...)...).withDefault(string(export.NDJSON)))},
		{Name: export.ParamFields, In: InQuery, Description: fmt.Sprintf("Up to %d columns in their order, separated by commas: members of an entry, or dotted paths below metadata, before_state and after_state. A CSV file with one column has a member that every entry has: %s.", export.MaxFields, strings.Join(entryjson.RequiredFields(), ", ")),
			Schema: anyText("")},
		{Name: export.ParamTimeFormat, In: InQuery, Description: "The spelling of times: `epoch_ms` is milliseconds since 1970, as a number.",
			Schema: orEmpty(oneOf("", textsOf(export.TimeFormats()...)...).withDefault(string(export.RFC3339)))},
		{Name: export.ParamCompress, In: InQuery, Description: "How the file is compressed. The default is not at all. A Parquet file is compressed by itself: the parameter must be left out.", Schema: orEmpty(oneOf("", textsOf(export.Compressions()...)...))},
		{Name: export.ParamBOM, In: InQuery, Description: "Begin a CSV file with the byte order mark of UTF-8, which some spreadsheets need.", Schema: orEmpty(oneOf("", "true", "false").withDefault("false"))},
		{Name: export.ParamHold, In: InQuery, Description: "The id of a legal hold: what it covers is exported, also what has expired and no list shows, and what only the archive has. It is always a job. The oldest entry is first. Needs `holds:read` too.",
			Schema: nonEmptyText(export.MaxHold, "")},
	}
}

// exportStarted is the response to a request that started an export.
func exportStarted() Response { return jobStarted("The export is a job.") }

// jobStarted is the response to a request that started a job.
func jobStarted(description string) Response {
	return jsonResponse(http.StatusAccepted, "Job", description, Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The path of the job."})
}

// newExportSchema has the parameters of an export as members of an object.
func newExportSchema() *Schema {
	s, names := membersSchema(append(append(filterParameters(), sortParameter()), exportParameters()...))
	for i, p := range s.Properties {
		switch p.Name {
		case export.ParamFields:
			s.Properties[i].Schema = oneOrSeveral(anyText("")).withDescription(p.Schema.Description)
		case export.ParamBOM:
			s.Properties[i].Schema = (&Schema{AnyOf: []*Schema{{Type: "boolean"}, oneOf("", "true", "false", "")}}).withDescription(p.Schema.Description)
		}
	}
	s.Properties = append(s.Properties,
		optional("reveal", boolean("Write the encrypted values in plain. Needs `logs:reveal`. The start is recorded in the tenant's log with the reason, and so is each URL of the file. An erasure removes the file.")),
		optional("reason", nonEmptyText(protect.MaxReason, "Why the values are asked for. It must be left out without `reveal`.")))
	s.PropertyNames = oneOfNames(append(names, "reveal", "reason"))
	return s
}

// searchSchema has the parameters of a list as members of an object.
func searchSchema() *Schema {
	s, names := membersSchema(listParameters())
	s.Properties = append(s.Properties,
		optional("match_encrypted", matchSchema()),
		optional("reveal", boolean(revealHelp)),
		optional("reason", nonEmptyText(protect.MaxReason, "Why the values are asked for. It must be left out without `reveal`.")))
	s.PropertyNames = oneOfNames(append(names, "match_encrypted", "reveal", "reason"))
	return s
}

// oneOfNames returns a pattern that matches the names of members. A name may be a pattern.
func oneOfNames(names []string) string { return `^(?:` + strings.Join(names, "|") + `)$` }

// membersSchema has query parameters as members of an object, and returns their names.
func membersSchema(parameters []Parameter) (s *Schema, names []string) {
	names = []string{fieldPattern()}
	s = &Schema{Type: "object", Open: true}
	for _, p := range parameters {
		if p.FreeForm { // the members metadata.<path>
			s.AdditionalProperties = oneOrSeveral(&Schema{AnyOf: []*Schema{anyText(""), {Type: "number"}, {Type: "boolean"}}})
			continue
		}
		names = append(names, p.Name)
		schema := p.Schema
		if schema.Pattern != "" { // a value that no entry can have finds nothing
			schema = anyText("")
		}
		if p.Repeatable {
			schema = oneOrSeveral(schema)
		}
		s.Properties = append(s.Properties, Property{Name: p.Name, Schema: schema.withDescription(p.Description)})
	}
	return s, names
}

// matchSchema has the encrypted values by which a search finds entries.
func matchSchema() *Schema {
	value := &Schema{AnyOf: []*Schema{anyText(""), {Type: "number"}, {Type: "boolean"}}}
	return (&Schema{Type: "object", Open: true, AdditionalProperties: value, MinProperties: 1, MaxProperties: protect.MaxMatches}).
		withDescription("Whole values by the dotted paths at which `sensitive_fields` encrypts them with `searchable`. " +
			"An entry has to have all of them. Only who has `logs:match_encrypted` may ask, once a second and 60 times after a pause, in each process of the service. " +
			"It is recorded in the tenant's log, without the values.")
}

// oneOrSeveral returns the schema of a value or an array of values.
func oneOrSeveral(value *Schema) *Schema {
	return &Schema{AnyOf: []*Schema{value, {Type: "array", Items: value, MaxItems: search.MaxFilterValues}}}
}

func filterParameter(f audit.Field) Parameter {
	p := Parameter{Name: string(f), In: InQuery, Repeatable: true, Description: "Entries whose `" + string(f) + "` is this.", Schema: anyText("")}
	switch f {
	case audit.FieldSeverity:
		p.Schema = severities("")
	case audit.FieldIPAddress:
		p.Schema = address("")
	case audit.FieldAction:
		p.Schema = actionSchema().withDescription("")
	case audit.FieldChanged:
		p.Description = "Entries in which this dotted path of the state changed."
	}
	return p
}

func limitParameter() Parameter {
	return Parameter{Name: search.ParamLimit, In: InQuery, Description: "The largest number of items on the page.",
		Schema: orEmpty(integer(1, audit.MaxPageLimit, "").withDefault(audit.DefaultPageLimit))}
}

func cursorParameter() Parameter {
	return Parameter{Name: search.ParamCursor, In: InQuery, Description: "A next or prev of an earlier page of the same list.", Schema: anyText("")}
}

func streamOperations() []Operation {
	return []Operation{{
		Name: "create-stream-ticket", Group: groupStream,
		Description: "For browsers, which cannot set headers when they open a WebSocket: the ticket stands for the credential in the query string of " + manifest.StreamPath +
			", for a minute. Other clients connect there with Authorization and, if it is for several tenants, X-Tenant-ID. docs/streaming.md describes the messages.",
		Responses:      []Response{jsonResponse(http.StatusCreated, "StreamTicket", "The ticket and the address to connect to.")},
		ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The credential is restricted to more resources than a ticket can contain."}},
	}}
}

func quarantineOperations() []Operation {
	item := Parameter{Name: "id", In: InPath, Required: true, Schema: &Schema{Type: "string", Pattern: "^[0-9a-f]{32}$"}, Description: "The item's id."}
	return []Operation{
		{
			Name: "list-quarantine", Group: groupQuarantine,
			Description:    "Accepted entries that a later step refused, each with the step and the reason. They are kept for the tenant's retention.",
			Parameters:     []Parameter{limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "QuarantineList", "One page of items.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The cursor is invalid."}},
		},
		{
			Name: "retry-quarantine", Group: groupQuarantine,
			Description:    "The entry goes through its step again and leaves the quarantine. If the step refuses it again, it returns to the quarantine. The retry is itself recorded in the tenant's log.",
			Parameters:     []Parameter{item},
			Responses:      []Response{jsonResponse(http.StatusAccepted, "Retried", "The entry is on its way.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "The tenant has no such item."}},
		},
		{
			Name: "delete-quarantine", Group: groupQuarantine,
			Description: "The entry is deleted permanently, unless a legal hold covers it. One that the index refused stays stored, and is never sent to the index again. The deletion is itself recorded in the tenant's log.",
			Parameters:  []Parameter{item},
			Responses:   []Response{{Status: http.StatusNoContent, Description: "The entry is deleted."}},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "The tenant has no such item."},
				{httpapi.ProblemConflict, "A legal hold covers the entry."},
			},
		},
	}
}

func tenantParameter() Parameter {
	return Parameter{Name: "id", In: InPath, Required: true, Schema: tenantIDSchema(""), Description: "The tenant's id."}
}

func etagHeader() Header {
	return Header{Name: "ETag", Required: true, Schema: &Schema{Type: "string", Pattern: `^"[0-9]+"$`}, Description: "The record's version, for If-Match."}
}

func tenantOperations() []Operation {
	location := Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The tenant's path."}
	return []Operation{
		{
			Name: "list-tenants", Group: groupTenants,
			Description:    "Only tenants that the credential may see.",
			Parameters:     []Parameter{limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "TenantList", "One page of tenants, ordered by id.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The cursor is invalid."}},
		},
		{
			Name: "create-tenant", Group: groupTenants,
			Description: "For platform operators. An id can be used once, even after its tenant was deleted.",
			Body:        &RequestBody{Description: "The tenant.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewTenant")},
			Responses:   []Response{jsonResponse(http.StatusCreated, "Tenant", "The created tenant.", etagHeader(), location)},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemConflict, "A tenant has this id, or a deleted one had it."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
			},
		},
		{
			Name: "get-tenant", Group: groupTenants,
			Description: "The record with its ETag.",
			Parameters:  []Parameter{tenantParameter(), ifNoneMatchParameter()},
			Responses:   []Response{jsonResponse(http.StatusOK, "Tenant", "The tenant.", etagHeader()), notModified(etagHeader())},
		},
		{
			Name: "update-tenant", Group: groupTenants,
			Description: "Replaces the name and the settings. Omitted settings take their defaults, except for the isolation, which cannot change. To change single settings, use PATCH. If-Match prevents two callers from overwriting each other's changes. The change is itself recorded in the tenant's log.",
			Parameters:  []Parameter{tenantParameter(), ifMatchParameter()},
			Body:        &RequestBody{Description: "The change.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("TenantChange")},
			Responses:   []Response{jsonResponse(http.StatusOK, "Tenant", "The tenant as it is now.", etagHeader())},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemMalformed, "If-Match holds no entity tag."},
				{httpapi.ProblemPrecondition, "The record changed since it was read."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
				{httpapi.ProblemNoPrecondition, "If-Match is missing."},
			},
		},
		{
			Name: "patch-tenant", Group: groupTenants,
			Description: "Merges a JSON Merge Patch (RFC 7396) into the name and the settings. Omitted fields keep their values, and null gives a setting its default. The isolation cannot change. " +
				"A platform operator may also set `status`: `suspended` ends the requests and the live stream of the tenant's own callers within a minute, and `active` ends the suspension. The change is itself recorded in the tenant's log.",
			Parameters: []Parameter{tenantParameter(), ifMatchParameter()},
			Body:       &RequestBody{Description: "The merge patch.", MediaTypes: []string{httpapi.MediaMergePatch, httpapi.MediaJSON}, Schema: ref("TenantPatch")},
			Responses:  []Response{jsonResponse(http.StatusOK, "Tenant", "The tenant as it is now.", etagHeader())},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemMalformed, "If-Match holds no entity tag."},
				{httpapi.ProblemForbidden, "The body has `status`, and the caller is not a platform operator."},
				{httpapi.ProblemConflict, "The tenant is being deleted, and the body has another `status`."},
				{httpapi.ProblemPrecondition, "The record changed since it was read."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
				{httpapi.ProblemNoPrecondition, "If-Match is missing."},
			},
		},
		{
			Name: "delete-tenant", Group: groupTenants,
			Description: "For platform operators. The tenant is closed at once and a job removes its records from every store. A repeated request returns the same job. The request is itself recorded in the tenant's log.",
			Parameters: []Parameter{tenantParameter(), {
				Name: "keep_archive", In: InQuery, Schema: boolean(""),
				Description: "Whether the tenant's archive stays where it is, until an operator removes it. The certificate counts its files. Encrypted values in it can never be decrypted.",
			}},
			Responses:      []Response{jsonResponse(http.StatusAccepted, "Job", "The job.", Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The job's path."})},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemConflict, "A legal hold stands in the tenant, or the tenant is being deleted with another `keep_archive`."}},
		},
	}
}

func ifMatchParameter() Parameter {
	return Parameter{
		In: InHeader, Name: httpapi.IfMatchHeader, Required: true, Schema: &Schema{Type: "string", Pattern: etagPattern},
		Description: "The ETag of the record that the change is based on, or `*` to overwrite whatever is there. Without it the answer is 428.",
	}
}

func ifNoneMatchParameter() Parameter {
	return Parameter{
		In: InHeader, Name: httpapi.IfNoneMatchHeader, Schema: &Schema{Type: "string"},
		Description: "ETags of the versions that the client has. If one of them is the current one, the answer is 304 without a body.",
	}
}

// notModified is the response to a client that has the current version.
func notModified(etag Header) Response {
	return Response{Status: http.StatusNotModified, Description: "The client has the current version: If-None-Match names its ETag.", Headers: []Header{etag}}
}

// digestHeader is the ETag of a document that changes with the version of the service only.
func digestHeader() Header {
	return Header{Name: "ETag", Required: true, Schema: &Schema{Type: "string", Pattern: `^"[0-9a-f]{32}"$`}, Description: "A digest of the document, for If-None-Match."}
}

func jobOperations() []Operation {
	id := Parameter{Name: "id", In: InPath, Required: true, Schema: anyText(""), Description: "The job's id."}
	choice := func(name, description string, choices []string) Parameter {
		return Parameter{Name: name, In: InQuery, Schema: oneOf("", choices...), Description: description}
	}
	return []Operation{
		{
			Name: "list-jobs", Group: groupJobs,
			Description: "The newest first. With jobs:read every job of the tenant, otherwise those of the kinds that the credential may start. An operator also sees the jobs of a deleted tenant. A finished job can be seen for 90 days.",
			Parameters: []Parameter{
				choice("kind", "Only jobs of this kind.", httpapi.JobKinds()), choice("state", "Only jobs in this state.", httpapi.JobStates()),
				limitParameter(), cursorParameter(),
			},
			Responses:      []Response{jsonResponse(http.StatusOK, "JobList", "One page of jobs.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "A parameter is invalid."}},
		},
		{
			Name: "get-job", Group: groupJobs,
			Description:    "The state of a job, with its progress.",
			Parameters:     []Parameter{id},
			Responses:      []Response{jsonResponse(http.StatusOK, "Job", "The job.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such job, or the credential may not see it."}},
		},
		{
			Name: "cancel-job", Group: groupJobs,
			Description: "No worker continues the job. What it did remains done. The deletion of a tenant cannot be cancelled, and neither can an erasure whose delay is over. The cancellation is itself recorded in the tenant's log.",
			Parameters:  []Parameter{id},
			Responses:   []Response{jsonResponse(http.StatusOK, "Job", "The cancelled job.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The credential may not start jobs of this kind."},
				{httpapi.ProblemNotFound, "There is no such job, or the credential may not see it."},
				{httpapi.ProblemConflict, "The job is finished, cannot be cancelled any more, or is of a kind that cannot be cancelled."},
			},
		},
	}
}

func erasureOperations() []Operation {
	id := Parameter{Name: "erasure", In: InPath, Required: true, Schema: anyText(""), Description: "The erasure's id, which is that of its job."}
	return []Operation{
		{
			Name: "create-erasure", Group: groupErasures,
			Description: "Destroys the key that encrypts the values of a subject, so that nothing can read them. Identity, masks and all that is not encrypted stay. It begins after the delay, and succeeds once no process can have the key in memory. " +
				"Later entries get another key; those of the five minutes after it begins can be erased with it. The reason and an HMAC of the subject are recorded in the tenant's log.",
			Parameters: []Parameter{tenantParameter()},
			Body:       &RequestBody{Description: "The erasure.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewErasure")},
			Responses:  []Response{jsonResponse(http.StatusAccepted, "Erasure", "The erasure.", Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The path of its job."})},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The subject is that of the credential or of who created it, or the credential is restricted to resources."},
				{httpapi.ProblemConflict, "A legal hold covers entries of the subject, or the tenant has too many unfinished erasures or queued jobs."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
			},
		},
		{
			Name: "list-erasures", Group: groupErasures,
			Description:    "The newest first. A finished erasure can be seen for 90 days.",
			Parameters:     []Parameter{tenantParameter(), limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "ErasureList", "One page of erasures.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The limit or the cursor is invalid."}},
		},
		{
			Name: "get-erasure", Group: groupErasures,
			Description:    "How far an erasure is.",
			Parameters:     []Parameter{tenantParameter(), id},
			Responses:      []Response{jsonResponse(http.StatusOK, "Erasure", "The erasure.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such erasure, or the credential may not see it."}},
		},
		{
			Name: "cancel-erasure", Group: groupErasures,
			Description: "Nothing is erased. The cancellation is itself recorded in the tenant's log.",
			Parameters:  []Parameter{tenantParameter(), id},
			Responses:   []Response{jsonResponse(http.StatusOK, "Erasure", "The cancelled erasure.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "There is no such erasure."},
				{httpapi.ProblemConflict, "The erasure has begun or is finished."},
			},
		},
		{
			Name: "get-certificate", Group: groupErasures,
			Description: "What an erasure destroyed, when, who asked for it, until when backups of the keys can hold the key, and what remains. Public: the id, which `certificate` of a finished erasure has, is the capability. " +
				"`statement` is for readers. Only what is in `certificate` is signed. A certificate outlives its tenant.",
			Parameters:     []Parameter{{Name: "id", In: InPath, Required: true, Schema: anyText(""), Description: "The certificate's id."}},
			Responses:      []Response{jsonResponse(http.StatusOK, "Certificate", "The certificate.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such certificate."}},
		},
		{
			Name: "get-certificate-keys", Group: groupErasures,
			Description: "The public keys that verify certificates, as a JWK set (RFC 7517). Public. Keep a copy: a key that you fetched before is better evidence than one that came with a certificate.",
			Responses:   []Response{jsonResponse(http.StatusOK, "CertificateKeys", "The keys.")},
		},
	}
}

func holdOperations() []Operation {
	id := Parameter{Name: "hold", In: InPath, Required: true, Schema: anyText(""), Description: "The hold's id."}
	return []Operation{
		{
			Name: "create-legal-hold", Group: groupHolds,
			Description: "Nothing that the hold covers is removed while it stands: not by retention, by an erasure, or by the deletion of the tenant, whenever the entry arrived. A job brings it into force within about 20 minutes: until then a removal that began before can still run. " +
				"What has expired stays hidden. That a hold was set is recorded in the tenant's log, without matter, reason and users.",
			Parameters: []Parameter{tenantParameter()},
			Body:       &RequestBody{Description: "The hold.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewLegalHold")},
			Responses:  []Response{jsonResponse(http.StatusAccepted, "LegalHold", "The hold.", Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The path of its job."})},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The credential is restricted to resources."},
				{httpapi.ProblemConflict, "The tenant has too many holds that are not released, or is being deleted."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
			},
		},
		{
			Name: "list-legal-holds", Group: groupHolds,
			Description:    "The newest first, released ones too.",
			Parameters:     []Parameter{tenantParameter(), limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "LegalHoldList", "One page of holds.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The limit or the cursor is invalid."}},
		},
		{
			Name: "get-legal-hold", Group: groupHolds,
			Description:    "A hold, and whether it is in force.",
			Parameters:     []Parameter{tenantParameter(), id},
			Responses:      []Response{jsonResponse(http.StatusOK, "LegalHold", "The hold.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such hold."}},
		},
		{
			Name: "release-legal-hold", Group: groupHolds,
			Description: "The hold ends. What it kept and has expired is removed as if the hold had never been, seven days later at the earliest. The release is recorded in the tenant's log.",
			Parameters: []Parameter{tenantParameter(), id, {
				Name: "reason", In: InQuery, Required: true, Schema: nonEmptyText(hold.MaxReason, ""), Description: "Why. The hold keeps it.",
			}},
			Responses: []Response{jsonResponse(http.StatusOK, "LegalHold", "The released hold.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The credential is restricted to resources."},
				{httpapi.ProblemNotFound, "There is no such hold."},
				{httpapi.ProblemConflict, "The hold is released already."},
				{httpapi.ProblemInvalid, "The reason is missing or too long."},
			},
		},
	}
}

func restoreOperations() []Operation {
	id := Parameter{Name: "restore", In: InPath, Required: true, Schema: anyText(""), Description: "The restore's id, which is that of its job."}
	return []Operation{
		{
			Name: "create-restore", Group: groupRestores,
			Description: "Brings archived entries of a time back, for a number of days. A job compares the archive with its manifests first: if a part is damaged or missing, the job fails, names it, and changes nothing. Entries that are stored stay as they are. " +
				"What comes back is searchable, has `restored_until`, and is neither streamed nor archived again. Nothing comes back that has expired. The restore is recorded in the tenant's log.",
			Parameters: []Parameter{tenantParameter()},
			Body:       &RequestBody{Description: "The restore.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewRestore")},
			Responses:  []Response{jsonResponse(http.StatusAccepted, "Restore", "The restore.", Header{Name: "Location", Required: true, Schema: anyText(""), Description: "The path of its job."})},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The credential is restricted to resources."},
				{httpapi.ProblemConflict, "The tenant has too many unfinished restores or queued jobs."},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
			},
		},
		{
			Name: "list-restores", Group: groupRestores,
			Description:    "The newest first. A finished restore can be seen for 90 days.",
			Parameters:     []Parameter{tenantParameter(), limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "RestoreList", "One page of restores.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The limit or the cursor is invalid."}},
		},
		{
			Name: "get-restore", Group: groupRestores,
			Description:    "How far a restore is.",
			Parameters:     []Parameter{tenantParameter(), id},
			Responses:      []Response{jsonResponse(http.StatusOK, "Restore", "The restore.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "There is no such restore, or the credential may not see it."}},
		},
		{
			Name: "cancel-restore", Group: groupRestores,
			Description: "No further entry comes back. What has come back stays until `restored_until`. The cancellation is itself recorded in the tenant's log.",
			Parameters:  []Parameter{tenantParameter(), id},
			Responses:   []Response{jsonResponse(http.StatusOK, "Restore", "The cancelled restore.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemNotFound, "There is no such restore."},
				{httpapi.ProblemConflict, "The restore is finished."},
			},
		},
	}
}

func keyOperations() []Operation {
	key := Parameter{Name: "key", In: InPath, Required: true, Schema: &Schema{Type: "string", Pattern: "^[0-9a-f]{16}$"}, Description: "The key's id."}
	return []Operation{
		{
			Name: "list-keys", Group: groupKeys,
			Description:    "The keys of the tenant, the oldest first, without their secrets.",
			Parameters:     []Parameter{tenantParameter(), limitParameter(), cursorParameter()},
			Responses:      []Response{jsonResponse(http.StatusOK, "KeyList", "One page of keys.")},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemInvalid, "The limit or the cursor is invalid."}},
		},
		{
			Name: "create-key", Group: groupKeys,
			Description: "The secret is shown this once; the service stores only its SHA-256. The creation is itself recorded in the tenant's log.",
			Parameters:  []Parameter{tenantParameter()},
			Body:        &RequestBody{Description: "The key.", MediaTypes: []string{httpapi.MediaJSON}, Schema: ref("NewKey")},
			Responses:   []Response{jsonResponse(http.StatusCreated, "KeyWithSecret", "The key and its secret.")},
			ErrorResponses: []ErrorResponse{
				{httpapi.ProblemForbidden, "The key would have a permission or resource that its creator does not have."},
				{httpapi.ProblemConflict, fmt.Sprintf("The tenant has %d keys already.", tenants.MaxKeys)},
				{httpapi.ProblemInvalid, "A field is invalid. `errors` names each."},
			},
		},
		{
			Name: "delete-key", Group: groupKeys,
			Description:    "The key stops working within a minute. The deletion is itself recorded in the tenant's log.",
			Parameters:     []Parameter{tenantParameter(), key},
			Responses:      []Response{{Status: http.StatusNoContent, Description: "The key is deleted."}},
			ErrorResponses: []ErrorResponse{{httpapi.ProblemNotFound, "The tenant has no such key."}},
		},
	}
}

func serviceOperations() []Operation {
	return []Operation{
		{
			Name: "get-health", Group: groupService,
			Description: "The version of the service, its state and that of each dependency. Public.",
			Responses: []Response{
				jsonResponse(http.StatusOK, "Health", "The service accepts entries."),
				jsonResponse(http.StatusServiceUnavailable, "Health", "An essential dependency is unavailable, so the service accepts no entries."),
			},
		},
		{
			Name: "get-openapi", Group: groupService,
			Description: "This API as an OpenAPI 3.1 document. Public.",
			Parameters:  []Parameter{ifNoneMatchParameter()},
			Responses: []Response{
				{Status: http.StatusOK, Description: "The document.", MediaType: httpapi.MediaJSON, Schema: anyObject(""), Headers: []Header{digestHeader()}},
				notModified(digestHeader()),
			},
		},
		{
			Name: "get-docs", Group: groupService,
			Description: "This page. It loads nothing from elsewhere. Public.",
			Parameters:  []Parameter{ifNoneMatchParameter()},
			Responses: []Response{
				{Status: http.StatusOK, Description: "The page.", MediaType: "text/html", Schema: anyText(""), Headers: []Header{digestHeader()}},
				notModified(digestHeader()),
			},
		},
	}
}
