package localcloud_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/importers"
)

// cloudTrailRecord returns a record in the form that CloudTrail writes.
func cloudTrailRecord(n int) string {
	return fmt.Sprintf(`{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDA%d","arn":"arn:aws:iam::111122223333:user/bert-jan-%d","accountId":"111122223333","accessKeyId":"AKIA%d"},
		"eventTime":"2023-07-10T11:%02d:%02dZ","eventSource":"ec2.amazonaws.com","eventName":"%s","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.%d","userAgent":"aws-cli/2.9",
		"requestParameters":{"instancesSet":{"items":[{"instanceId":"i-%017d"}]},"nothing":null,"size":1.50,"big":12345678901234567890},"responseElements":null,"requestID":"r-%d","eventID":"e-%d","readOnly":true,"eventType":"AwsApiCall"}`,
		n, n%7, n, n/60%60, n%60, []string{"DescribeInstances", "StartInstances", "TerminateInstances"}[n%3], n%250, n, n, n)
}

func TestEndToEndLambdaFindsCloudTrailRecords(t *testing.T) {
	admin := startLambda(t, t.TempDir()).tenantAdmin("acme")
	const n = 120
	records := map[string]string{} // by event id, as they must come back
	var entries []string
	for i := range n {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(cloudTrailRecord(i))); err != nil {
			t.Fatal(err)
		}
		records[fmt.Sprintf("e-%d", i)] = compact.String()
		for _, record := range imported(t, &compact) {
			entries = append(entries, string(record.Entry))
		}
	}
	for range 2 { // the second time changes nothing
		admin.bulk(entries)
	}
	admin.eventually(n)
	for _, item := range admin.list(url.Values{"limit": {"1000"}}).Items {
		var metadata struct{ EventID string }
		if err := json.Unmarshal(item["metadata"], &metadata); err != nil {
			t.Fatal(err)
		}
		if string(item["metadata"]) != records[metadata.EventID] {
			t.Errorf("event %s: got %s, want %s", metadata.EventID, item["metadata"], records[metadata.EventID])
		}
		delete(records, metadata.EventID)
	}
	if len(records) > 0 {
		t.Errorf("%d records are not in the list, want all of them", len(records))
	}
	for _, query := range []url.Values{
		{"q": {"action:StartInstances metadata.awsRegion:us-east-1"}}, {"action": {"StartInstances"}, "resource_type": {"ec2"}},
	} {
		if got := len(admin.list(query).Items); got != n/3 {
			t.Errorf("%v: got %d records, want %d", query, got, n/3)
		}
	}
}

// cloudTrailFiles matches real log files in a folder beside the repository.
const cloudTrailFiles = "../../../../shared/data/cloudtrail/*.json"

// The test sends real CloudTrail files twice through every kind of service. Every record must come
// back once. Some have a token, which the tenant keeps.
func TestEndToEndCloudTrailFiles(t *testing.T) {
	files, err := filepath.Glob(cloudTrailFiles)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("wants CloudTrail log files in the folder ../shared/data/cloudtrail beside the repository")
	}
	var records, entries []string
	for _, file := range files {
		for _, record := range recordsOf(t, file) {
			entries = append(entries, string(record.Entry))
			records = append(records, string(record.Original))
		}
	}
	slices.Sort(records)
	everyWay(t, func(t *testing.T, start starter) {
		admin := start(t, t.TempDir()).tenantAdmin("acme")
		admin.configure(`{"remove_secrets":false}`)
		for range 2 {
			for chunk := range slices.Chunk(entries, 200) {
				admin.bulk(chunk)
			}
		}
		admin.eventually(len(records) + 1) // and the change of the settings
		var got []string
		for query := (url.Values{"limit": {"300"}}); ; {
			page := admin.list(query)
			for _, item := range page.Items {
				if string(item["submitted_by"]) != `"service"` {
					got = append(got, string(item["metadata"]))
				}
			}
			if page.Next == nil {
				break
			}
			query.Set("cursor", *page.Next)
		}
		slices.Sort(got)
		if !slices.Equal(got, records) {
			t.Errorf("got %d records, want the %d that were sent, unchanged", len(got), len(records))
		}
	})
}

func recordsOf(t *testing.T, file string) []importers.Record {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return imported(t, f)
}

func imported(t *testing.T, text io.Reader) (found []importers.Record) {
	t.Helper()
	for record, err := range importers.Read(text, importers.CloudTrail) {
		if err != nil {
			t.Fatal(err)
		}
		if record.Err != nil {
			t.Fatal(record.Err)
		}
		found = append(found, record)
	}
	return found
}
