package events_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
)

// want is what a sample's function has to answer; see README.md.
type want struct {
	Status            int                           `json:"status,omitempty"`
	BatchItemFailures *[]events.SQSBatchItemFailure `json:"batchItemFailures,omitempty"`
	DeadLetters       int64                         `json:"deadLetters,omitempty"`
	Effect            string                        `json:"effect,omitempty"`
	Error             string                        `json:"error,omitempty"`
	Done              bool                          `json:"done,omitempty"`
	Sent              []string                      `json:"sent,omitempty"`
}

// sample is one invocation.
type sample struct {
	function, name string
	event          any
	want           want
}

// request is an HTTP sample in short.
type request struct {
	as     access.Principal
	header map[string]string
	ids    map[string]string
	query  url.Values
	body   string
	status int
}

func holder(sub string, tenant audit.TenantID, role access.Role) access.Principal {
	return access.Principal{Subject: sub, Grants: map[audit.TenantID][]access.Permission{tenant: role.Permissions()}}
}

var (
	admin    = holder("ada", acme, access.RoleAdmin)
	auditor  = holder("grace", acme, access.RoleAuditor)
	operator = holder("ops", access.AnyTenant, access.RoleOperator)
	stranger = holder("mallory", "elsewhere", access.RoleAdmin)
)

const entryText = `{"user_id":"ada","action":"UPDATE","resource_type":"order","resource_id":"4711","before_state":{"state":"open"},` +
	`"after_state":{"state":"paid"},"metadata":{"channel":"web","total":19.90},"severity":"WARNING","message":"The order was paid"}`

var jsonBody = map[string]string{"Content-Type": "application/json"}

