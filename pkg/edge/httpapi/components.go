package httpapi

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// component is a named schema of the document.
type component struct {
	name   string
	schema *schema
}

// entryIDPattern is the 36-character form of a UUID of version 7.
const entryIDPattern = `^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$`

// etagPattern is * or a list of entity tags in double quotes.
const etagPattern = `^(?:\*|(?:W/)?"[0-9A-Za-z._-]*"(?:, ?(?:W/)?"[0-9A-Za-z._-]*")*)$`

// resourcePattern is the text form of an access.Resource.
var resourcePattern = fmt.Sprintf(`^(?:[^:%%]|%%25|%%3[Aa]){1,%d}(?::[\s\S]{1,%d})?$`, audit.MaxResourceType, audit.MaxResourceID)

func entryID(description string) *schema {
	return &schema{kind: "string", format: "uuid", pattern: entryIDPattern, description: description}
}

func tenantIDSchema(description string) *schema {
	return &schema{kind: "string", pattern: audit.TenantIDPattern, description: description}
}

func severities(description string) *schema { return choice(description, names(audit.Severities())...) }

func names[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

func words[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// components returns the schemas, in the order in which the page explains them.
func components() []component {
	return []component{
		{"NewEntry", newEntrySchema()},
		{"Entry", entrySchema()},
		{"EntryWithStatus", withStatus(entrySchema())},
		{"Accepted", object(
			must("id", entryID("The entry's id. An entry that was not stored has one as well.")),
			must("status", choice("`accepted`: it is stored soon, exactly once. `filtered`: its severity is outside the tenant's log_levels. `expired`: it is older than the tenant's retention.",
				words(ingest.Accepted, ingest.Filtered, ingest.Expired)...)),
		)},
		{"BulkAnswer", bulkSchema()},
		{"EntryList", listOf("Entry")},
		{"Stats", statsSchema()},
		{"QuarantineItem", quarantineSchema()},
		{"QuarantineList", listOf("QuarantineItem")},
		{"Retried", object(
			must("id", str("The item's id.")),
			must("status", choice("The entry is on its way through its step again.", string(audit.StatusAccepted))),
		)},
		{"Settings", settingsSchema(true)},
		{"SettingsChange", settingsSchema(false)},
		{"NewTenant", object(
			must("id", tenantIDSchema("The id, which can never be changed or used again.")),
			must("name", &schema{kind: "string", minLength: 1, maxLength: audit.MaxTenantName, description: limitBytes("What people call the tenant.", audit.MaxTenantName)}),
			may("settings", ref("SettingsChange").says("What is left out takes its default.")),
		)},
		{"TenantChange", object(
			may("name", &schema{kind: "string", minLength: 1, maxLength: audit.MaxTenantName, description: limitBytes("What people call the tenant.", audit.MaxTenantName)}),
			may("settings", ref("SettingsChange").says("What is left out keeps its value.")),
		)},
		{"Tenant", object(
			must("id", tenantIDSchema("")),
			must("name", str("")),
			must("status", choice("A suspended tenant can be read and takes no entries; a deleting one is being purged.",
				words(audit.TenantActive, audit.TenantSuspended, audit.TenantDeleting)...)),
			must("created_at", moment("")),
			must("updated_at", moment("")),
			must("settings", ref("Settings")),
		)},
		{"TenantList", listOf("Tenant")},
		{"Job", jobSchema()},
		{"NewKey", newKeySchema()},
		{"Key", object(keyFields()...)},
		{"KeyWithSecret", object(append(keyFields(), must("secret", str("The secret, shown this once. Send it as `Authorization: ApiKey <secret>`.")))...)},
		{"KeyList", listOf("Key")},
		{"StreamTicket", streamTicketSchema()},
		{"Health", healthSchema()},
		{"Problem", problemSchema()},
		{"FieldError", object(
			must("pointer", str("RFC 6901 JSON pointer of the faulty value, or `?name` for a query parameter, or `Header: Name`.")),
			must("code", str("A stable word for programs.")),
			must("detail", str("One sentence for people. It never repeats the value.")),
		)},
	}
}

func limitBytes(description string, limit int) string {
	return fmt.Sprintf("%s At most %d bytes of UTF-8.", description, limit)
}

// entryText is a text field of an entry.
func entryText(limit int, description string) *schema {
	return text(limit, limitBytes(description, limit))
}

func anyObject(description string) *schema {
	return &schema{kind: "object", open: true, description: description}
}

func address(description string, others ...*schema) *schema {
	return &schema{description: description, anyOf: append([]*schema{
		{kind: "string", format: "ipv4"}, {kind: "string", format: "ipv6"},
	}, others...)}
}

func actionSchema() *schema {
	return &schema{kind: "string", pattern: audit.ActionPattern,
		description: "What was done. CREATE, UPDATE, DELETE and VIEW are standard; others, such as user.login, are as good. Case matters."}
}

func newEntrySchema() *schema {
	ignored := func() *schema {
		return &schema{description: "Made by the service; a client's value is ignored."}
	}
	required := func(limit int, description string) *schema {
		s := entryText(limit, description)
		s.minLength = 1
		return s
	}
	return object(
		must("user_id", required(audit.MaxUserID, "Who acted.")),
		must("action", actionSchema()),
		must("resource_type", required(audit.MaxResourceType, "The kind of thing that was acted on.")),
		may("resource_id", entryText(audit.MaxResourceID, "Which one it was.").orNull()),
		may("timestamp", moment("When it happened; milliseconds are kept. Default: now. At most 24 hours ahead, and not before 1970. Required with an idempotency key.").orNull()),
		may("severity", severities("How grave it is. Default: INFO.").orNull()),
		may("message", entryText(audit.MaxMessage, "A sentence about it; it is what full-text search reads.").orNull()),
		may("session_id", entryText(audit.MaxSessionID, "Correlation.").orNull()),
		may("request_id", entryText(audit.MaxRequestID, "Correlation.").orNull()),
		may("ip_address", address("IPv4 or IPv6 address, without a zone. Default: the caller's; null: unknown.", &schema{kind: "null"})),
		may("user_agent", entryText(audit.MaxUserAgent, "Default: the caller's; null: unknown.").orNull()),
		may("before_state", anyObject("The resource before.").orNull()),
		may("after_state", anyObject("The resource after. The service derives `changed`, the dotted paths that differ.").orNull()),
		may("metadata", anyObject("Anything of your own. Scalar leaves can be searched as metadata.<path>.").orNull()),
		may("idempotency_key", entryText(audit.MaxIdempotencyKey, "With tenant and timestamp the identity of the entry: sending the three again stores it once.").orNull()),
		may("id", entryID("Your own UUID of version 7, whose time is the timestamp's. Default: made by the service.").orNull()),
		may("tenant_id", tenantIDSchema("Only to agree with X-Tenant-ID; it chooses nothing.").orNull()),
		may("received_at", ignored()), may("expires_at", ignored()), may("changed", ignored()),
	).says(fmt.Sprintf("An entry as a client sends it: at most %d KiB of JSON, %d levels deep. Other members than these are refused; put custom data into metadata. "+
		"Keys that stand twice, invalid UTF-8 and lone surrogates are refused, because they could not come back exactly.", audit.MaxEntryBytes>>10, audit.MaxDepth))
}

func entrySchema() *schema {
	return object(
		must("id", entryID("UUID of version 7: its first 48 bits are the timestamp's milliseconds.")),
		must("tenant_id", tenantIDSchema("")),
		must("user_id", str("Who acted.")),
		may("session_id", str("")), may("request_id", str("")),
		must("action", str("What was done.")),
		must("resource_type", str("")), may("resource_id", str("")),
		must("timestamp", moment("When it happened, in UTC with milliseconds.")),
		may("ip_address", address("")), may("user_agent", str("")),
		may("before_state", anyObject("As it was sent.")),
		may("after_state", anyObject("As it was sent.")),
		may("changed", list(str("")).says("The dotted paths at which before_state and after_state differ, sorted.")),
		may("metadata", anyObject("As it was sent.")),
		must("severity", severities("")),
		may("message", str("")),
		may("idempotency_key", str("")),
		must("received_at", moment("When the service accepted it.")),
		may("expires_at", moment("When the tenant's retention of it ends; left out where it never does.")),
	).says("An entry as it is stored. Fields that are not set are left out. Objects and numbers keep the spelling they were sent in.")
}

// withStatus is an entry with how far it has come.
func withStatus(entry *schema) *schema {
	entry.fields = append(entry.fields, must("status",
		choice("`stored`: durable. `indexed`: lists, searches and statistics find it.", words(audit.StatusStored, audit.StatusIndexed)...)))
	return entry
}

func listOf(name string) *schema {
	cursor := func(which string) *schema {
		return str("The cursor of the " + which + " page for ?cursor=; null where there is none.").orNull()
	}
	return object(must("items", list(ref(name))), must("next", cursor("next")), must("prev", cursor("previous")))
}

func bulkSchema() *schema {
	outcomes := words(ingest.Accepted, ingest.Duplicate, ingest.Filtered, ingest.Expired, ingest.Rejected)
	item := object(
		must("index", count("The entry's place in the request, from 0; blank lines do not count.")),
		may("id", entryID("Left out where the entry could not be read.")),
		must("status", choice("`duplicate`: the same identity stood twice in this request.", outcomes...)),
		may("error", ref("Problem").says("Why the entry was rejected.")),
	)
	fields := make([]field, 0, len(outcomes)+1)
	for _, o := range outcomes {
		fields = append(fields, must(o, count("How many entries have this status.")))
	}
	return object(append(fields, must("items", list(item).says("One for each entry, in the order of the request.")))...)
}

func statsSchema() *schema {
	group := object(must("count", count("")))
	group.open, group.values = true, &schema{}
	group.description = "The fields of group_by, each with its value (\"\" where an entry has none), and the count."
	return object(
		must("total", count("How many entries the filters choose.")),
		must("groups", list(group).says("The largest first; empty without group_by.")),
		must("histogram", list(object(must("start", moment("")), must("count", count("")))).says("From the first to the last interval with entries; empty without interval.")),
		must("distinct_users", count("How many different user_id there are.")),
	)
}

func quarantineSchema() *schema {
	return object(
		must("id", &schema{kind: "string", pattern: "^[0-9a-f]{32}$"}),
		must("step", choice("The step that could not take the entry.", audit.StepPersist, audit.StepIndex)),
		must("code", str("A stable word for programs, such as identity_conflict.")),
		must("reason", str("One sentence for people.")),
		must("held_at", moment("")),
		may("expires_at", moment("When the tenant's retention of the entry ends.")),
		must("entry", ref("Entry")),
	)
}

// settingsSchema has every field required where it is an answer.
func settingsSchema(answer bool) *schema {
	initial := audit.DefaultSettings()
	f := func(name string, s *schema, value any) field {
		if answer {
			return must(name, s)
		}
		return may(name, s.otherwise(value))
	}
	levels := list(severities(""))
	levels.minItems, levels.unique = 1, answer
	paths := list(&schema{kind: "string", minLength: 1, maxLength: audit.MaxSensitivePath})
	paths.maxItems = audit.MaxSensitiveFields
	return object(
		f("retention_days", integer(0, audit.MaxRetentionDays, "How long an entry is kept after its timestamp; 0 keeps it for ever."), initial.RetentionDays),
		f("log_levels", levels.says("The severities that are stored; others are answered `filtered`."), names(initial.LogLevels)),
		f("sensitive_fields", paths.says("Dotted paths, `**.` meaning any depth. Not in effect in this version."), initial.SensitiveFields),
		f("masking", boolean("Sensitive fields are hidden from readers without logs:read_sensitive. Not in effect in this version."), initial.Masking),
		f("legal_hold", boolean("Stops every deletion."), initial.LegalHold),
		f("tier", choice("The ingest queue.", words(audit.TierStandard, audit.TierPriority)...), string(initial.Tier)),
		f("isolation", choice("How the tenant's entries lie in the system of record.", words(audit.IsolationShared, audit.IsolationDedicated)...), string(initial.Isolation)),
		f("archive", boolean("Every day is written to the archive before it may be deleted. Not in effect in this version."), initial.Archive),
	)
}

func jobSchema() *schema {
	return object(
		must("id", str("")),
		must("kind", choice("", string(audit.JobPurgeTenant))),
		must("tenant_id", tenantIDSchema("")),
		must("state", choice("", words(audit.JobQueued, audit.JobRunning, audit.JobSucceeded, audit.JobFailed)...)),
		must("progress", &schema{kind: "number", minimum: new(int64), maximum: pointer(1), description: "From 0 to 1."}),
		must("count", count("Records handled so far.")),
		must("created_at", moment("")), must("updated_at", moment("")),
		may("error", str("Why it failed.")),
	)
}

func pointer(n int64) *int64 { return &n }

func keyPermissions() []string {
	var grantable []string
	for _, p := range access.Permissions() {
		if !p.Platform() {
			grantable = append(grantable, string(p))
		}
	}
	return grantable
}

func newKeySchema() *schema {
	permissions := list(choice("", keyPermissions()...))
	permissions.minItems = 1
	resources := list(&schema{kind: "string", pattern: resourcePattern})
	resources.maxItems = tenants.MaxKeyResources
	return object(
		must("name", &schema{kind: "string", minLength: 1, maxLength: tenants.MaxKeyName, description: limitBytes("What people call the key.", tenants.MaxKeyName)}),
		must("permissions", permissions.says("What the key may do; nothing that its creator may not.")),
		may("resources", resources.says("Narrows every read to these: a resource type (`order`) or one resource (`user:42`). A colon or percent sign in a type is written %3A or %25.")),
		may("expires_at", moment("When the key stops working, in the future. Default: never.")),
	)
}

func keyFields() []field {
	return []field{
		must("id", &schema{kind: "string", pattern: "^[0-9a-f]{16}$"}),
		must("tenant_id", tenantIDSchema("The one tenant it is good for.")),
		must("name", str("")),
		must("permissions", list(choice("", keyPermissions()...))),
		must("resources", list(str(""))),
		must("created_at", moment("")),
		may("expires_at", moment("Left out where it never does.")),
		may("last_used_at", moment("To the minute; left out where it was not used yet.")),
	}
}

func healthSchema() *schema {
	return object(
		must("status", choice("`degraded`: something that is not essential is missing.", healthOK, healthDegraded, healthUnavailable)),
		must("dependencies", list(object(must("name", str("")), must("status", choice("", healthOK, healthUnavailable))))),
	)
}

func problemSchema() *schema {
	types := make([]string, 0, len(kinds()))
	for _, k := range kinds() {
		types = append(types, problemTypePrefix+k.code)
	}
	return object(
		must("type", choice("What kind of problem it is.", types...)),
		must("title", str("The kind in words.")),
		must("status", integer(400, 599, "The HTTP status.")),
		must("detail", str("What is wrong with this request.")),
		must("request_id", str("Leads to the request in the service's log.")),
		may("errors", list(ref("FieldError")).says("One for each faulty value.")),
	).says("A problem document of RFC 9457.")
}
