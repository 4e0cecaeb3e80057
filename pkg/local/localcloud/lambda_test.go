package localcloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cloudtrail"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// cloudTrailRecord is like what CloudTrail writes.
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
		entry, err := cloudtrail.Entry(compact.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		records[fmt.Sprintf("e-%d", i)] = compact.String()
		entries = append(entries, string(entry))
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
			t.Errorf("%s came back as %s", metadata.EventID, item["metadata"])
		}
		delete(records, metadata.EventID)
	}
	if len(records) > 0 {
		t.Errorf("%d records are not in the list", len(records))
	}
	for _, query := range []url.Values{
		{"q": {"action:StartInstances metadata.awsRegion:us-east-1"}}, {"action": {"StartInstances"}, "resource_type": {"ec2"}},
	} {
		if got := len(admin.list(query).Items); got != n/3 {
			t.Errorf("%v finds %d records, want %d", query, got, n/3)
		}
	}
}

// environments are the processes of the functions, from the runner's log.
type environments struct {
	slog.Handler
	mu   sync.Mutex
	pids map[string][]int // by function
}

func (e *environments) Enabled(context.Context, slog.Level) bool { return true }

func (e *environments) Handle(_ context.Context, r slog.Record) error {
	var function string
	var pid int
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "function":
			function = a.Value.String()
		case "pid":
			pid = int(a.Value.Int64())
		}
		return true
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.Message {
	case "environment started":
		e.pids[function] = append(e.pids[function], pid)
	case "environment ended":
		e.pids[function] = slices.DeleteFunc(e.pids[function], func(p int) bool { return p == pid })
	}
	return nil
}

// kill ends the newest process of a function as kill -9 does; false where it has none.
func (e *environments) kill(t *testing.T, function string) bool {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	pids := e.pids[function]
	if len(pids) == 0 {
		return false
	}
	process, err := os.FindProcess(pids[len(pids)-1])
	if err == nil {
		err = process.Kill()
	}
	return err == nil // else it has just ended by itself
}

// endAll ends every process of a function and waits until the runner knows.
func (e *environments) endAll(t *testing.T, function string) {
	t.Helper()
	for patience := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		e.kill(t, function)
		e.mu.Lock()
		left := len(e.pids[function])
		e.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(patience) {
			t.Fatalf("%d processes of %s do not end", left, function)
		}
	}
}

// TestEndToEndLambdaKilledEnvironmentsLoseNothing kills functions in the middle
// of a load. Whatever was acknowledged has to be there, once.
func TestEndToEndLambdaKilledEnvironmentsLoseNothing(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { killedEnvironmentsLoseNothing(t, t.TempDir(), config.Engines{}) })
	t.Run("on servers", func(t *testing.T) {
		data := t.TempDir()
		killedEnvironmentsLoseNothing(t, data, servers(t, data))
	})
}

func killedEnvironmentsLoseNothing(t *testing.T, data string, engines config.Engines) {
	const total, size, clients, kills = 10_000, 50, 4, 16
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	options := localcloud.Options{Data: data, Log: slog.New(processes), Engines: engines, Lambda: lambda(t, engines)}
	s := startWith(t, options)
	admin := s.tenantAdmin("acme")
	var begun, acknowledged, refused atomic.Int64
	killed := 0
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for first := begun.Add(size) - size; first < total; first = begun.Add(size) - size {
				refused.Add(int64(submit(admin, int(first), size)))
				acknowledged.Add(size)
			}
		})
	}
	victims := []string{"persist-logs", "create-logs-bulk", "persist-logs", "index-logs", "persist-logs", "authorize-request"}
	for i := range kills {
		for acknowledged.Load() < int64(i)*total/kills && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		// It may have to be started again first, which takes work for it.
		for patience := time.Now().Add(3 * time.Second); time.Now().Before(patience); time.Sleep(time.Millisecond) {
			if processes.kill(t, victims[i%len(victims)]) {
				killed++
				break
			}
		}
	}
	sending.Wait()
	t.Logf("%d processes were killed, %d requests were sent again", killed, refused.Load())
	if killed < kills/2 {
		t.Errorf("only %d processes could be killed", killed)
	}
	admin.eventually(total)
	ids, _ := walk(t, admin, url.Values{"limit": {"1000"}}, "")
	if n := len(slices.Compact(slices.Sorted(slices.Values(ids)))); len(ids) != total {
		t.Errorf("got %d ids, want %d", len(ids), total)
	} else if n != total {
		t.Errorf("got %d different ids, want %d", n, total)
	}
	var held struct{ Items []json.RawMessage }
	if admin.get("/logs/quarantine", nil).decode(t, &held); len(held.Items) > 0 {
		t.Errorf("in quarantine: %s", held.Items)
	}
	s.stop()
	processes.mu.Lock()
	if left := slices.Concat(slices.Collect(maps.Values(processes.pids))...); len(left) > 0 {
		t.Errorf("processes %v outlive the service", left)
	}
	processes.mu.Unlock()
	again := startWith(t, options)
	again.as(admin.authorization, "acme").eventually(total)
}