// requests are the HTTP samples, by function and name.
func requests() map[string]map[string]request {
	entry := storedEntry(1)
	return map[string]map[string]request{
		"create-log": {
			"accepted":      {as: admin, header: jsonBody, body: entryText, status: 202},
			"unknown-field": {as: admin, header: jsonBody, body: `{"user_id":"ada","action":"UPDATE","resource_type":"order","color":"red"}`, status: 422},
		},
		"create-logs-bulk": {
			"ndjson":        {as: admin, header: map[string]string{"Content-Type": "application/x-ndjson"}, body: entryText + "\n" + entryText + "\n", status: 202},
			"one-is-faulty": {as: admin, header: jsonBody, body: "[" + entryText + `,{"user_id":"ada"}]`, status: 207},
		},
		"cancel-erasure": {
			"cancelled": {as: admin, ids: map[string]string{"id": "acme", "erasure": erasureJob}, status: 200},
			"unknown":   {as: admin, ids: map[string]string{"id": "acme", "erasure": "none"}, status: 404},
		},
		"create-erasure": {
			"started": {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"subject":"user-42","reason":"request 17","delay_hours":72}`, status: 202},
			"oneself": {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"subject":"ada","reason":"mine"}`, status: 403},
		},
		"get-erasure": {
			"found":   {as: auditor, ids: map[string]string{"id": "acme", "erasure": erasureJob}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": "acme", "erasure": "none"}, status: 404},
		},
		"get-certificate": {
			"found":     {ids: map[string]string{"id": certificateID().String()}, status: 200},
			"malformed": {ids: map[string]string{"id": "none"}, status: 404},
		},
		"get-certificate-keys": {
			"listed":            {status: 200},
			"unknown-parameter": {query: url.Values{"kid": {"1"}}, status: 422},
		},
		"list-erasures": {
			"listed":    {as: auditor, ids: map[string]string{"id": "acme"}, status: 200},
			"forbidden": {as: stranger, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"cancel-restore": {
			"cancelled": {as: admin, ids: map[string]string{"id": "acme", "restore": restoreJob}, status: 200},
			"unknown":   {as: admin, ids: map[string]string{"id": "acme", "restore": "none"}, status: 404},
		},
		"create-restore": {
			"started": {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z","days":7}`, status: 202},
			"faulty":  {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"from":"2026-01-01T00:00:00Z","days":1000}`, status: 422},
		},
		"get-restore": {
			"found":   {as: auditor, ids: map[string]string{"id": "acme", "restore": restoreJob}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": "acme", "restore": "none"}, status: 404},
		},
		"list-restores": {
			"listed":    {as: auditor, ids: map[string]string{"id": "acme"}, status: 200},
			"forbidden": {as: stranger, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"create-legal-hold": {
			"set":    {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"matter":"Case 17","reason":"letter","user_ids":["ada"]}`, status: 202},
			"faulty": {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"matter":"","to":"yesterday"}`, status: 422},
		},
		"get-legal-hold": {
			"found":   {as: auditor, ids: map[string]string{"id": "acme", "hold": holdID}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": "acme", "hold": "none"}, status: 404},
		},
		"list-legal-holds": {
			"listed":    {as: auditor, ids: map[string]string{"id": "acme"}, status: 200},
			"forbidden": {as: stranger, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"release-legal-hold": {
			"released":  {as: admin, ids: map[string]string{"id": "acme", "hold": holdID}, query: map[string][]string{"reason": {"closed"}}, status: 200},
			"no-reason": {as: admin, ids: map[string]string{"id": "acme", "hold": holdID}, status: 422},
		},
		"cancel-job": {
			"finished": {as: operator, ids: map[string]string{"id": failedJob}, status: 409},
			"unknown":  {as: operator, ids: map[string]string{"id": "none"}, status: 404},
		},
		"get-job": {
			"found":   {as: auditor, ids: map[string]string{"id": failedJob}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": "none"}, status: 404},
		},
		"list-jobs": {
			"listed":        {as: auditor, query: url.Values{"state": {"failed"}}, status: 200},
			"unknown-state": {as: auditor, query: url.Values{"state": {"done"}}, status: 422},
		},
		"create-key": {
			"created":   {as: admin, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"name":"ci","permissions":["logs:write"]}`, status: 201},
			"forbidden": {as: auditor, header: jsonBody, ids: map[string]string{"id": "acme"}, body: `{"name":"ci","permissions":["logs:write"]}`, status: 403},
		},
		"create-stream-ticket": {
			"created":   {as: auditor, status: 201},
			"forbidden": {as: stranger, status: 403},
		},
		"create-tenant": {
			"created": {as: operator, header: jsonBody, body: `{"id":"beta","name":"Beta","settings":{"retention_days":30}}`, status: 201},
			"taken":   {as: operator, header: jsonBody, body: `{"id":"acme","name":"Acme"}`, status: 409},
		},
		"delete-key": {
			"revoked": {as: admin, ids: map[string]string{"id": "acme", "key": keyID}, status: 204},
			"unknown": {as: admin, ids: map[string]string{"id": "acme", "key": "ffffffffffffffff"}, status: 404},
		},
		"delete-quarantine": {
			"discarded": {as: admin, ids: map[string]string{"id": itemID}, status: 204},
			"held":      {as: admin, ids: map[string]string{"id": heldItemID}, status: 409},
			"unknown":   {as: admin, ids: map[string]string{"id": strings.Repeat("f", 32)}, status: 404},
		},
		"delete-tenant": {
			"started":   {as: operator, ids: map[string]string{"id": "gone"}, status: 202},
			"forbidden": {as: admin, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"export-logs": {
			"as-csv":         {as: auditor, query: url.Values{"action": {"UPDATE"}, "format": {"csv"}, "fields": {"timestamp,user_id,metadata.plan"}}, status: 200},
			"as-a-job":       {as: auditor, query: url.Values{"async": {"true"}}, status: 202},
			"by-a-hold":      {as: auditor, query: url.Values{"hold": {holdID}, "format": {"csv"}, "fields": {"timestamp,user_id"}}, status: 202},
			"unknown-hold":   {as: auditor, query: url.Values{"hold": {"none"}}, status: 404},
			"unknown-format": {as: auditor, query: url.Values{"format": {"xlsx"}}, status: 422},
		},
		"cleanup-logs": {
			"preview":   {as: admin, query: url.Values{"before": {"2026-03-02T00:00:00Z"}, "action": {"UPDATE"}, "dry_run": {"true"}}, status: 200},
			"started":   {as: admin, query: url.Values{"before": {"2026-03-02T00:00:00Z"}}, status: 202},
			"no-before": {as: admin, query: url.Values{"action": {"UPDATE"}}, status: 422},
			"forbidden": {as: auditor, query: url.Values{"before": {"2026-03-02T00:00:00Z"}}, status: 403},
		},
		"create-export": {
			"started":        {as: auditor, header: jsonBody, body: `{"format":"csv","fields":["timestamp","user_id"],"bom":true,"action":"UPDATE"}`, status: 202},
			"revealed":       {as: admin, header: jsonBody, body: `{"reveal":true,"reason":"Case 17","action":"UPDATE"}`, status: 202},
			"unknown-format": {as: auditor, header: jsonBody, body: `{"format":"xlsx"}`, status: 422},
		},
		"get-export": {
			"running": {as: auditor, ids: map[string]string{"id": exportJob}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": "none"}, status: 404},
		},
		"list-exports": {
			"listed":    {as: auditor, query: url.Values{"limit": {"10"}}, status: 200},
			"forbidden": {as: stranger, status: 403},
		},
		"feed-logs": {
			"read":          {as: auditor, query: url.Values{"action": {"UPDATE"}, "limit": {"10"}}, status: 200},
			"forged-cursor": {as: auditor, query: url.Values{"cursor": {"AAAA"}}, status: 422},
		},
		"get-docs": {
			"page":              {status: 200},
			"unknown-parameter": {query: url.Values{"page": {"2"}}, status: 422},
		},
		"get-health": {
			"healthy":           {status: 200},
			"unknown-parameter": {query: url.Values{"deep": {"1"}}, status: 422},
		},
		"get-log": {
			"found":   {as: auditor, ids: map[string]string{"id": entry.ID.String()}, status: 200},
			"unknown": {as: auditor, ids: map[string]string{"id": noEntryID}, status: 404},
		},
		"get-openapi": {
			"document":          {status: 200},
			"unknown-parameter": {query: url.Values{"format": {"yaml"}}, status: 422},
		},
		"get-stats": {
			"by-action":     {as: auditor, query: url.Values{"group_by": {"action"}, "from": {"2026-03-01T00:00:00Z"}, "to": {"2026-03-02T00:00:00Z"}, "interval": {"1h"}}, status: 200},
			"unknown-field": {as: auditor, query: url.Values{"group_by": {"color"}}, status: 422},
		},
		"get-tenant": {
			"found":     {as: auditor, ids: map[string]string{"id": "acme"}, status: 200},
			"forbidden": {as: stranger, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"list-keys": {
			"listed":    {as: admin, ids: map[string]string{"id": "acme"}, status: 200},
			"forbidden": {as: auditor, ids: map[string]string{"id": "acme"}, status: 403},
		},
		"list-quarantine": {
			"listed":        {as: admin, query: url.Values{"limit": {"10"}}, status: 200},
			"limit-of-zero": {as: admin, query: url.Values{"limit": {"0"}}, status: 422},
		},
		"list-tenants": {
			"listed":        {as: operator, status: 200},
			"forged-cursor": {as: operator, query: url.Values{"cursor": {"AAAA"}}, status: 422},
		},
		"patch-tenant": {
			"suspended": {as: operator, header: map[string]string{"Content-Type": "application/merge-patch+json", "If-Match": `"1"`}, ids: map[string]string{"id": "acme"},
				body: `{"status":"suspended","settings":{"retention_days":null}}`, status: 200},
			"not-an-operator": {as: admin, header: map[string]string{"Content-Type": "application/merge-patch+json", "If-Match": `"1"`}, ids: map[string]string{"id": "acme"},
				body: `{"status":"suspended"}`, status: 403},
		},
		"retry-quarantine": {
			"queued":  {as: admin, ids: map[string]string{"id": itemID}, status: 202},
			"unknown": {as: admin, ids: map[string]string{"id": strings.Repeat("f", 32)}, status: 404},
		},
		"list-logs": {
			"found":     {as: auditor, query: url.Values{"action": {"CREATE", "UPDATE"}, "q": {`severity>=WARNING "order was paid"`}, "limit": {"10"}}, status: 200},
			"bad-query": {as: auditor, query: url.Values{"q": {`"never closed`}}, status: 422},
		},
		"search-logs": {
			"found": {as: auditor, header: map[string]string{"Content-Type": "application/json"},
				body: `{"action":["CREATE","UPDATE"],"q":"severity>=WARNING \"order was paid\"","limit":10}`, status: 200},
			"bad-value": {as: auditor, header: map[string]string{"Content-Type": "application/json"},
				body: `{"action":{"is":"CREATE"}}`, status: 422},
		},
		"update-tenant": {
			"updated": {as: admin, header: map[string]string{"Content-Type": "application/json", "If-Match": `"1"`}, ids: map[string]string{"id": "acme"},
				body: `{"name":"Acme Ltd","settings":{"retention_days":90}}`, status: 200},
			"changed-since": {as: admin, header: map[string]string{"Content-Type": "application/json", "If-Match": `"7"`}, ids: map[string]string{"id": "acme"},
				body: `{"name":"Acme Ltd","settings":{"retention_days":90}}`, status: 412},
		},
	}
}

const (
	apiID     = "gy415nuibc"
	accountID = "111122223333"
	region    = "eu-central-1"
	requestID = "deef4878-7910-11e6-8f14-25afc3e9ae33"
)

// proxyEvent is the event of a request, as API Gateway sends it.
func proxyEvent(t *testing.T, function string, q request) events.APIGatewayProxyRequest {
	t.Helper()
	route := *manifest.FunctionOf(function).Trigger.Route
	path := manifest.BasePath + route.Path
	for name, id := range q.ids {
		path = strings.Replace(path, "{"+name+"}", id, 1)
	}
	r, err := http.NewRequestWithContext(t.Context(), route.Method, "https://"+apiID+".execute-api."+region+".amazonaws.com"+path+"?"+q.query.Encode(), strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "203.0.113.7:443"
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "curl/8.5.0")
	if route.Permission != "" {
		r.Header.Set("Authorization", "Bearer checked.by.authorizer")
	}
	if route.Permission != "" && route.TenantFrom == manifest.TenantFromHeader {
		r.Header["X-Tenant-ID"] = []string{string(acme)}
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	event, err := lambdaedge.EventFromRequest(r, manifest.BasePath+route.Path, q.ids)
	if err != nil {
		t.Fatal(err)
	}
	c := &event.RequestContext
	c.AccountID, c.APIID, c.ResourceID, c.Stage, c.RequestID = accountID, apiID, "gf3a1b", "prod", requestID
	c.Path, c.DomainPrefix, c.ExtendedRequestID = "/prod"+path, apiID, "TWegAcC4EowCHnA="
	c.RequestTime, c.RequestTimeEpoch = sampleTime.Format("02/Jan/2006:15:04:05 -0700"), sampleTime.UnixMilli()
	if route.Permission != "" {
		principal, err := json.Marshal(q.as)
		if err != nil {
			t.Fatal(err)
		}
		c.Authorizer = map[string]any{"principalId": q.as.Subject, "integrationLatency": 12, "principal": string(principal)}
	}
	return event
}

// sqsEvent is a batch of the queue's messages with these bodies.
func sqsEvent(queue manifest.QueueName, bodies ...string) events.SQSEvent {
	var event events.SQSEvent
	for i, body := range bodies {
		event.Records = append(event.Records, events.SQSMessage{
			MessageId: messageID(i), ReceiptHandle: "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a", Body: body,
			Attributes: map[string]string{
				"ApproximateReceiveCount": "1", "SentTimestamp": "1772360430000", "SenderId": "AROAEXAMPLE:ocelot",
				"ApproximateFirstReceiveTimestamp": "1772360430010",
			},
			MessageAttributes: map[string]events.SQSMessageAttribute{}, EventSource: "aws:sqs", AWSRegion: region,
			EventSourceARN: "arn:aws:sqs:" + region + ":" + accountID + ":" + string(queue),
		})
	}
	return event
}

// scheduleEvent is a function's run, as EventBridge Scheduler asks for it.
func scheduleEvent(function string) events.EventBridgeEvent {
	return events.EventBridgeEvent{
		Version: "0", ID: "7d1f0c52-5a5e-4b0e-8a53-9b1f6d2f4c11", DetailType: "Scheduled Event", Source: "aws.scheduler", AccountID: accountID,
		Time: sampleTime, Region: region, Resources: []string{"arn:aws:scheduler:" + region + ":" + accountID + ":schedule/default/" + function},
		Detail: json.RawMessage(`"{}"`), // a text, unlike that of other events
	}
}

func rotationEvent(step string) events.SecretsManagerSecretRotationEvent {
	return events.SecretsManagerSecretRotationEvent{
		Step: step, ClientRequestToken: nextVersion,
		SecretID: "arn:aws:secretsmanager:" + region + ":" + accountID + ":secret:ocelot/prod/cursor-key-AbCdEf",
	}
}

// otherEvent is one that no schedule sends.
func otherEvent() events.EventBridgeEvent {
	event := scheduleEvent("")
	event.Source, event.DetailType = "aws.s3", "Object Created"
	event.Resources, event.Detail = []string{"arn:aws:s3:::samples"}, json.RawMessage(`{"object":{"key":"a"}}`)
	return event
}

func messageID(i int) string { return "059f36b4-87a3-44ab-83d2-66197583000" + string(rune('0'+i)) }

func failing(places ...int) want {
	failures := []events.SQSBatchItemFailure{}
	for _, i := range places {
		failures = append(failures, events.SQSBatchItemFailure{ItemIdentifier: messageID(i)})
	}
	return want{BatchItemFailures: &failures}
}

// deadLettering adds to w that a message went to the dead-letter queue.
func deadLettering(w want) want {
	w.DeadLetters = 1
	return w
}

// packed is one message with these of the sample entries.
func packed(t *testing.T, numbers ...byte) string {
	t.Helper()
	var entries []audit.Entry
	for _, n := range numbers {
		entries = append(entries, storedEntry(n))
	}
	messages, err := envelope.Pack(acme, entries)
	if err != nil {
		t.Fatal(err)
	} else if len(messages) != 1 {
		t.Fatalf("packed %d messages, want 1", len(messages))
	}
	return messages[0]
}

// arrived is the arrival of these of the sample entries with one ingest message.
func arrived(t *testing.T, message byte, numbers ...byte) string {
	t.Helper()
	a := envelope.Arrival{Message: audit.MessageID{message}, Received: sampleTime}
	for _, n := range numbers {
		a.IDs = append(a.IDs, storedEntry(n).ID)
	}
	messages, err := envelope.PackArrivals(acme, []envelope.Arrival{a})
	if err != nil {
		t.Fatal(err)
	}
	return messages[0]
}

// authorizerEvent asks about GET or POST /logs of a tenant with an API key.
func authorizerEvent(t *testing.T, function, tenant, authorization string) events.APIGatewayCustomAuthorizerRequestTypeRequest {
	t.Helper()
	event := proxyEvent(t, function, request{header: map[string]string{"Authorization": authorization}})
	delete(event.Headers, "X-Tenant-ID")
	delete(event.MultiValueHeaders, "X-Tenant-ID")
	if tenant != "" {
		event.Headers["X-Tenant-ID"] = tenant
		event.MultiValueHeaders["X-Tenant-ID"] = []string{tenant}
	}
	return lambdaedge.AuthorizerEvent(event, "arn:aws:execute-api:"+region+":"+accountID+":"+apiID+"/prod/"+event.HTTPMethod+event.Path)
}

// samples is every sample.
func samples(t *testing.T) []sample {
	t.Helper()
	var all []sample
	for function, byName := range requests() {
		for name, q := range byName {
			all = append(all, sample{function, name, proxyEvent(t, function, q), want{Status: q.status}})
		}
	}
	all = append(all, socketSamples()...)
	nudge := func(tenant audit.TenantID) string { return `{"v":1,"tenant":"` + string(tenant) + `"}` }
	live := func(w want, sent ...string) want {
		w.Sent = sent
		return w
	}
	purge := `{"v":1,"tenant":"gone","job":"` + purgeJob + `","generation":0}`
	return append(all,
		sample{"persist-logs", "stored", sqsEvent(manifest.QueueIngest, packed(t, 4, 5), packed(t, 6)), failing()},
		sample{"persist-logs", "stored-already", sqsEvent(manifest.QueueIngestPriority, packed(t, 1, 2)), failing()},
		sample{"persist-logs", "one-is-unreadable", sqsEvent(manifest.QueueIngest, packed(t, 4), "not a message"), deadLettering(failing())},
		sample{"index-logs", "indexed", sqsEvent(manifest.QueueIndex, packed(t, 1, 2)), failing()},
		sample{"index-logs", "one-is-unreadable", sqsEvent(manifest.QueueIndex, "not a message", packed(t, 1)), deadLettering(failing())},
		sample{"index-logs", "one-is-of-a-later-release", sqsEvent(manifest.QueueIndex, `{"v":99}`, packed(t, 1)), failing(0)},
		sample{"order-logs", "placed", sqsEvent(manifest.QueueArrival, arrived(t, 1, 2), arrived(t, 2, 4, 5)), failing()},
		sample{"order-logs", "placed-already", sqsEvent(manifest.QueueArrival, arrived(t, 1, 1)), failing()},
		sample{"order-logs", "one-is-unreadable", sqsEvent(manifest.QueueArrival, arrived(t, 3, 6), "not a message"), deadLettering(failing())},
		sample{"stream-logs", "delivered", sqsEvent(manifest.QueueStream, nudge(acme)), live(failing(), "subscribed", "entries")},
		sample{"stream-logs", "no-subscribers", sqsEvent(manifest.QueueStream, nudge(gone)), failing()},
		sample{"stream-logs", "one-is-unreadable", sqsEvent(manifest.QueueStream, nudge(gone), "not a message"), deadLettering(failing())},
		sample{"run-jobs", "purged", sqsEvent(manifest.QueueJobs, purge), failing()},
		sample{"run-jobs", "stale", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"gone","job":"`+purgeJob+`","generation":7}`), failing()},
		sample{"run-jobs", "compared", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"reconcile_index","input":[{"day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z"}]}`), failing()},
		sample{"run-jobs", "places-compared", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"reconcile_arrivals","input":[{"received":"2026-01-02T00:00:00Z","day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z"}]}`), failing()},
		sample{"run-jobs", "pruned", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"prune_arrivals","input":[{"touches":1,"checks":0,"due":"2026-01-02T13:00:00Z"}]}`), failing()},
		sample{"run-jobs", "retained", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"retain","input":[{"day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z"}]}`), failing()},
		sample{"run-jobs", "retained-in-steps", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"retain","input":[{"day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z","began":"2026-01-02T12:00:00Z","after":"019b7c5b-6400-7000-8000-000000000000","after_item":"019b7c5b-6400-7000-8000-000000000001","wake":"2026-01-07T12:00:00Z"}]}`), failing()},
		sample{"run-jobs", "retained-again", sqsEvent(manifest.QueueJobs, `{"v":1,"tenant":"acme","task":"retain_again"}`), failing()},
		sample{"run-jobs", "one-is-unreadable", sqsEvent(manifest.QueueJobs, "not a message"), deadLettering(failing())},
		sample{"archive-logs", "shared-out", scheduleEvent("archive-logs"), want{Done: true}},
		sample{"archive-logs", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"run-archives", "planned", sqsEvent(manifest.QueueArchive, `{"v":1,"tenant":"acme","task":"archive","input":[{"day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z"}]}`), failing()},
		sample{"run-archives", "planned-more", sqsEvent(manifest.QueueArchive, `{"v":1,"tenant":"acme","task":"plan_archive","input":{"until":"2026-01-02T13:00:00Z"}}`), failing()},
		sample{"run-archives", "compared-in-steps", sqsEvent(manifest.QueueArchive, `{"v":1,"tenant":"acme","task":"archive","input":[{"day":"2026-01-02T00:00:00Z","touches":1,"checks":0,"due":"2026-01-02T13:00:00Z","after":"019b7c5b-6400-7000-8000-000000000000"}]}`), failing()},
		sample{"run-archives", "deleted-tenant", sqsEvent(manifest.QueueArchive, `{"v":1,"tenant":"gone","job":"`+archiveJob+`","generation":0}`), failing()},
		sample{"run-archives", "stale", sqsEvent(manifest.QueueArchive, `{"v":1,"tenant":"gone","job":"`+archiveJob+`","generation":7}`), failing()},
		sample{"run-archives", "one-is-unreadable", sqsEvent(manifest.QueueArchive, "not a message"), deadLettering(failing())},
		sample{"place-tenants", "placed", scheduleEvent("place-tenants"), want{Done: true}},
		sample{"place-tenants", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"plan-jobs", "planned", scheduleEvent("plan-jobs"), want{Done: true}},
		sample{"plan-jobs", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"prepare-partitions", "prepared", scheduleEvent("prepare-partitions"), want{Done: true}},
		sample{"prepare-partitions", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"reconcile-index", "reconciled", scheduleEvent("reconcile-index"), want{Done: true}},
		sample{"reconcile-index", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"replay-erasures", "replayed", scheduleEvent("replay-erasures"), want{Done: true}},
		sample{"replay-erasures", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"retain-logs", "retained", scheduleEvent("retain-logs"), want{Done: true}},
		sample{"retain-logs", "not-a-schedule", otherEvent(), want{Error: "the event is not from a schedule"}},
		sample{"rotate-cursor-key", "created", rotationEvent(rotation.StepCreate), want{Done: true}},
		sample{"rotate-cursor-key", "unknown-step", rotationEvent("deleteSecret"), want{Error: "the step is none of a rotation's"}},
		sample{"authorize-request", "allowed", authorizerEvent(t, "create-log", "acme", "ApiKey "+keySecret), want{Effect: "Allow"}},
		sample{"authorize-request", "without-the-permission", authorizerEvent(t, "list-logs", "acme", "ApiKey "+keySecret), want{Effect: "Deny"}},
		sample{"authorize-request", "without-a-tenant", authorizerEvent(t, "create-log", "", "ApiKey "+keySecret), want{Effect: "Allow"}},
		sample{"authorize-request", "unknown-key", authorizerEvent(t, "create-log", "acme", "ApiKey ocelot_unknown"), want{Error: "Unauthorized"}},
	)
}

// text is a file's JSON.
func text(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
