package cloudtrail_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cloudtrail"
)

const getObject = `{"eventVersion":"1.09","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:deploy",
 "arn":"arn:aws:sts::111122223333:assumed-role/ci/deploy","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE"},
 "eventTime":"2026-03-01T10:20:30Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-central-1",
 "sourceIPAddress":"203.0.113.7","userAgent":"[aws-cli/2.15]","errorCode":"AccessDenied","errorMessage":"User is not \"authorized\"",
 "requestParameters":{"bucketName":"reports","key":"2026/q1.pdf","size":12345678901234567890,"ratio":1.50},"responseElements":null,
 "resources":[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::reports/2026/q1.pdf"},{"accountId":"111122223333","type":"AWS::S3::Bucket"}],
 "requestID":"REQ1","eventID":"0f6a5f0e-1111-4222-8333-abcdefabcdef"}`

func compact(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func entryOf(t *testing.T, record []byte) map[string]json.RawMessage {
	t.Helper()
	text, err := cloudtrail.Entry(record)
	if err != nil {
		t.Fatal(err)
	}
	var entry map[string]json.RawMessage
	if err := json.Unmarshal(text, &entry); err != nil {
		t.Fatalf("read the entry %s: %v", text, err)
	}
	return entry
}

func TestEntryOfAWholeRecord(t *testing.T) {
	record := compact(t, getObject)
	got := map[string]string{}
	for name, value := range entryOf(t, record) {
		got[name] = string(value)
	}
	want := map[string]string{
		"timestamp": `"2026-03-01T10:20:30Z"`, "idempotency_key": `"0f6a5f0e-1111-4222-8333-abcdefabcdef"`, "action": `"GetObject"`,
		"user_id": `"arn:aws:sts::111122223333:assumed-role/ci/deploy"`, "session_id": `"ASIAEXAMPLE"`, "request_id": `"REQ1"`,
		"resource_type": `"AWS::S3::Object"`, "resource_id": `"arn:aws:s3:::reports/2026/q1.pdf"`,
		"ip_address": `"203.0.113.7"`, "user_agent": `"[aws-cli/2.15]"`, "severity": `"ERROR"`,
		"message":  `"GetObject on s3 by arn:aws:sts::111122223333:assumed-role/ci/deploy failed with AccessDenied: User is not \"authorized\""`,
		"metadata": string(record),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

func TestEntryOfOddRecords(t *testing.T) {
	long := strings.Repeat("é", 700)
	for _, c := range []struct {
		name, record string
		want         map[string]string // "" means: not there
	}{
		{"empty", `{}`, map[string]string{
			"timestamp": "", "action": `"unknown"`, "user_id": `"unknown"`, "session_id": "", "request_id": "", "resource_type": `"aws"`,
			"resource_id": "", "ip_address": "null", "user_agent": "null", "severity": `"INFO"`, "message": `"An event on aws by unknown"`,
			"idempotency_key": `"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"`,
		}},
		{"wrong types", `{"eventTime":17,"eventID":{},"eventName":["x"],"userIdentity":"root","resources":{"a":1},"requestParameters":[1],"errorCode":null}`,
			map[string]string{"timestamp": "17", "action": `"unknown"`, "user_id": `"unknown"`, "resource_id": "", "severity": `"INFO"`}},
		{"a service acts", `{"userIdentity":{"type":"AWSService","invokedBy":"ec2.amazonaws.com"},"sourceIPAddress":"ec2.amazonaws.com"}`,
			map[string]string{"user_id": `"ec2.amazonaws.com"`, "ip_address": "null"}},
		{"only an account", `{"userIdentity":{"accountId":"1"}}`, map[string]string{"user_id": `"1"`}},
		{"IPv6 with a zone", `{"sourceIPAddress":"fe80::1%eth0"}`, map[string]string{"ip_address": "null"}},
		{"IPv6", `{"sourceIPAddress":"2001:DB8::1"}`, map[string]string{"ip_address": `"2001:DB8::1"`}},
		{"action with odd characters", `{"eventName":"Ünder score(1)"}`, map[string]string{"action": `"event._nder_score_1_"`}},
		{"action with a digit first", `{"eventName":"2FA"}`, map[string]string{"action": `"event.2FA"`}},
		{"bucket and key", `{"requestParameters":{"bucketName":"b","key":"k/1"}}`, map[string]string{"resource_id": `"b/k/1"`}},
		{"named parameter", `{"requestParameters":{"zzz":"1","userName":"ada"}}`, map[string]string{"resource_id": `"ada"`}},
		{"likely name", `{"requestParameters":{"mode":"x","widgetId":"w","gadgetId":"g"}}`, map[string]string{"resource_id": `"g"`}},
		{"resource without a type", `{"eventSource":"kms.amazonaws.com","resources":[{"ARN":"arn:k"}]}`,
			map[string]string{"resource_type": `"kms"`, "resource_id": `"arn:k"`}},
		{"long texts", `{"userIdentity":{"arn":"` + long + `"},"userAgent":"` + long + `","requestID":"` + long + `","resources":[{"ARN":"` + long + `"}]}`,
			map[string]string{"user_id": `"` + long[:256] + `"`, "user_agent": "null", "request_id": "", "resource_id": `"` + long[:512] + `"`}},
		{"error without a reason", `{"eventName":"A","eventSource":"b.amazonaws.com","errorCode":"C"}`,
			map[string]string{"message": `"A on b by unknown failed with C"`, "severity": `"ERROR"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := entryOf(t, []byte(c.record))
			for name, want := range c.want {
				if string(got[name]) != want {
					t.Errorf("%s is %s, want %s", name, got[name], want)
				}
			}
			if string(got["metadata"]) != c.record {
				t.Errorf("got metadata %s, want %s", got["metadata"], c.record)
			}
		})
	}
}

func TestEntryRefusesWhatIsNoObject(t *testing.T) {
	for _, record := range []string{`null`, `[]`, `"x"`, `12`} {
		if text, err := cloudtrail.Entry([]byte(record)); err == nil {
			t.Errorf("%s became %s, want an error", record, text)
		}
	}
}

// Whatever texts a record has, its entry keeps the limits of an entry and the record as it is.
func TestEntryHoldsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string {
			return strings.Repeat(rapid.String().Draw(t, label), rapid.IntRange(1, 200).Draw(t, label+" times"))
		}
		record, err := json.Marshal(map[string]any{
			"eventTime": "2026-01-01T00:00:00Z", "eventName": text("name"), "eventSource": text("source"), "eventID": text("id"),
			"userIdentity": map[string]any{"arn": text("arn"), "accessKeyId": text("key")}, "requestID": text("request"),
			"userAgent": text("agent"), "errorCode": text("code"), "errorMessage": text("reason"),
			"requestParameters": map[string]any{"name": text("resource")}, "sourceIPAddress": text("ip"),
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := cloudtrail.Entry(record)
		if err != nil {
			t.Fatal(err)
		}
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
		if err := json.Unmarshal(out, &e); err != nil {
			t.Fatalf("read the entry %s: %v", out, err)
		}
		entry := audit.Entry{
			UserID: e.UserID, SessionID: e.SessionID, RequestID: e.RequestID, Action: e.Action, ResourceType: e.ResourceType,
			ResourceID: e.ResourceID, UserAgent: e.UserAgent, Message: e.Message, IdempotencyKey: e.IdempotencyKey,
		}
		if faults := entry.Validate(time.Unix(1, 0)); faults != nil {
			for _, f := range faults {
				if f.Pointer != "/timestamp" {
					t.Fatalf("got faults %v in %s, want none but of /timestamp", faults, out)
				}
			}
		}
		if !bytes.Equal(e.Metadata, record) {
			t.Fatalf("got metadata %s, want %s", e.Metadata, record)
		}
	})
}

func records(text string) (found []string, err error) {
	r := cloudtrail.NewReader(strings.NewReader(text))
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found = append(found, string(record))
	}
}

func TestReader(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
		err        string
	}{
		{"records", ` { "Records" : [ {"a": 1.50, "b":[ 1 , 2 ]} , {} ] } `, []string{`{"a":1.50,"b":[1,2]}`, `{}`}, ""},
		{"other members", `{"x":{"Records":[1]},"Records":[{"a":"Records"}],"y":[2]}`, []string{`{"a":"Records"}`}, ""},
		{"none", `{"Records":[]}`, nil, ""},
		{"escapes and duplicates stay", `{"Records":[{"a":"\u00e9\/","a":1e400}]}`, []string{`{"a":"\u00e9\/","a":1e400}`}, ""},
		{"no records", `{"events":[]}`, nil, "not a CloudTrail log file"},
		{"an array", `[{"Records":[]}]`, nil, "not a CloudTrail log file"},
		{"records are no array", `{"Records":{}}`, nil, "not a CloudTrail log file"},
		{"empty", ``, nil, "not a CloudTrail log file"},
		{"no JSON", `hello`, nil, "not JSON"},
		{"not a number", `{"Records":[{"a":1},{"a":NaN},{"a":2}]}`, []string{`{"a":1}`}, "not JSON"},
		{"cut within a record", `{"Records":[{"a":1},{"a":`, []string{`{"a":1}`}, "ends in the middle"},
		{"cut after a record", `{"Records":[{"a":1}`, []string{`{"a":1}`}, "ends in the middle"},
		{"cut after the records", `{"Records":[{"a":1}]`, []string{`{"a":1}`}, "ends in the middle"},
		{"more after the end", `{"Records":[{"a":1}]} {"Records":[]}`, []string{`{"a":1}`}, "something follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := records(c.text)
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

// endless is a record that does not end.
type endless struct{ started bool }

func (e *endless) Read(p []byte) (int, error) {
	if !e.started {
		e.started = true
		return copy(p, `{"Records":[{"a":"`), nil
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestReaderStopsAtARecordThatIsTooLarge(t *testing.T) {
	if _, err := cloudtrail.NewReader(&endless{}).Next(); !errors.Is(err, cloudtrail.ErrRecordTooLarge) {
		t.Errorf("got error %v, want %v", err, cloudtrail.ErrRecordTooLarge)
	}
}

func TestReaderReadsFilesLargerThanARecordMayBe(t *testing.T) {
	record := `{"a":"` + strings.Repeat("x", 1<<20) + `"}`
	got, err := records(`{"Records":[` + strings.Repeat(record+",", 19) + record + `]}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 20 {
		t.Errorf("got %d records, want 20", len(got))
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
		got, err := records(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(log.Records) {
			t.Fatalf("%s: got %d records, want %d", file, len(got), len(log.Records))
		}
		total += len(got)
		for i, record := range got {
			entry := entryOf(t, []byte(record))
			if got, want := entry["metadata"], compact(t, string(log.Records[i])); !bytes.Equal(got, want) {
				t.Errorf("%s record %d: got metadata %s, want %s", file, i+1, got, want)
			}
			keys[string(entry["idempotency_key"])] = true
			for _, name := range []string{"timestamp", "action", "user_id", "resource_type", "message", "severity"} {
				if len(entry[name]) == 0 {
					t.Errorf("%s record %d has no %s, want one", file, i+1, name)
				}
			}
		}
	}
	if len(keys) != total {
		t.Errorf("%d records have %d keys, want one each", total, len(keys))
	}
}