// submit sends a bulk of entries until it is acknowledged and returns how often
// it was not.
func submit(c caller, first, size int) (refused int) {
	entries := make([]string, size)
	for i := range entries {
		entries[i] = entryText(first + i)
	}
	for {
		got := c.do("POST", "/logs/bulk", "["+strings.Join(entries, ",")+"]", nil)
		if got.status == http.StatusAccepted {
			return refused
		}
		if got.status != http.StatusServiceUnavailable {
			c.t.Errorf("bulk: got status %d, want %d: %s", got.status, http.StatusServiceUnavailable, got.body)
		}
		if got.header.Get("Retry-After") == "" {
			c.t.Errorf("bulk: got no Retry-After, want one: %s", got.body)
		}
		if c.t.Failed() {
			return refused
		}
		refused++
	}
}

// TestLambdaAnswersAsInProcess compares what the gateway answers by itself with
// what the functions do in process.
func TestLambdaAnswersAsInProcess(t *testing.T) {
	everyWay(t, func(t *testing.T, start starter) {
		s := start(t, t.TempDir())
		s.tenantAdmin("acme")
		for _, test := range []struct {
			name, method, path, authorization string
			tenant                            audit.TenantID
			body                              string
			status                            int
			code                              string
		}{
			{"no credential", "GET", "/logs", "", "acme", "", 401, "unauthenticated"},
			{"bad credential", "GET", "/logs", "Bearer nothing", "acme", "", 401, "unauthenticated"},
			{"foreign tenant", "GET", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "other", "", 403, "forbidden"},
			{"lacking permission", "POST", "/logs", s.roleToken("acme", access.RoleAuditor, "a"), "acme", entryText(1), 403, "forbidden"},
			{"no tenant", "GET", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "", "", 400, "malformed_request"},
			{"no tenant elsewhere", "GET", "/logs/stats", s.roleToken("acme", access.RoleAdmin, "a"), "", "", 400, "malformed_request"},
			{"odd tenant", "GET", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "A b", "", 400, "malformed_request"},
			{"odd query", "GET", "/logs?q=%zz", s.roleToken("acme", access.RoleAdmin, "a"), "acme", "", 400, "malformed_request"},
			{"large body", "POST", "/logs", s.roleToken("acme", access.RoleAdmin, "a"), "acme", strings.Repeat(" ", 5<<20), 413, "too_large"},
			{"unknown path", "GET", "/nothing", "", "", "", 404, "not_found"},
			{"unknown method", "PATCH", "/logs", "", "", "", 405, "method_not_allowed"},
			{"encoded path", "GET", "/tenants/%61cme", s.roleToken("acme", access.RoleAdmin, "a"), "", "", 200, ""},
			{"head", "HEAD", "/health", "", "", "", 200, ""},
		} {
			got := s.as(test.authorization, test.tenant).do(test.method, test.path, test.body, map[string]string{"X-Request-Id": "r-1"})
			if test.code != "" {
				type problem struct {
					Type      string
					Status    int
					RequestID string `json:"request_id"`
				}
				var answer problem
				got.decode(t, &answer)
				if want := (problem{"urn:ocelot:problem:" + test.code, test.status, "r-1"}); answer != want {
					t.Errorf("%s: got problem %+v, want %+v", test.name, answer, want)
				}
			}
			if got.status != test.status {
				t.Errorf("%s: got status %d, want %d: %s", test.name, got.status, test.status, got.body)
			}
			if got.header.Get("X-Request-Id") != "r-1" {
				t.Errorf("%s: the request id is %q", test.name, got.header.Get("X-Request-Id"))
			}
		}
	})
}

