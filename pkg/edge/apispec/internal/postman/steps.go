package postman

// chapter is a folder of the collection.
type chapter struct {
	name  string
	steps []step
}

// step is one request of the way that the collection goes. What it does not say comes from the
// OpenAPI document.
type step struct {
	operation string // id
	name      string // "": the operation's summary
	status    int    // wanted
	// body are members that replace those of the document's example. Without an example, or
	// if that is no object, body is the body.
	body any
	// values are of parameters in the query and in headers.
	values map[string]string
	// withKey is set if the request has the API key as its credential.
	withKey bool
	before  []string // lines of JavaScript before the request
	after   []string // lines of JavaScript that keep values of the answer
	// until is a condition in JavaScript on the answer, whose body is json. The request is
	// repeated until it holds.
	until string
}

func keep(variable, value string) string {
	return `pm.collectionVariables.set("` + variable + `", ` + value + `);`
}

// steps are the way of the collection: a tenant of its own from its creation to its end, past
// every operation of the API.
func steps() []chapter {
	conflicting := func(message string) step {
		return step{operation: "create-log", name: "Reuse the identity of an entry: " + message, status: 202,
			body: map[string]any{"timestamp": "{{timestamp}}", "message": message}}
	}
	return []chapter{
		{"Service", []step{
			{operation: "get-health", status: 200},
			{operation: "get-openapi", status: 200},
			{operation: "get-docs", status: 200},
		}},
		{"Tenants", []step{
			{operation: "create-tenant", status: 201, body: map[string]any{"id": "{{tenant}}"},
				before: []string{keep("tenant", `"postman-" + Date.now()`)}},
			{operation: "list-tenants", status: 200, values: map[string]string{"limit": "10"}},
			{operation: "get-tenant", status: 200, after: []string{keep("etag", `pm.response.headers.get("ETag")`)}},
			{operation: "patch-tenant", status: 200, values: map[string]string{"If-Match": "{{etag}}"}},
			{operation: "update-tenant", status: 200, values: map[string]string{"If-Match": "*"}},
		}},
		{"API keys", []step{
			{operation: "create-key", status: 201, body: map[string]any{"expires_at": "{{expires}}"},
				before: []string{keep("expires", "new Date(Date.now() + 3600000).toISOString()")}, after: []string{keep("key", "json.id"), keep("secret", "json.secret")}},
			{operation: "list-keys", status: 200},
		}},
		{"Write", []step{
			{operation: "create-log", name: "Accept one entry of an API key", status: 202, withKey: true, body: map[string]any{"timestamp": "{{timestamp}}"},
				before: []string{keep("timestamp", "new Date().toISOString()")}, after: []string{keep("entry", "json.id")}},
			{operation: "create-logs-bulk", status: 202, body: []any{
				map[string]any{"user_id": "ann@acme.example", "action": "VIEW", "resource_type": "invoice", "resource_id": "R-17"},
				map[string]any{"user_id": "bob@acme.example", "action": "DELETE", "resource_type": "user", "resource_id": "ann@acme.example", "severity": "WARNING"},
			}},
		}},
		{"Read", []step{
			{operation: "get-log", status: 200, until: "true"},
			{operation: "list-logs", status: 200, values: map[string]string{"action": "DELETE", "limit": "10"}, until: "json.items.length > 0"},
			{operation: "search-logs", status: 200, until: "json.items.length > 0"},
			{operation: "feed-logs", status: 200, values: map[string]string{"limit": "10"}, until: "json.items.length > 0", after: []string{keep("cursor", "json.next")}},
			{operation: "feed-logs", name: "Continue after the last entry of the feed", status: 200, values: map[string]string{"cursor": "{{cursor}}"}},
			{operation: "export-logs", status: 200, values: map[string]string{"format": "json"}, until: "json.length > 0"},
			{operation: "create-export", status: 202, body: map[string]any{"format": "csv", "action": "DELETE"}, after: []string{keep("export", "json.id")}},
			{operation: "list-exports", status: 200, until: "json.items.length > 0"},
			{operation: "get-export", status: 200, until: "json.url !== undefined"},
			{operation: "cleanup-logs", name: "Preview the removal of entries before their end", status: 200, values: map[string]string{"before": "{{timestamp}}", "dry_run": "true"}},
			{operation: "get-stats", status: 200, values: map[string]string{"group_by": "action"}, until: "json.total >= 3"},
			{operation: "create-stream-ticket", status: 201},
		}},
		{"Quarantine", []step{
			conflicting("first"),
			{operation: "list-quarantine", status: 200, until: "json.items.length > 0", after: []string{keep("item", "json.items[0].id")}},
			{operation: "retry-quarantine", status: 202},
			{operation: "list-quarantine", name: "Wait until the entry is refused again", status: 200,
				until: "json.items.length > 0", after: []string{keep("item", "json.items[0].id")}},
			{operation: "delete-quarantine", status: 204},
		}},
		{"Erasures", []step{
			{operation: "create-erasure", status: 202, after: []string{keep("erasure", "json.id")}},
			{operation: "list-erasures", status: 200},
			{operation: "get-erasure", status: 200},
			{operation: "cancel-erasure", status: 200},
			{operation: "get-certificate", name: "A certificate that there is not", status: 404},
			{operation: "get-certificate-keys", status: 200},
		}},
		{"Restores", []step{
			{operation: "create-restore", status: 202, after: []string{keep("restore", "json.id")}},
			{operation: "list-restores", status: 200},
			{operation: "get-restore", name: "Wait until the restore has ended", status: 200, until: `json.state === "succeeded"`},
			{operation: "cancel-restore", name: "It has ended", status: 409},
		}},
		{"Legal holds", []step{
			{operation: "create-legal-hold", status: 202, after: []string{keep("hold", "json.id")}},
			{operation: "list-legal-holds", status: 200},
			{operation: "get-legal-hold", status: 200},
			{operation: "release-legal-hold", status: 200, values: map[string]string{"reason": "The case is closed"}},
		}},
		{"The end", []step{
			{operation: "delete-key", status: 204},
			{operation: "delete-tenant", status: 202, after: []string{keep("job", "json.id")}},
			{operation: "cancel-job", name: "Cancel a job that cannot be cancelled", status: 409},
			{operation: "list-jobs", status: 200, until: "json.items.length > 0"},
			{operation: "get-job", status: 200},
		}},
	}
}

