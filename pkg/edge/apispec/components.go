package apispec

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// Component is a named schema of the document.
type Component struct {
	Name   string
	Schema *Schema
}

// entryIDPattern is the 36-character form of a UUID of version 7.
const entryIDPattern = `^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$`

// etagPattern is * or a list of entity tags in double quotes.
const etagPattern = `^(?:\*|(?:W/)?"[0-9A-Za-z._-]*"(?:, ?(?:W/)?"[0-9A-Za-z._-]*")*)$`

// resourcePattern is the text form of an access.Resource.
var resourcePattern = fmt.Sprintf(`^(?:[^:%%]|%%25|%%3[Aa]){1,%d}(?::[\s\S]{1,%d})?$`, audit.MaxResourceType, audit.MaxResourceID)

func entryID(description string) *Schema {
	return &Schema{Type: "string", Format: "uuid", Pattern: entryIDPattern, Description: description}
}

func tenantIDSchema(description string) *Schema {
	return &Schema{Type: "string", Pattern: audit.TenantIDPattern, Description: description}
}

func severities(description string) *Schema {
	return oneOf(description, namesOf(audit.Severities())...)
}

func namesOf[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

func textsOf[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// Components returns the schemas, in the order in which the page explains them.
func Components() []Component {
	return []Component{
		{"NewEntry", newEntrySchema()},
		{"Entry", entrySchema()},
		{"EntryWithStatus", withStatus(entrySchema())},
		{"Accepted", object(
			required("id", entryID("The entry's id. An entry that was not stored has one as well.")),
			required("status", oneOf("`accepted`: it is stored soon, exactly once. `filtered`: its severity is outside the tenant's log_levels. `expired`: it is past its end by the tenant's retention, or older than searchable_days.",
				textsOf(ingest.Accepted, ingest.Filtered, ingest.Expired)...)),
		)},
		{"BulkAnswer", bulkSchema()},
		{"Search", searchSchema()},
		{"EntryList", entryListSchema()},
		{"Feed", feedSchema()},
		{"Stats", statsSchema()},
		{"QuarantineItem", quarantineSchema()},
		{"QuarantineList", listOf("QuarantineItem")},
		{"Retried", object(
			required("id", anyText("The item's id.")),
			required("status", oneOf("The entry goes through its step again.", string(audit.StatusAccepted))),
		)},
		{"RetentionRule", retentionRuleSchema()},
		{"SensitiveField", sensitiveFieldSchema()},
		{"Settings", settingsSchema(settingReturned, true)},
		{"SettingsChange", settingsSchema(settingSent, false)},
		{"NewTenant", object(
			required("id", tenantIDSchema("The id, which can never be changed or used again.")),
			required("name", nonEmptyText(audit.MaxTenantName, "What people call the tenant.")),
			optional("settings", ref("SettingsChange").withDescription("Omitted fields take their defaults.")),
		)},
		{"TenantChange", object(
			required("name", nonEmptyText(audit.MaxTenantName, "What people call the tenant.")),
			optional("settings", ref("SettingsChange").withDescription("Omitted fields take their defaults. The isolation stays as it is.")),
		)},
		{"SettingsPatch", settingsSchema(settingPatched, false)},
		{"TenantPatch", object(
			optional("name", nonEmptyText(audit.MaxTenantName, "What people call the tenant.")),
			optional("status", oneOf("For platform operators only. A suspended tenant refuses every request of its own callers, accepts no entries and has no live stream.",
				textsOf(audit.TenantActive, audit.TenantSuspended)...)),
			optional("settings", &Schema{
				Description: "Omitted fields keep their values. null gives a setting, or all of them but isolation, the default.",
				AnyOf:       []*Schema{ref("SettingsPatch"), {Type: "null"}},
			}),
		)},
		{"Tenant", object(
			required("id", tenantIDSchema("")),
			required("name", anyText("")),
			required("status", oneOf("A suspended tenant refuses every request of its own callers, accepts no entries and has no live stream. A deleting tenant is being purged.",
				textsOf(audit.TenantActive, audit.TenantSuspended, audit.TenantDeleting)...)),
			required("created_at", timestamp("")),
			required("updated_at", timestamp("")),
			optional("keep_archive", boolean("true if the archive stays while the tenant is deleted. Left out otherwise.")),
			required("settings", ref("Settings")),
			optional("in_force_at", timestamp("Only in answers to changes of `remove_secrets`, `detect` or `sensitive_fields`: entries that are accepted from then on are protected by the changed settings, and earlier ones may be.")),
		)},
		{"TenantList", listOf("Tenant")},
		{"NewExport", newExportSchema()},
		{"Export", exportJobSchema()},
		{"ExportList", listOf("Export")},
		{"CleanupPreview", object(
			required("count", count("Entries that would be removed.")),
			required("oldest", timestamp("The timestamp of the oldest of them; null if there are none.").orNull()),
			required("newest", timestamp("The timestamp of the newest of them; null if there are none.").orNull()),
			required("held", count("Further entries, which a legal hold keeps.")),
			optional("archive_counted", boolean("false if `archive` was given: what the archive has is not counted. Left out otherwise.")),
		)},
		{"Job", jobSchema()},
		{"JobList", listOf("Job")},
		{"NewErasure", newErasureSchema()},
		{"Erasure", object(append(jobFields(),
			required("subject_hmac", &Schema{Type: "string", Pattern: "^[0-9a-f]{32}$", Description: "The HMAC of the subject's name under a key of the tenant. The service does not keep the name."}),
			required("erases_at", timestamp("When it begins. It can be cancelled before.")),
			optional("erased_at", timestamp("When the key was destroyed. A process can have the key in memory until the erasure has succeeded.")),
			optional("revealed_exports_removed", count("How many files of revealed exports were removed. Left out before.")),
		)...)},
		{"ErasureList", listOf("Erasure")},
		{"NewRestore", newRestoreSchema()},
		{"Restore", restoreSchema()},
		{"RestoreList", listOf("Restore")},
		{"Certificate", object(
			required("statement", anyObject("What the certificate says.")),
			required("certificate", anyText("The certificate: a JSON Web Signature (RFC 7515) in the compact form, by EdDSA with Ed25519.")),
		)},
		{"CertificateKeys", object(required("keys", list(anyObject("A public key as RFC 8037 writes it."))))},
		{"NewLegalHold", newHoldSchema()},
		{"LegalHold", holdSchema()},
		{"LegalHoldList", listOf("LegalHold")},
		{"NewKey", newKeySchema()},
		{"Key", object(keyFields()...)},
		{"KeyWithSecret", object(append(keyFields(), required("secret", anyText("The secret. No later response shows it. Send it as `Authorization: ApiKey <secret>`.")))...)},
		{"KeyList", listOf("Key")},
		{"StreamTicket", streamTicketSchema()},
		{"Health", healthSchema()},
		{"Problem", problemSchema()},
		{"FieldError", object(
			optional("pointer", anyText("RFC 6901 JSON pointer of the faulty value, or `?name` for a query parameter, or `Header: Name`. A fault of the whole entry or body has none.")),
			required("code", anyText("A stable word for programs.")),
			required("detail", anyText("One sentence for people. It never repeats the value.")),
		)},
	}
}

func address(description string, others ...*Schema) *Schema {
	return &Schema{Description: description, AnyOf: append([]*Schema{
		{Type: "string", Format: "ipv4"}, {Type: "string", Format: "ipv6"},
	}, others...)}
}

func actionSchema() *Schema {
	return &Schema{Type: "string", Pattern: audit.ActionPattern,
		Description: "What was done. CREATE, UPDATE, DELETE and VIEW are standard. Other actions, such as user.login, are valid too. Case matters."}
}

func newEntrySchema() *Schema {
	properties := []Property{
		required("user_id", nonEmptyText(audit.MaxUserID, "Who acted.")),
		required("action", actionSchema()),
		required("resource_type", nonEmptyText(audit.MaxResourceType, "The kind of thing that was acted on.")),
		optional("resource_id", text(audit.MaxResourceID, "Which one it was.").orNull()),
		optional("timestamp", timestamp("When it happened, to the millisecond. Default: now. At most 24 hours ahead, and not before 1970. Required with an idempotency key.").orNull()),
		optional("severity", severities("The severity. Default: INFO.").orNull()),
		optional("message", text(audit.MaxMessage, "A sentence about it, for full-text search.").orNull()),
		optional("session_id", text(audit.MaxSessionID, "Correlation.").orNull()),
		optional("request_id", text(audit.MaxRequestID, "Correlation.").orNull()),
		optional("ip_address", address("IPv4 or IPv6 address, without a zone. Default: the caller's, for a single entry of a credential with logs:write_own. Otherwise it stays absent.", &Schema{Type: "null"})),
		optional("user_agent", text(audit.MaxUserAgent, "Default: as of ip_address.").orNull()),
		optional("before_state", anyObject("The resource before.").orNull()),
		optional("after_state", anyObject("The resource after. The service derives `changed`, the dotted paths that differ.").orNull()),
		optional("metadata", anyObject("Custom data. Scalar leaves can be searched as metadata.<path>.").orNull()),
		optional("idempotency_key", text(audit.MaxIdempotencyKey, "Identifies the entry, together with its tenant and timestamp. An entry that is sent again with the same three is stored once.").orNull()),
		optional("id", entryID("Your own UUID of version 7. Its time must be the timestamp's. Default: the service creates one.").orNull()),
		optional("tenant_id", tenantIDSchema("Must equal X-Tenant-ID. It does not select the tenant.").orNull()),
	}
	for _, name := range entryjson.ServiceFields() {
		description := "Set by the service. A client's value is ignored."
		if name == entryjson.NameChanged {
			description = "Set by the service. A client's value counts only where both states have the same mask or `" + protect.Removed + "`, as exported entries do."
		}
		properties = append(properties, optional(name, &Schema{Description: description}))
	}
	return object(properties...).withDescription(fmt.Sprintf("An entry as a client sends it: at most %d KiB of JSON, %d levels deep. Unknown members are refused: put custom data into metadata. "+
		"Duplicate keys, invalid UTF-8 and lone surrogates are refused, because they could not be returned exactly.", audit.MaxEntryBytes>>10, audit.MaxDepth))
}

func entrySchema() *Schema {
	return object(
		required("id", entryID("UUID of version 7: its first 48 bits are the timestamp's milliseconds.")),
		required("tenant_id", tenantIDSchema("")),
		required("user_id", anyText("Who acted.")),
		optional("session_id", anyText("")), optional("request_id", anyText("")),
		required("action", anyText("What was done.")),
		required("resource_type", anyText("")), optional("resource_id", anyText("")),
		required("timestamp", timestamp("When it happened, in UTC with milliseconds.")),
		optional("ip_address", address("")), optional("user_agent", anyText("")),
		optional("before_state", anyObject("As it was sent, without secrets.")),
		optional("after_state", anyObject("As it was sent, without secrets.")),
		optional("changed", list(anyText("")).withDescription("The dotted paths at which before_state and after_state differed as they were sent, sorted.")),
		optional("removed", list(anyText("")).withDescription(fmt.Sprintf("JSON pointers of the places at which `%s` stands for a secret of the client. If there are very many, only the top-level fields that they are in.", protect.Removed))),
		optional("restored_until", timestamp("When an entry that was brought back from the archive leaves again. Left out for all others.")),
		optional("masked", list(anyText("")).withDescription("JSON pointers of the places at which a mask stands for an encrypted value.")),
		optional("revealed", list(anyText("")).withDescription("JSON pointers of the encrypted values that this answer has in plain, because they were asked for.")),
		optional("erased", list(anyText("")).withDescription("JSON pointers of the places whose values nobody can read any more: the key was destroyed. Only in answers with revealed values.")),
		optional("unreadable", list(anyText("")).withDescription("JSON pointers of the places whose encrypted values were altered in the store. Only in answers with revealed values.")),
		optional("metadata", anyObject("As it was sent, without secrets.")),
		required("severity", severities("")),
		optional("message", anyText("")),
		optional("idempotency_key", anyText("")),
		required("received_at", timestamp("When the service accepted it.")),
		optional("submitted_by", anyText("The credential it came with: `key:` and the id of an API key, `sub:` and a token's sub, or `service` for the service's own entries.")),
		optional("expires_at", timestamp("When the tenant's current retention of it ends. Left out if it never ends.")),
	).withDescription("An entry as it is stored. Fields without a value are left out. Objects and numbers keep the spelling that the client sent.")
}

// withStatus adds the status of the entry.
func withStatus(entry *Schema) *Schema {
	entry.Properties = append(entry.Properties, required("status",
		oneOf("`stored`: durable. `indexed`: lists, searches and statistics find it.", textsOf(audit.StatusStored, audit.StatusIndexed)...)))
	return entry
}

func listOf(name string) *Schema {
	cursor := func(which string) *Schema {
		return anyText("The cursor of the " + which + " page, for ?cursor=. It is null if there is none.").orNull()
	}
	return object(required("items", list(ref(name))), required("next", cursor("next")), required("prev", cursor("previous")))
}

// entryListSchema is a list of entries with its bound.
func entryListSchema() *Schema {
	schema := listOf("Entry")
	schema.Properties = append(schema.Properties, searchableFrom())
	return schema
}

const searchableFromHelp = "No entry with an earlier timestamp is included, but for restored ones, because of the tenant's searchable_days. Left out if that is 0."

func searchableFrom() Property { return optional("searchable_from", timestamp(searchableFromHelp)) }

func feedSchema() *Schema {
	return object(
		required("items", list(ref("Entry")).withDescription("The entries in the order of their arrival.")),
		required("next", anyText("The cursor for the request that continues here, now or at any later time.")),
		required("more", boolean("Whether the log continues after next. Without it, ask again later.")),
	)
}

func bulkSchema() *Schema {
	outcomes := textsOf(ingest.Accepted, ingest.Duplicate, ingest.Filtered, ingest.Expired, ingest.Rejected)
	item := object(
		required("index", count("The entry's place in the request, from 0. Blank lines do not count.")),
		optional("id", entryID("Left out if the entry could not be parsed.")),
		required("status", oneOf("`duplicate`: an earlier entry of this request has the same identity.", outcomes...)),
		optional("error", ref("Problem").withDescription("Why the entry was rejected.")),
	)
	fields := make([]Property, 0, len(outcomes)+1)
	for _, o := range outcomes {
		fields = append(fields, required(o, count("How many entries have this status.")))
	}
	return object(append(fields, required("items", list(item).withDescription("One for each entry, in the order of the request.")))...)
}

func statsSchema() *Schema {
	group := object(required("count", count("")), optional("shortened", boolean("true if a value was too long. Left out otherwise.")))
	group.Open, group.AdditionalProperties = true, &Schema{}
	group.Description = fmt.Sprintf("The fields of group_by, each with its value (\"\" if the entry has none), and the count. A value of more than %d bytes is its beginning, an ellipsis and its SHA-256 in base64url.", audit.MaxGroupValue)
	return object(
		required("total", count("The number of entries that match the filters.")),
		required("groups", list(group).withDescription("The largest first. Empty without group_by.")),
		required("histogram", list(object(required("start", timestamp("With the offset of time_zone.")), required("count", count("")))).withDescription("From the first to the last interval with entries. Empty without interval.")),
		required("distinct_users", count(fmt.Sprintf("The number of different user_id values. More than %d may be an estimate.", audit.MaxExactUsers))),
		searchableFrom(),
	)
}

func quarantineSchema() *Schema {
	return object(
		required("id", &Schema{Type: "string", Pattern: "^[0-9a-f]{32}$"}),
		required("step", oneOf("The step that refused the entry.", audit.StepPersist, audit.StepIndex)),
		required("code", anyText("A stable word for programs, such as identity_conflict.")),
		required("reason", anyText("One sentence for people.")),
		required("quarantined_at", timestamp("")),
		optional("expires_at", timestamp("When the tenant's current retention of the entry ends. Left out if it never ends.")),
		required("entry", ref("Entry")),
	)
}

// settingsSchema describes settings. In a response every field is required, in a
// change none is.
// setting makes a property of settings. The last argument is the setting's default.
type setting func(name string, s *Schema, value any) Property

// The settings of a response, of a request, and of a merge patch.
func settingReturned(name string, s *Schema, _ any) Property { return required(name, s) }
func settingSent(name string, s *Schema, value any) Property {
	return optional(name, s.withDefault(value))
}
func settingPatched(name string, s *Schema, _ any) Property { return optional(name, s.orNull()) }

// sensitiveFieldSchema describes a rule of sensitive fields, both sent and returned.
func sensitiveFieldSchema() *Schema {
	return object(
		required("path", nonEmptyText(audit.MaxSensitivePath, fmt.Sprintf("Dotted names that begin with `metadata`, `before_state` or `after_state`, or with `%s` for any depth of all three. `%s` stands for one name. Or one of `message`, `ip_address`, `user_agent`, `session_id`. Names count without case, `-` and `_`.", audit.AnyDepth, audit.AnyName))),
		optional("mask", oneOf("What stands in the place of a value. The default is `full`, and `ip` for `ip_address`.", textsOf(audit.Masks()...)...)),
		optional("subject", anyText("Whose key encrypts the values: `user_id`, `resource_id`, or a path to the name of a person in the entry. The default is the tenant's own key, and `user_id` for `ip_address`, `user_agent` and `session_id`.")),
		optional("searchable", boolean("Whether entries can be found by the whole value.")),
	)
}

func settingsSchema(f setting, levelsUnique bool) *Schema {
	initial := audit.DefaultSettings()
	levels := list(severities(""))
	levels.MinItems, levels.UniqueItems = 1, levelsUnique
	detectors := list(oneOf("", textsOf(audit.Detectors()...)...))
	detectors.UniqueItems = levelsUnique
	sensitive := list(ref("SensitiveField")).withDescription("What is encrypted before an entry is stored. If two rules match one value, the first counts. A change applies to entries that are accepted a minute later, and later ones.")
	sensitive.MaxItems = audit.MaxSensitiveFields
	rules := list(ref("RetentionRule")).withDescription("Retention of single actions or severities instead of retention_days. The first rule that matches counts. Rules do not apply to the service's own entries.")
	rules.MaxItems = audit.MaxRetentionRules
	return object(
		f("retention_days", integer(0, audit.MaxRetentionDays, "How long an entry is kept after its timestamp. 0 keeps it forever. A change applies to stored entries too, within a minute."), initial.RetentionDays),
		f("retention_rules", rules, []string{}),
		f("searchable_days", integer(0, audit.MaxRetentionDays, "How long after its timestamp lists, searches, counts, exports and the stream have an entry. 0: as long as it is kept. At most the longest retention. With `archive`, older entries leave the database once they are archived."), initial.SearchableDays),
		f("archive", boolean("Entries are copied to Parquet files. They are removed at the end of their retention only once they are there."), initial.Archive),
		f("log_levels", levels.withDescription("The severities that are stored. Entries of others get the status `filtered`."), namesOf(initial.LogLevels)),
		f("remove_secrets", boolean(fmt.Sprintf("Strings and numbers under names such as password, token or api_key are replaced by `%s` before anything is stored.", protect.Removed)), initial.RemoveSecrets),
		f("detect", detectors.withDescription("The kinds of secrets that are recognized by their form and replaced within texts, under any name."), textsOf(initial.Detect...)),
		f("sensitive_fields", sensitive, initial.SensitiveFields),
		f("tier", oneOf("The ingest queue.", textsOf(audit.TierStandard, audit.TierPriority)...), string(initial.Tier)),
		f("isolation", oneOf("Whether the tenant's entries share storage with other tenants' entries or have their own.", textsOf(audit.IsolationShared, audit.IsolationDedicated)...), string(initial.Isolation)),
	)
}

func retentionRuleSchema() *Schema {
	return object(
		optional("action", actionSchema().withDescription("The action that the rule is about.")),
		optional("severity", severities("The severity that the rule is about.")),
		required("days", integer(0, audit.MaxRetentionDays, "How long such an entry is kept after its timestamp. 0 keeps it forever.")),
	).withDescription("A rule names either an action or a severity. No two rules name the same.")
}

func jobSchema() *Schema { return object(jobFields()...) }

func jobFields() []Property {
	return []Property{
		required("id", anyText("")),
		required("kind", oneOf("", httpapi.JobKinds()...)),
		required("tenant_id", tenantIDSchema("")),
		required("state", oneOf("", httpapi.JobStates()...)),
		required("progress", &Schema{Type: "number", Minimum: new(int64), Maximum: limitOf(1), Description: "From 0 to 1."}),
		required("count", count("Records handled so far.")),
		optional("archive_count", count("Entries that a cleanup has removed from the archive. Left out unless `archive` was given.")),
		required("created_by", anyText("The subject of the credential that started it.")),
		required("created_at", timestamp("")),
		optional("started_at", timestamp("Left out while it is queued for the first time.")),
		optional("finished_at", timestamp("Left out while it is not finished.")),
		optional("error", anyText("Why it failed.")),
		optional("certificate", anyText("The path of its certificate, which needs no credential. An erasure and the deletion of a tenant have one once they have succeeded.")),
	}
}

func newErasureSchema() *Schema {
	delay := count("Until then it can be cancelled.").withDefault(erasure.DefaultDelay)
	delay.Maximum = limitOf(erasure.MaxDelayHours)
	return object(
		required("subject", nonEmptyText(protect.MaxSubject, "Whom the values are about, as the entries have it: a user_id, or what a rule of sensitive_fields takes as its subject.")),
		required("reason", nonEmptyText(erasure.MaxReason, "Why. It stands in the tenant's log.")),
		optional("delay_hours", delay),
	)
}

func newRestoreSchema() *Schema {
	return object(
		required("from", timestamp("Only entries whose timestamp is not earlier.")),
		required("to", timestamp("Only entries whose timestamp is earlier.")),
		optional("days", integer(1, restore.MaxDays, "After how many days the entries leave again.").withDefault(restore.DefaultDays)),
		optional("include_cleaned", boolean("Whether entries come back that a cleanup removed.").withDefault(false)),
	)
}

func restoreSchema() *Schema {
	return object(append(jobFields(),
		required("from", timestamp("")),
		required("to", timestamp("")),
		required("days", integer(1, restore.MaxDays, "")),
		required("include_cleaned", boolean("")),
		required("restored_until", timestamp("When the entries leave again.")),
		required("expired", count("Archived entries that did not come back because they have expired.")),
		required("cleaned", count("Archived entries that did not come back because a cleanup had removed them.")),
	)...)
}

func newHoldSchema() *Schema {
	return object(
		required("matter", nonEmptyText(hold.MaxMatter, "The case.")),
		required("reason", nonEmptyText(hold.MaxReason, "Why. The hold keeps it.")),
		optional("user_ids", &Schema{
			Type: "array", Items: nonEmptyText(hold.MaxUserID, ""), MaxItems: hold.MaxUserIDs, Description: "Only entries with one of these user_ids. Left out or empty: all entries.",
		}),
		optional("from", timestamp("Only entries whose timestamp is not earlier.")),
		optional("to", timestamp("Only entries whose timestamp is earlier.")),
	)
}

func holdSchema() *Schema {
	return object(
		required("id", anyText("That of its job too.")),
		required("tenant_id", tenantIDSchema("")),
		required("state", oneOf("It is `starting` until no removal is under way any more that began before.", httpapi.HoldStates()...)),
		required("matter", anyText("")),
		required("reason", anyText("")),
		required("user_ids", &Schema{Type: "array", Items: anyText(""), Description: "Empty: all entries."}),
		optional("from", timestamp("")),
		optional("to", timestamp("")),
		required("created_by", anyText("The subject of the credential that set it.")),
		required("created_at", timestamp("")),
		optional("in_force_at", timestamp("Left out until then.")),
		optional("released_at", timestamp("Left out while it stands.")),
		optional("released_by", anyText("")),
		optional("release_reason", anyText("")),
	)
}

func exportJobSchema() *Schema {
	return object(append(jobFields(),
		optional("bytes", count("The size of the file. Left out while it is not complete, and if `reveal` is true and there is no `url`.")),
		optional("sha256", &Schema{Type: "string", Pattern: `^[0-9a-f]{64}$`, Description: "The SHA-256 of the file. Left out as `bytes` is."}),
		optional("file_expires_at", timestamp("When the file is removed: 7 days after the export succeeded.")),
		optional("expired", boolean("The file was removed.")),
		optional("reveal", boolean("The file has encrypted values in plain.")),
		optional("removed_by_erasure", boolean("The erasure of a person removed the file, which could have values of that person.")),
		searchableFrom(),
		optional("url", anyText("Downloads the file, without a credential and also from a byte on (`Range: bytes=…-`). It is new in each answer. Lists have none.")),
		optional("url_expires_at", timestamp("When the URL ends: 15 minutes after the answer.")),
		optional("url_requires", list(oneOf("", keyPermissions()...)).withDescription("The permissions for a URL that the credential lacks.")),
	)...)
}

func limitOf(n int64) *int64 { return &n }

func keyPermissions() []string {
	var grantable []string
	for _, p := range access.Permissions() {
		if !p.Platform() {
			grantable = append(grantable, string(p))
		}
	}
	return grantable
}

func newKeySchema() *Schema {
	permissions := list(oneOf("", keyPermissions()...))
	permissions.MinItems = 1
	resources := list(&Schema{Type: "string", Pattern: resourcePattern})
	resources.MaxItems = tenants.MaxKeyResources
	return object(
		required("name", nonEmptyText(tenants.MaxKeyName, "What people call the key.")),
		required("permissions", permissions.withDescription("What the key may do. Its creator must have each of these permissions.")),
		optional("resources", resources.withDescription("Restricts every read to these: a resource type (`order`) or one resource (`user:42`). A colon or percent sign in a type is written %3A or %25.")),
		optional("expires_at", timestamp("When the key stops working, in the future. Default: never. A key that is created with an API key that expires must expire too, and no later.")),
	)
}

func keyFields() []Property {
	return []Property{
		required("id", &Schema{Type: "string", Pattern: "^[0-9a-f]{16}$"}),
		required("tenant_id", tenantIDSchema("The only tenant the key gives access to.")),
		required("name", anyText("")),
		required("permissions", list(oneOf("", keyPermissions()...))),
		required("resources", list(anyText(""))),
		required("created_at", timestamp("")),
		optional("created_by", anyText("The subject of the token that created it. A key that was created with another key has that one's. Left out if nobody knows.")),
		optional("expires_at", timestamp("Left out if it never expires.")),
		optional("last_used_at", timestamp("To the minute, at most an hour before the last use. Left out if the key was never used.")),
	}
}

func healthSchema() *Schema {
	return object(
		required("version", anyText("The version of the service's build.")),
		required("status", oneOf("`degraded`: a dependency that is not essential is unavailable.", httpapi.HealthOK, httpapi.HealthDegraded, httpapi.HealthUnavailable)),
		required("dependencies", list(object(required("name", anyText("")), required("status", oneOf("", httpapi.HealthOK, httpapi.HealthUnavailable)),
			optional("reason", oneOf("Why it is unavailable. `storage_full`: its disk is full or nearly so.", httpapi.HealthStorageFull))))),
	)
}

func problemSchema() *Schema {
	types := make([]string, 0, len(httpapi.ProblemKinds()))
	for _, k := range httpapi.ProblemKinds() {
		types = append(types, httpapi.ProblemTypePrefix+k.Code)
	}
	return object(
		required("type", oneOf("What kind of problem it is.", types...)),
		required("title", anyText("The kind in words.")),
		required("status", integer(400, 599, "The HTTP status.")),
		required("detail", anyText("What is wrong with this request.")),
		required("request_id", anyText("Leads to the request in the service's log.")),
		optional("errors", list(ref("FieldError")).withDescription("One for each faulty value.")),
	).withDescription("A problem document of RFC 9457.")
}

func streamTicketSchema() *Schema {
	return object(
		required("ticket", anyText("Replaces the credential. Anyone who has the ticket can use it.")),
		required("expires_at", timestamp("When the ticket expires.")),
		required("url", anyText("The WebSocket address with the ticket in its query string.")))
}
