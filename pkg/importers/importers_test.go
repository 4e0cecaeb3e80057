package importers_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/importers"
)

// read returns every record of a text, and the error that ends it.
func read(text string, format importers.Format) (records []importers.Record, err error) {
	for record, err := range importers.Read(strings.NewReader(text), format) {
		if err != nil {
			return records, fmt.Errorf("%s: %w", record.Place(), err)
		}
		records = append(records, record)
	}
	return records, nil
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// membersOf returns the members of an entry's JSON text.
func membersOf(t *testing.T, entry []byte) map[string]string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(entry, &members); err != nil {
		t.Fatalf("read the entry %s: %v", entry, err)
	}
	texts := map[string]string{}
	for name, value := range members {
		texts[name] = string(value)
	}
	return texts
}

// one returns the members of the only entry of a text.
func one(t *testing.T, text string, format importers.Format) map[string]string {
	t.Helper()
	records, err := read(text, format)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 {
		t.Fatalf("got %d records, want 1", len(records))
	}
	if records[0].Err != nil {
		t.Fatal(records[0].Err)
	}
	return membersOf(t, records[0].Entry)
}

// samples has a record of each format, as its own documentation describes them, and the entry.
var samples = []struct {
	format importers.Format
	record string
	want   map[string]string
}{
	{importers.CloudTrail, `{"eventVersion":"1.09","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:deploy",
 "arn":"arn:aws:sts::111122223333:assumed-role/ci/deploy","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE"},
 "eventTime":"2026-03-01T10:20:30Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-central-1",
 "sourceIPAddress":"203.0.113.7","userAgent":"[aws-cli/2.15]","errorCode":"AccessDenied","errorMessage":"User is not \"authorized\"",
 "requestParameters":{"bucketName":"reports","key":"2026/q1.pdf","size":12345678901234567890,"ratio":1.50},"responseElements":null,
 "resources":[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::reports/2026/q1.pdf"},{"accountId":"111122223333","type":"AWS::S3::Bucket"}],
 "requestID":"REQ1","eventID":"0f6a5f0e-1111-4222-8333-abcdefabcdef"}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:30Z"`, "idempotency_key": `"0f6a5f0e-1111-4222-8333-abcdefabcdef"`, "action": `"GetObject"`,
		"user_id": `"arn:aws:sts::111122223333:assumed-role/ci/deploy"`, "session_id": `"ASIAEXAMPLE"`, "request_id": `"REQ1"`,
		"resource_type": `"AWS::S3::Object"`, "resource_id": `"arn:aws:s3:::reports/2026/q1.pdf"`,
		"ip_address": `"203.0.113.7"`, "user_agent": `"[aws-cli/2.15]"`, "severity": `"ERROR"`,
		"message": `"GetObject on s3 by arn:aws:sts::111122223333:assumed-role/ci/deploy failed with AccessDenied: User is not \"authorized\""`,
	}},
	{importers.CloudTrail, `{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/ada",
 "accountId":"111122223333","userName":"ada"},"eventTime":"2026-03-01T10:20:31Z","eventSource":"signin.amazonaws.com","eventName":"ConsoleLogin",
 "sourceIPAddress":"203.0.113.7","errorMessage":"Failed authentication","requestParameters":null,"responseElements":{"ConsoleLogin":"Failure"},
 "eventID":"e2"}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:31Z"`, "idempotency_key": `"e2"`, "action": `"ConsoleLogin"`, "user_id": `"arn:aws:iam::111122223333:user/ada"`,
		"resource_type": `"signin"`, "ip_address": `"203.0.113.7"`, "severity": `"ERROR"`,
		"message": `"ConsoleLogin on signin by arn:aws:iam::111122223333:user/ada: Failed authentication"`,
	}},
	{importers.CloudTrail, `{"eventVersion":"1.11","userIdentity":{"type":"IdentityCenterUser","accountId":"111122223333","credentialId":"c1",
 "onBehalfOf":{"userId":"94482488-3041-7001-0000-000000000007","identityStoreArn":"arn:aws:identitystore::111122223333:identitystore/d-1"}},
 "eventTime":"2026-03-01T10:20:32Z","eventSource":"sso.amazonaws.com","eventName":"Federate","responseElements":{"ConsoleLogin":"Success"},"eventID":"e3"}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:32Z"`, "idempotency_key": `"e3"`, "action": `"Federate"`, "user_id": `"94482488-3041-7001-0000-000000000007"`,
		"resource_type": `"sso"`, "severity": `"INFO"`, "message": `"Federate on sso by 94482488-3041-7001-0000-000000000007"`,
	}},
	{importers.CloudTrail, `{"eventVersion":"1.09","eventTime":"2026-03-01T10:21:00Z","awsRegion":"eu-central-1","eventID":"e1","eventType":"AwsCloudTrailInsight",
 "recipientAccountId":"111122223333","sharedEventID":"s1","insightDetails":{"state":"Start","eventSource":"ssm.amazonaws.com","eventName":"GetParameter",
 "insightType":"ApiCallRateInsight","insightContext":{"statistics":{"baseline":{"average":0.02},"insight":{"average":61.5}}}},"eventCategory":"Insight"}`, map[string]string{
		"timestamp": `"2026-03-01T10:21:00Z"`, "idempotency_key": `"e1"`, "action": `"ApiCallRateInsight"`, "user_id": `"cloudtrail.amazonaws.com"`,
		"session_id": `"s1"`, "resource_type": `"ssm"`, "resource_id": `"GetParameter"`, "severity": `"WARNING"`,
		"message": `"Start of ApiCallRateInsight about GetParameter of ssm"`,
	}},
	{importers.GitHub, `{"@timestamp":1772360430123,"_document_id":"dOc1","action":"repo.add_member","actor":"ada","actor_id":4711,
 "actor_ip":"198.51.100.4","user_agent":"Mozilla/5.0","actor_session":31,"created_at":1772360430124,"org":"engines","org_id":9,
 "repo":"engines/loom","repo_id":5,"user":"bert","user_id":77,"request_id":"A1B2","operation_type":"create","events":["push"],
 "actor_location":{"country_code":"NL"},"visibility":"private"}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:30.123Z"`, "idempotency_key": `"dOc1"`, "action": `"repo.add_member"`, "user_id": `"ada"`,
		"session_id": `"31"`, "request_id": `"A1B2"`, "resource_type": `"repo"`, "resource_id": `"engines/loom"`,
		"ip_address": `"198.51.100.4"`, "user_agent": `"Mozilla/5.0"`, "severity": `"INFO"`,
		"message": `"repo.add_member on engines/loom by ada"`,
	}},
	{importers.Okta, `{"uuid":"0e1f-22","published":"2026-03-01T10:20:30.123Z","eventType":"user.session.start","version":"0",
 "severity":"WARN","displayMessage":"User login to Okta","legacyEventType":"core.user_auth.login_failed",
 "actor":{"id":"00u1","type":"User","alternateId":"ada@example.org","displayName":"Ada"},
 "client":{"userAgent":{"rawUserAgent":"Mozilla/5.0","os":"Linux","browser":"FIREFOX"},"ipAddress":"198.51.100.4","device":"Computer"},
 "outcome":{"result":"FAILURE","reason":"INVALID_CREDENTIALS"},"target":[{"id":"0oa9","type":"AppInstance","alternateId":"Payroll"}],
 "transaction":{"type":"WEB","id":"tx1","detail":{}},"authenticationContext":{"externalSessionId":"unknown","authenticationStep":0}}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:30.123Z"`, "idempotency_key": `"0e1f-22"`, "action": `"user.session.start"`,
		"user_id": `"ada@example.org"`, "request_id": `"tx1"`, "resource_type": `"AppInstance"`, "resource_id": `"0oa9"`,
		"ip_address": `"198.51.100.4"`, "user_agent": `"Mozilla/5.0"`, "severity": `"ERROR"`,
		"message": `"User login to Okta on Payroll by ada@example.org failed with FAILURE: INVALID_CREDENTIALS"`,
	}},
	{importers.GCP, `{"insertId":"9z8y","logName":"projects/p1/logs/cloudaudit.googleapis.com%2Factivity","timestamp":"2026-03-01T10:20:30.123456789Z",
 "receiveTimestamp":"2026-03-01T10:20:31Z","severity":"NOTICE","operation":{"id":"op-1","producer":"storage.googleapis.com","first":true},
 "resource":{"type":"gcs_bucket","labels":{"bucket_name":"reports"}},
 "protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","serviceName":"storage.googleapis.com","methodName":"storage.buckets.delete",
  "resourceName":"projects/_/buckets/reports","authenticationInfo":{"principalEmail":"ada@example.org"},
  "requestMetadata":{"callerIp":"198.51.100.4","callerSuppliedUserAgent":"gsutil/5"},"status":{"code":7,"message":"no"}}}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:30.123456789Z"`, "idempotency_key": `"projects/p1/logs/cloudaudit.googleapis.com%2Factivity/9z8y"`,
		"action": `"storage.buckets.delete"`, "user_id": `"ada@example.org"`, "request_id": `"op-1"`, "resource_type": `"gcs_bucket"`,
		"resource_id": `"projects/_/buckets/reports"`, "ip_address": `"198.51.100.4"`, "user_agent": `"gsutil/5"`, "severity": `"ERROR"`,
		"message": `"storage.buckets.delete on storage by ada@example.org failed with 7: no"`,
	}},
	{importers.Kubernetes, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a1-b2","stage":"ResponseComplete",
 "requestURI":"/api/v1/namespaces/shop/pods/web-1/exec?command=sh","verb":"create","user":{"username":"ada","groups":["dev","system:authenticated"]},
 "impersonatedUser":{"username":"bert"},"sourceIPs":["198.51.100.4","10.0.0.1"],"userAgent":"kubectl/v1.31",
 "objectRef":{"resource":"pods","namespace":"shop","name":"web-1","apiVersion":"v1","subresource":"exec"},
 "responseStatus":{"metadata":{},"status":"Failure","message":"no","reason":"Forbidden","code":403},
 "requestReceivedTimestamp":"2026-03-01T10:20:30.123456Z","stageTimestamp":"2026-03-01T10:20:31.000000Z"}`, map[string]string{
		"timestamp": `"2026-03-01T10:20:30.123456Z"`, "idempotency_key": `"a1-b2/ResponseComplete"`, "action": `"create"`, "user_id": `"ada"`,
		"request_id": `"a1-b2"`, "resource_type": `"pods/exec"`, "resource_id": `"shop/web-1"`, "ip_address": `"198.51.100.4"`,
		"user_agent": `"kubectl/v1.31"`, "severity": `"ERROR"`,
		"message": `"create on pods/exec shop/web-1 by ada failed with 403 Forbidden: no (ResponseComplete)"`,
	}},
}

func TestEntryOfAWholeRecord(t *testing.T) {
	for _, c := range samples {
		for _, format := range []importers.Format{importers.Auto, c.format} {
			t.Run(string(c.format)+" as "+string(format), func(t *testing.T) {
				record := compact(t, c.record)
				got := one(t, record, format)
				if got["metadata"] != record {
					t.Errorf("got metadata %s, want %s", got["metadata"], record)
				}
				delete(got, "metadata")
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("entry (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A format is recognized by content only, so each record must be of one format.
func TestEveryLayoutOfEveryFormat(t *testing.T) {
	for _, c := range samples {
		record := compact(t, c.record)
		for name, text := range map[string]string{
			"line": record + "\n", "lines": record + "\n\n" + record + "\r\n", "array": "[" + record + "," + record + "]",
			"pretty": c.record, "pretty array": "[\n" + c.record + ",\n " + c.record + "\n]", "joined": record + record,
			"pretty documents": c.record + "\n" + c.record,
		} {
			t.Run(string(c.format)+" "+name, func(t *testing.T) {
				records, err := read(text, importers.Auto)
				if err != nil {
					t.Fatal(err)
				}
				want := 1
				if strings.Count(text, "\"verb\"")+strings.Count(text, "\"eventTime\"")+strings.Count(text, "\"published\"")+
					strings.Count(text, "\"_document_id\"")+strings.Count(text, "\"insertId\"") == 2 {
					want = 2
				}
				if len(records) != want {
					t.Fatalf("got %d records, want %d", len(records), want)
				}
				for _, r := range records {
					if got := membersOf(t, r.Entry)["metadata"]; got != record {
						t.Errorf("got metadata %s, want %s", got, record)
					}
				}
			})
		}
	}
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each wrapper carries two records, and what else there is.
func TestWrappers(t *testing.T) {
	record := func(i int) string { return compact(t, samples[i].record) }
	ct, k8s, okta, gcp := record(0), record(4), record(2), record(3)
	subscription := `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logEvents":[{"id":"1","timestamp":1,"message":` + quoted(t, ct) +
		`},{"id":"2","timestamp":2,"message":` + quoted(t, ct) + `}]}`
	lookup := func(record string) string {
		return `{"EventId":"e","EventName":"N","EventTime":"2026-03-01T11:20:30+01:00","Resources":[],"CloudTrailEvent":` + quoted(t, record) + `}`
	}
	for _, c := range []struct{ name, text, record string }{
		{"log file", `{"x":{"Records":[1]},"Records":[` + ct + "," + ct + `],"y":2}`, ct},
		{"pretty log file", "{\n \"Records\": [\n" + samples[0].record + "\n,\n" + samples[0].record + "\n]\n}", ct},
		{"lookup-events", "{\n\"Events\":[" + lookup(ct) + "," + lookup(samples[0].record) + "],\n\"NextToken\":\"n\"}", ct},
		{"array of lookup-events", "[" + lookup(ct) + "," + lookup(ct) + "]", ct},
		{"EventBridge", `{"version":"0","id":"i","detail-type":"AWS API Call via CloudTrail","source":"aws.s3","detail":` + ct + "}\n" +
			`{"version":"0","id":"j","detail-type":"AWS API Call via CloudTrail","source":"aws.s3","resources":[],"detail":` + ct + "}\n", ct},
		{"subscription", subscription, ct},
		{"subscription of Lambda", `{"awslogs":{"data":"` + base64.StdEncoding.EncodeToString([]byte(importers.PackGzip(t, subscription))) + `"}}`, ct},
		{"filter-log-events", `{"events":[{"timestamp":1,"message":` + quoted(t, ct) + `},{"timestamp":1,"message":` + quoted(t, ct) + `}]}`, ct},
		{"EventList", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + k8s + "," + k8s + "]}", k8s},
		{"event hook", `{"eventType":"com.okta.event_hook","eventTypeVersion":"1.0","data":{"events":[` + okta + "," + okta + "]}}", okta},
		{"entries.list", `{"entries":[` + gcp + "," + gcp + `],"nextPageToken":"n"}`, gcp},
	} {
		t.Run(c.name, func(t *testing.T) {
			records, err := read(c.text, importers.Auto)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) != 2 {
				t.Fatalf("got %d records, want 2", len(records))
			}
			for _, r := range records {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				if got := membersOf(t, r.Entry)["metadata"]; got != c.record {
					t.Errorf("got metadata %s, want %s", got, c.record)
				}
			}
		})
	}
}