// pathValues are the variables of parameters in paths, by the beginning of the path.
var pathValues = []struct{ prefix, parameter, value string }{
	{"/tenants/", "id", "{{tenant}}"},
	{"/tenants/", "key", "{{key}}"},
	{"/tenants/", "erasure", "{{erasure}}"},
	{"/tenants/", "hold", "{{hold}}"},
	{"/tenants/", "restore", "{{restore}}"},
	{"/jobs/", "id", "{{job}}"},
	{"/certificates/", "id", "00000000000000000000000000000000"},
	{"/logs/quarantine/", "id", "{{item}}"},
	{"/logs/exports/", "id", "{{export}}"},
	{"/logs/", "id", "{{entry}}"},
}

// variables of the collection: those that a person sets, and those that requests keep.
var variables = []variable{
	{Key: "baseUrl", Value: "http://127.0.0.1:8080/api/v1", Description: "Address of the API."},
	{Key: "token", Value: "", Description: "A token of a platform operator: ocelot token --tenant '*' --role operator --permissions subjects:erase."},
	{Key: "tenant", Value: "", Description: "The tenant that a run creates."},
	{Key: "timestamp", Value: ""}, {Key: "etag", Value: ""}, {Key: "expires", Value: ""}, {Key: "entry", Value: ""}, {Key: "key", Value: ""}, {Key: "secret", Value: ""},
	{Key: "cursor", Value: ""}, {Key: "item", Value: ""}, {Key: "job", Value: ""}, {Key: "erasure", Value: ""}, {Key: "hold", Value: ""}, {Key: "restore", Value: ""}, {Key: "export", Value: ""}, {Key: "attempts", Value: "0"},
}