// TestLambdaKeepsVerdicts: as API Gateway does, for a minute by the credential
// and the tenant, applied anew to each method.
func TestLambdaKeepsVerdicts(t *testing.T) {
	processes := &environments{Handler: slog.DiscardHandler, pids: map[string][]int{}}
	s := startWith(t, localcloud.Options{Data: t.TempDir(), Log: slog.New(processes), Lambda: lambda(t, config.Engines{})})
	s.tenantAdmin("acme")
	credential := s.roleToken("acme", access.RoleAuditor, "a")
	inTenant := func(tenant audit.TenantID) caller { return s.as(credential, tenant) }
	for _, test := range []struct {
		name   string
		caller caller
		method string
		path   string
		status int
		asked  bool
	}{
		{"first", inTenant("acme"), "GET", "/logs", 200, true},
		{"again", inTenant("acme"), "GET", "/logs", 200, false},
		{"another method that is allowed", inTenant("acme"), "GET", "/logs/stats", 200, false},
		{"another method that is not", inTenant("acme"), "POST", "/logs", 403, false},
		{"another tenant", inTenant("other"), "GET", "/logs", 403, true},
		{"no tenant in the header", inTenant(""), "GET", "/tenants/acme", 200, true},
		{"a tenant there, too", inTenant("acme"), "GET", "/tenants/acme", 200, false},
		{"another credential", s.as(s.roleToken("acme", access.RoleAuditor, "b"), "acme"), "GET", "/logs", 200, true},
		{"no tenant where one is needed", inTenant(""), "GET", "/logs", 400, true},
		{"and again", inTenant(""), "GET", "/logs", 400, true},
	} {
		processes.endAll(t, "authorize-request") // so that it has to be started where it is asked
		body := ""
		if test.method == "POST" {
			body = entryText(1)
		}
		got := test.caller.do(test.method, test.path, body, nil)
		processes.mu.Lock()
		asked := len(processes.pids["authorize-request"]) > 0
		processes.mu.Unlock()
		if got.status != test.status {
			t.Errorf("%s: got status %d, want %d: %s", test.name, got.status, test.status, got.body)
		}
		if asked != test.asked {
			t.Errorf("%s: asked is %v, want %v", test.name, asked, test.asked)
		}
	}
}

func TestAllowsAsIAM(t *testing.T) {
	statement := func(effect, action string, resources ...string) events.IAMPolicyStatement {
		return events.IAMPolicyStatement{Effect: effect, Action: []string{action}, Resource: resources}
	}
	const invoke = "execute-api:Invoke"
	for _, test := range []struct {
		name       string
		statements []events.IAMPolicyStatement
		method     string
		want       bool
	}{
		{"no statement", nil, "a/GET/x", false},
		{"equal", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/x", true},
		{"another", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/xy", false},
		{"second resource", []events.IAMPolicyStatement{statement("Allow", invoke, "b", "a/GET/x")}, "a/GET/x", true},
		{"star over slashes", []events.IAMPolicyStatement{statement("Allow", invoke, "a/*/y")}, "a/GET/x/y", true},
		{"star for nothing", []events.IAMPolicyStatement{statement("Allow", invoke, "a/*GET/*")}, "a/GET/", true},
		{"stars that go back", []events.IAMPolicyStatement{statement("Allow", invoke, "*ab*abc")}, "ababxabababc", true},
		{"stars without an end", []events.IAMPolicyStatement{statement("Allow", invoke, "*ab*abd")}, "ababxabababc", false},
		{"question mark", []events.IAMPolicyStatement{statement("Allow", invoke, "a/?ET/x")}, "a/GET/x", true},
		{"question mark for nothing", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x?")}, "a/GET/x", false},
		{"a star in the call is no wildcard", []events.IAMPolicyStatement{statement("Allow", invoke, "a/GET/x")}, "a/GET/*", false},
		{"another action", []events.IAMPolicyStatement{statement("Allow", "s3:*", "*")}, "a/GET/x", false},
		{"any action", []events.IAMPolicyStatement{statement("Allow", "*", "*")}, "a/GET/x", true},
		{"deny wins", []events.IAMPolicyStatement{statement("Allow", invoke, "*"), statement("Deny", invoke, "a/GET/*")}, "a/GET/x", false},
		{"deny wins in any order", []events.IAMPolicyStatement{statement("Deny", invoke, "a/GET/*"), statement("Allow", invoke, "*")}, "a/GET/x", false},
		{"deny of another", []events.IAMPolicyStatement{statement("Deny", invoke, "a/PUT/*"), statement("Allow", invoke, "*")}, "a/GET/x", true},
	} {
		policy := events.APIGatewayCustomAuthorizerPolicy{Version: "2012-10-17", Statement: test.statements}
		if got := localcloud.Allows(policy, test.method); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestLambdaNamesMissingBootstraps(t *testing.T) {
	err := localcloud.Run(t.Context(), localcloud.Options{
		Addr: "127.0.0.1:0", Data: t.TempDir(), Empty: true, Log: discard(), Lambda: &localcloud.Lambda{Bootstraps: t.TempDir()},
		Tokens: func(context.Context, []byte) (access.TokenVerifier, error) { return refuseTokens{}, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "create-log, create-logs-bulk") {
		t.Errorf("got error %v, want one with %q", err, "create-log, create-logs-bulk")
	}
}