func TestWhatHasNoEventIsPassedOver(t *testing.T) {
	for name, text := range map[string]string{
		"digest":          `{"awsAccountId":"1","digestStartTime":"2026-03-01T10:00:00Z","digestEndTime":"2026-03-01T11:00:00Z","logFiles":[]}`,
		"control message": `{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}`,
	} {
		records, err := read(text, importers.Auto)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 1 {
			t.Fatalf("%s: got %d records, want 1", name, len(records))
		}
		if records[0].Note == "" {
			t.Errorf("%s: got record %+v, want one with a note", name, records[0])
		}
	}
}

func TestEntryOfOddRecords(t *testing.T) {
	long := strings.Repeat("é", 700)
	at := `"eventTime":"2026-01-01T00:00:00Z"`
	call := at + `,"eventName":"A"`
	for _, c := range []struct {
		name   string
		format importers.Format
		record string
		want   map[string]string // "" means: not there
	}{
		{"nearly empty", importers.CloudTrail, `{` + at + `,"eventName":"","eventSource":""}`, map[string]string{
			"action": `"unknown"`, "user_id": `"unknown"`, "session_id": "", "request_id": "", "resource_type": `"aws"`, "idempotency_key": "",
			"resource_id": "", "ip_address": "", "user_agent": "", "severity": `"INFO"`, "message": `"An event on aws by unknown"`,
		}},
		{"wrong types", importers.CloudTrail, `{"eventTime":17,"eventID":{},"eventName":["x"],"eventSource":1,"userIdentity":"root","resources":{"a":1},"requestParameters":[1],"errorCode":null}`,
			map[string]string{"timestamp": "17", "action": `"unknown"`, "user_id": `"unknown"`, "resource_id": "", "severity": `"INFO"`}},
		{"a service acts", importers.CloudTrail, `{` + call + `,"userIdentity":{"type":"AWSService","invokedBy":"ec2.amazonaws.com"},"sourceIPAddress":"ec2.amazonaws.com"}`,
			map[string]string{"user_id": `"ec2.amazonaws.com"`, "ip_address": ""}},
		{"IPv6 with a zone", importers.CloudTrail, `{` + call + `,"sourceIPAddress":"fe80::1%eth0"}`, map[string]string{"ip_address": ""}},
		{"IPv6", importers.CloudTrail, `{` + call + `,"sourceIPAddress":"2001:DB8::1"}`, map[string]string{"ip_address": `"2001:DB8::1"`}},
		{"action with odd characters", importers.CloudTrail, `{` + at + `,"eventName":"Ünder score(1)"}`, map[string]string{"action": `"event._nder_score_1_"`}},
		{"action with a digit first", importers.CloudTrail, `{` + at + `,"eventName":"2FA"}`, map[string]string{"action": `"event.2FA"`}},
		{"bucket and key", importers.CloudTrail, `{` + call + `,"requestParameters":{"bucketName":"b","key":"k/1"}}`, map[string]string{"resource_id": `"b/k/1"`}},
		{"named parameter", importers.CloudTrail, `{` + call + `,"requestParameters":{"zzz":"1","userName":"ada"}}`, map[string]string{"resource_id": `"ada"`}},
		{"likely name", importers.CloudTrail, `{` + call + `,"requestParameters":{"mode":"x","widgetId":"w","gadgetId":"g"}}`, map[string]string{"resource_id": `"g"`}},
		{"resource without a type", importers.CloudTrail, `{` + call + `,"eventSource":"kms.amazonaws.com","resources":[{"ARN":"arn:k"}]}`,
			map[string]string{"resource_type": `"kms"`, "resource_id": `"arn:k"`}},
		{"long texts", importers.CloudTrail, `{` + call + `,"userIdentity":{"arn":"` + long + `"},"userAgent":"` + long + `","requestID":"` + long + `","resources":[{"ARN":"` + long + `"}]}`,
			map[string]string{"user_id": `"` + long[:256] + `"`, "user_agent": "", "request_id": "", "resource_id": `"` + long[:512] + `"`}},
		{"error without a reason", importers.CloudTrail, `{` + at + `,"eventName":"A","eventSource":"b.amazonaws.com","errorCode":"C"}`,
			map[string]string{"message": `"A on b by unknown failed with C"`, "severity": `"ERROR"`}},
		{"no actor", importers.GitHub, `{"created_at":1772360430123,"actor":null,"actor_id":7,"action":"git.clone","repository":"a/b"}`,
			map[string]string{"timestamp": `"2026-03-01T10:20:30.123Z"`, "user_id": `"7"`, "resource_type": `"git"`, "resource_id": `"a/b"`, "ip_address": "", "user_agent": ""}},
		{"time in seconds", importers.GitHub, `{"@timestamp":1772360430,"actor":"a","action":"team.create","team":"t","repo":"x"}`,
			map[string]string{"timestamp": `"2026-03-01T10:20:30.000Z"`, "resource_id": `"t"`}},
		{"unknown actor", importers.Okta, `{"uuid":"u","published":"2026-01-01T00:00:00Z","eventType":"e","severity":"DEBUG","actor":{"alternateId":"unknown","id":"00u"},"outcome":{"result":"SUCCESS"}}`,
			map[string]string{"user_id": `"00u"`, "severity": `"INFO"`, "resource_type": `"okta"`, "message": `"e on okta by 00u"`}},
		{"internal address", importers.GCP, `{"timestamp":"2026-01-01T00:00:00Z","severity":"ALERT","protoPayload":{"methodName":"m","serviceName":"s.googleapis.com","requestMetadata":{"callerIp":"gce-internal-ip"},"status":{"code":0}}}`,
			map[string]string{"ip_address": "", "severity": `"CRITICAL"`, "resource_type": `"s"`, "message": `"m on s by unknown"`, "idempotency_key": ""}},
		{"no object", importers.Kubernetes, `{"auditID":"a","stage":"Panic","verb":"get","requestURI":"/healthz","stageTimestamp":"2026-01-01T00:00:00Z","user":{"username":"u"}}`,
			map[string]string{"timestamp": `"2026-01-01T00:00:00Z"`, "resource_type": `"url"`, "resource_id": `"/healthz"`, "severity": `"CRITICAL"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := one(t, c.record, c.format)
			for name, want := range c.want {
				if got[name] != want {
					t.Errorf("%s is %s, want %s", name, got[name], want)
				}
			}
			if got["metadata"] != c.record {
				t.Errorf("got metadata %s, want %s", got["metadata"], c.record)
			}
		})
	}
}

func TestRecordsThatCannotBecomeEntries(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`null`, "no JSON object"}, {`"x"`, "no JSON object"}, {`12`, "no JSON object"}, {`{"eventName":"A"}`, "when it happened"},
		{`{"eventTime":null}`, "when it happened"}, {`{"a":NaN}`, "not JSON"}, {`{"CloudTrailEvent":"[]"}`, "CloudTrailEvent is not one JSON object"},
		{`{"awslogs":{"data":"*"}}`, "awslogs.data"}, {strings.Repeat("[", 12) + strings.Repeat("]", 12), "wrapped more than 8 times"},
	} {
		records, err := read(c.text+"\n", importers.CloudTrail)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 1 {
			t.Fatalf("%s: got %d records, want 1", c.text, len(records))
		}
		if records[0].Err == nil {
			t.Errorf("%s: got no error, want one", c.text)
		} else if !strings.Contains(records[0].Err.Error(), c.want) {
			t.Errorf("%s: got error %v, want it to contain %q", c.text, records[0].Err, c.want)
		}
	}
}

// Entries of Ocelot come as they are, whatever the layout.
// A record of another format is not stored as an unknown action.
func TestAFormatRejectsRecordsOfOthers(t *testing.T) {
	for _, sample := range samples {
		for _, format := range []importers.Format{importers.CloudTrail, importers.GitHub, importers.Okta, importers.GCP, importers.Kubernetes} {
			records, err := read(compact(t, sample.record), format)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if format == sample.format && r.Err != nil {
					t.Errorf("%s as %s: got error %v, want none", sample.format, format, r.Err)
				}
				if format != sample.format && (r.Err == nil || !strings.Contains(r.Err.Error(), "is no record of "+string(format))) {
					t.Errorf("%s as %s: got error %v, want one that it is no record of %s", sample.format, format, r.Err, format)
				}
			}
		}
	}
	records, err := read(`{"timestamp":"2026-01-01T00:00:00Z","textPayload":"started"}`, importers.GCP)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(records[0].Err); !strings.Contains(got, "is no record of gcp: it names no action") {
		t.Errorf("got error %q, want one that it is no record of gcp", got)
	}
}

func TestEntriesAndTheirPlaces(t *testing.T) {
	const a, b = `{"action":"A","events":[{"x":1}]}`, `{"action":"B","n":1.50}`
	for _, c := range []struct {
		name   string
		format importers.Format
		text   string
		want   []string // "place entry"
		err    string
	}{
		{"lines", importers.Auto, a + "\r\n\n  " + b, []string{"1 " + a, "3 " + b}, ""},
		{"lines with marks", importers.Auto, "\ufeff" + a + "\n\ufeff" + b + "\n", []string{"1 " + a, "2 " + b}, ""},
		{"array on a line", importers.Auto, "[" + a + "," + b + "]", []string{"1: record 1 " + a, "1: record 2 " + b}, ""},
		{"array over lines", importers.JSON, "\n[\n" + a + ",\n\n{\n\"action\" : \"B\", \"n\": 1.50}\n]\n",
			[]string{"3: record 1 " + a, "5: record 2 " + b}, ""},
		{"faulty line", importers.Auto, a + "\nnot json\n" + b, []string{"1 " + a, "2 not json", "3 " + b}, ""},
		{"faulty first line", importers.Auto, "not json\n" + b, []string{"1 not json", "2 " + b}, ""},
		{"first line cut off", importers.Auto, `{"action":"A"` + "\n" + b, []string{`1 {"action":"A"`, "2 " + b}, ""},
		{"scalar", importers.Auto, "7", []string{"1 7"}, ""},
		{"records of others are entries", importers.NDJSON, `{"Records":[1]}` + "\n[]", []string{`1 {"Records":[1]}`, "2 []"}, ""},
		{"no wrapper in JSON", importers.JSON, "{\n\"Records\":[\n{}]}", []string{`1: record 1 {"Records":[{}]}`}, ""},
		{"nothing", importers.Auto, "", nil, ""},
		{"blank", importers.Auto, " \n\n", nil, ""},
		{"empty list", importers.Auto, `{"Records":[]}`, nil, ""},
		{"cut off", importers.Auto, "[\n" + a + ",\n{\"b\":", []string{"2: record 1 " + a}, "ends in the middle"},
		{"cut off after a record", importers.Auto, "[\n" + a, []string{"2: record 1 " + a}, "ends in the middle"},
		{"not a number", importers.Auto, "[\n" + a + ",\n{\"b\":NaN}," + b + "]", []string{"2: record 1 " + a}, "3: record 2: the rest of the file is skipped: not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			records, err := read(c.text, c.format)
			var got []string
			for _, r := range records {
				got = append(got, r.Place()+" "+string(r.Entry))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if (err == nil) != (c.err == "") {
				t.Errorf("got error %v, want %q", err, c.err)
			} else if err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got error %v, want it to contain %q", err, c.err)
			}
		})
	}
}

// A slow input is not waited for: what a line has is read before the next one comes.
func TestALineIsReadBeforeTheNextComes(t *testing.T) {
	r, w := io.Pipe()
	defer func() { _ = r.Close() }()
	go func() { _, _ = io.WriteString(w, "{\"action\":\"A\"}\n") }()
	got := make(chan string, 1)
	go func() {
		text, err := importers.NewText(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer text.Close()
		for record, err := range importers.Read(text, importers.Auto) {
			if err != nil {
				t.Error(err)
			}
			got <- string(record.Entry)
			return
		}
	}()
	select {
	case entry := <-got:
		if entry != `{"action":"A"}` {
			t.Errorf("got %s, want the line", entry)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("got nothing within 20 s, want the line")
	}
}

// Whatever texts a record has, its entry keeps the limits of an entry and the record as it is.
func TestEntryHoldsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sample := rapid.SampledFrom(samples).Draw(t, "sample")
		var value any
		if err := json.Unmarshal([]byte(sample.record), &value); err != nil {
			t.Fatal(err)
		}
		record, err := json.Marshal(scrambled(t, value, true))
		if err != nil {
			t.Fatal(err)
		}
		records, err := read(string(record), sample.format)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) != 1 || records[0].Err != nil {
			return // the time or a wrapper
		}
		checkLimits(t, records[0].Entry, record)
	})
}

// scrambled replaces some strings of a value by long and odd ones.
func scrambled(t *rapid.T, value any, top bool) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if !top || !strings.Contains(strings.ToLower(name), "time") && name != "published" {
				v[name] = scrambled(t, member, false)
			}
		}
	case []any:
		for i := range v {
			v[i] = scrambled(t, v[i], false)
		}
	case string:
		if rapid.Bool().Draw(t, "scramble") {
			return strings.Repeat(rapid.String().Draw(t, "text"), rapid.IntRange(1, 200).Draw(t, "times"))
		}
	}
	return value
}

func checkLimits(t *rapid.T, text, record []byte) {
	var e struct {
		UserID         string          `json:"user_id"`
		SessionID      string          `json:"session_id"`
		RequestID      string          `json:"request_id"`
		Action         string          `json:"action"`
		ResourceType   string          `json:"resource_type"`
		ResourceID     string          `json:"resource_id"`
		UserAgent      string          `json:"user_agent"`
		Message        string          `json:"message"`
		IdempotencyKey string          `json:"idempotency_key"`
		Metadata       json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatalf("read the entry %s: %v", text, err)
	}
	entry := audit.Entry{
		UserID: e.UserID, SessionID: e.SessionID, RequestID: e.RequestID, Action: e.Action, ResourceType: e.ResourceType,
		ResourceID: e.ResourceID, UserAgent: e.UserAgent, Message: e.Message, IdempotencyKey: e.IdempotencyKey, Timestamp: time.Unix(1, 0),
	}
	if faults := entry.Validate(time.Unix(1, 0)); faults != nil {
		t.Fatalf("got faults %v in %s, want none", faults, text)
	}
	if !bytes.Equal(e.Metadata, record) {
		t.Fatalf("got metadata %s, want %s", e.Metadata, record)
	}
}

// Files that nobody of this project wrote.
func TestRealLogs(t *testing.T) {
	files, err := filepath.Glob("../../../shared/data/cloudtrail/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("wants CloudTrail log files (*.json) in the folder ../shared/data/cloudtrail beside the repository")
	}
	keys := map[string]bool{}
	total := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var log struct{ Records []json.RawMessage }
		if err := json.Unmarshal(text, &log); err != nil {
			t.Fatal(err)
		}
		got, err := read(string(text), importers.Auto)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(log.Records) {
			t.Fatalf("%s: got %d records, want %d", file, len(got), len(log.Records))
		}
		total += len(got)
		for i, record := range got {
			entry := membersOf(t, record.Entry)
			if got, want := compact(t, entry["metadata"]), compact(t, string(log.Records[i])); got != want {
				t.Errorf("%s record %d: got metadata %s, want %s", file, i+1, got, want)
			}
			keys[entry["idempotency_key"]] = true
			for _, name := range []string{"timestamp", "action", "user_id", "resource_type", "message", "severity"} {
				if entry[name] == "" {
					t.Errorf("%s record %d has no %s, want one", file, i+1, name)
				}
			}
		}
	}
	if len(keys) != total {
		t.Errorf("%d records have %d keys, want one each", total, len(keys))
	}
}
