// Package events_test writes the samples of this folder (go generate ./events)
// and invokes every function with its own.
package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/timezones"
)

//go:generate go test -run ^TestSamplesAreFresh$ -count 1 . -update

var update = flag.Bool("update", false, "write the samples instead of comparing them")

// files are the generated files of this folder, by path.
func files(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{"fixtures.json": text(t, theFixtures())}
	for _, s := range samples(t) {
		found[filepath.Join(s.function, s.name+".json")] = text(t, s.event)
		found[filepath.Join(s.function, s.name+".want.json")] = text(t, s.want)
	}
	return found
}

func TestSamplesAreFresh(t *testing.T) {
	made := files(t)
	if *update {
		for path, content := range made {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, content := range made {
		if got, err := os.ReadFile(path); err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, content) {
			t.Errorf("got a stale %s, want what the generator writes; run go generate ./events", path)
		}
	}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".json" || filepath.Dir(path) == "schemas" {
			return err
		}
		if _, has := made[path]; !has {
			t.Errorf("%s is of no sample, want only files of samples", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryFunctionHasSamples(t *testing.T) {
	have := map[string]int{}
	for _, s := range samples(t) {
		have[s.function]++
	}
	var names []string
	for _, f := range manifest.Functions() {
		names = append(names, f.Name)
		if have[f.Name] < 2 {
			t.Errorf("%s has %d samples, want at least 2, a success and a fault", f.Name, have[f.Name])
		}
	}
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(have))); diff != "" {
		t.Errorf("functions with samples (-want +got):\n%s", diff)
	}
}

// openEngine opens an empty file of the embedded engine.
func openEngine(t *testing.T) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ocelot.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// openFiles opens an empty folder of exports.
func openFiles(t *testing.T) exportfiles.Local {
	t.Helper()
	files, err := exportfiles.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return files
}

// newServices returns the services of one function over the engine, with only the
// dependencies and queues that the manifest grants the function.
func newServices(t *testing.T, db *sqlite.DB, f manifest.Function, clients *sockets) *wiring.Services {
	t.Helper()
	stores := wiring.Stores{Grace: wiring.DefaultGrace} // no DrainPeriod: nothing else writes
	var security wiring.Security
	for _, d := range f.Dependencies() {
		switch d {
		case manifest.DependencyRecords:
			embedded.UseRecords(&stores, db)
		case manifest.DependencySearch:
			embedded.UseIndex(&stores, db)
		case manifest.DependencyQueues:
			embedded.UseQueues(&stores, db)
			stores.Queue, stores.DeadLetters = grantedQueues(f, stores)
		case manifest.DependencySockets:
			stores.Sockets = clients
		case manifest.DependencyMasterKey:
			master, err := localkeys.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			stores.MasterKey = master
		case manifest.DependencyExports:
			stores.Exports = openFiles(t)
		case manifest.DependencyTombstones:
			stores.Tombstones = openFiles(t)
		case manifest.DependencyArchive:
			stores.Archive = openFiles(t)
		case manifest.DependencyTimeZones:
			timezones.Use(&stores)
		case manifest.DependencyCursorKey:
			keys := [][]byte{cursorKey}
			security.CursorKeys = func() [][]byte { return keys }
			security.KeyVersions = func() (rotation.Versions, error) { return newVersions(), nil }
		}
	}
	return wiring.New(stores, security, slog.New(slog.DiscardHandler))
}

// cursorKey is the key of cursors and of the filters of streams.
var cursorKey = make([]byte, cursor.MinKeyBytes)

// versions is a secret whose rotation was asked for.
type versions map[string]string

const (
	currentVersion = "0d6f1b6e-58a5-4f6c-8f0d-2b1f5f0a9c11"
	nextVersion    = "7c2f9a30-1f4e-4d8b-9b7e-5a3c1d2e4f60"
)

func newVersions() versions { return versions{currentVersion: strings.Repeat("k", 32)} }

func (v versions) Stages(context.Context) (map[string][]string, error) {
	return map[string][]string{currentVersion: {rotation.Current}, nextVersion: {rotation.Pending}}, nil
}

func (v versions) Value(_ context.Context, version string) (string, error) {
	value, is := v[version]
	if !is {
		return "", audit.ErrNotFound
	}
	return value, nil
}

func (v versions) Put(_ context.Context, version, value string) error {
	v[version] = value
	return nil
}

func (v versions) Promote(context.Context, string, string) error { return nil }

// grantedQueues returns the queues of stores. Sending fails unless the function is
// granted to write the queue.
func grantedQueues(f manifest.Function, stores wiring.Stores) (queue func(manifest.QueueName) wiring.Queue, deadLetters func(manifest.QueueName) ingest.Queue) {
	mayWrite := func(name manifest.QueueName) bool {
		return slices.ContainsFunc(f.Grants, func(g manifest.Grant) bool { return g.Resource == manifest.QueueResource(name) && g.Write })
	}
	queue = func(name manifest.QueueName) wiring.Queue {
		if mayWrite(name) {
			return stores.Queue(name)
		}
		return deniedQueue(name)
	}
	deadLetters = func(name manifest.QueueName) ingest.Queue {
		if mayWrite(name.DeadLetters()) {
			return stores.DeadLetters(name)
		}
		return deniedQueue(name.DeadLetters())
	}
	return queue, deadLetters
}

// deniedQueue is a queue that the function may not write.
type deniedQueue manifest.QueueName

func (q deniedQueue) Send(context.Context, audit.TenantID, []string) error {
	return fmt.Errorf("the manifest grants no writing of the queue %s", string(q))
}

func (q deniedQueue) SendAfter(ctx context.Context, tenant audit.TenantID, _ time.Duration, body string) error {
	return q.Send(ctx, tenant, []string{body})
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Each function returns what its samples expect, over the fixtures and with no more than
// its grants. A grant that is missing in the manifest fails here.
func TestSamplesHold(t *testing.T) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the faults are meant
	t.Cleanup(func() { slog.SetDefault(before) })
	for _, f := range manifest.Functions() {
		paths, err := filepath.Glob(filepath.Join(f.Name, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, ".want.json") {
				continue
			}
			t.Run(strings.TrimSuffix(path, ".json"), func(t *testing.T) {
				var expected want
				load(t, strings.TrimSuffix(path, ".json")+".want.json", &expected)
				db, clients := openEngine(t), &sockets{}
				var stored fixtures
				load(t, "fixtures.json", &stored)
				if err := stored.put(t.Context(), embedded.Stores(db)); err != nil {
					t.Fatal(err)
				}
				got := invoke(t, newServices(t, db, f, clients), f, path)
				got.Sent, got.DeadLetters = clients.sent, deadLetters(t, db, f)
				if diff := cmp.Diff(expected, got); diff != "" {
					t.Errorf("result of the call (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// invoke runs the function with the event in the file.
func invoke(t *testing.T, s *wiring.Services, f manifest.Function, path string) want {
	t.Helper()
	switch {
	case f.Trigger.Route != nil:
		var event events.APIGatewayProxyRequest
		load(t, path, &event)
		response, err := lambdaedge.HTTP(localcloud.HTTPFunctions(s)[f.Name])(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d %s", response.StatusCode, response.Body[:min(len(response.Body), 300)])
		return want{Status: response.StatusCode}
	case f.Trigger.Authorizer:
		var event events.APIGatewayCustomAuthorizerRequestTypeRequest
		load(t, path, &event)
		response, err := lambdaedge.Authorizer(s.AuthorizeRequest())(t.Context(), event)
		if err != nil {
			return want{Error: err.Error()}
		}
		return want{Effect: effect(response.PolicyDocument, event.MethodArn)}
	case f.Trigger.Schedule != nil:
		var event events.EventBridgeEvent
		load(t, path, &event)
		if err := lambdaedge.Schedule(localcloud.ScheduleFunctions(s)[f.Name])(t.Context(), event); err != nil {
			return want{Error: err.Error()}
		}
		return want{Done: true}
	case f.Trigger.Rotation != nil:
		var event events.SecretsManagerSecretRotationEvent
		load(t, path, &event)
		if err := lambdaedge.Rotation(localcloud.RotationFunctions(s)[f.Name])(t.Context(), event); err != nil {
			return want{Error: err.Error()}
		}
		return want{Done: true}
	}
	if f.Trigger.Socket != nil {
		return want{Status: invokeSocket(t, s, f, path)}
	}
	var event events.SQSEvent
	load(t, path, &event)
	response, err := lambdaedge.Queue(localcloud.QueueFunctions(s)[f.Name], s.Stores.Source)(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	return want{BatchItemFailures: &response.BatchItemFailures}
}

// deadLetters counts the dead-lettered messages of the queues that trigger the function.
func deadLetters(t *testing.T, db *sqlite.DB, f manifest.Function) (total int64) {
	t.Helper()
	for _, trigger := range f.Trigger.Queues {
		_, _, dead, err := embedded.Queue(db, trigger.Queue).Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		total += dead
	}
	return total
}

// invokeSocket runs a function of the WebSocket API and returns its status.
func invokeSocket(t *testing.T, s *wiring.Services, f manifest.Function, path string) int {
	t.Helper()
	function := lambdaedge.Message(localcloud.MessageFunctions(s)[f.Name])
	if f.Trigger.Socket.Key == manifest.SocketConnect {
		function = lambdaedge.Connect(localcloud.ConnectFunctions(s)[f.Name])
	}
	var event events.APIGatewayWebsocketProxyRequest
	load(t, path, &event)
	response, err := function(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

// effect is what the policy says of a method that it names without wildcards.
func effect(policy events.APIGatewayCustomAuthorizerPolicy, arn string) string {
	for _, s := range slices.Backward(policy.Statement) { // a Deny stands last
		if slices.Contains(s.Resource, arn) {
			return s.Effect
		}
	}
	return "Deny"
}

// The messages of the samples, but for those that are meant to be faulty, are
// as the schemas say; and the schemas refuse what is not.
func TestSchemas(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertContent()
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range []string{"envelope", "arrival", "job", "nudge"} {
		schema, err := compiler.Compile(filepath.Join("schemas", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		schemas[name] = schema
	}
	for _, s := range samples(t) {
		event, isQueue := s.event.(events.SQSEvent)
		if !isQueue {
			continue
		}
		for i, message := range event.Records {
			name := "envelope"
			switch s.function {
			case "run-jobs", "run-archives":
				name = "job"
			case "order-logs":
				name = "arrival"
			case "stream-logs":
				name = "nudge"
			}
			faulty := strings.HasPrefix(message.Body, "not") || strings.Contains(message.Body, `"v":99`)
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(message.Body))
			if err == nil {
				err = schemas[name].Validate(value)
			}
			if (err != nil) != faulty {
				t.Errorf("%s/%s message %d: %v", s.function, s.name, i, err)
			}
		}
	}
	for name, bodies := range map[string][]string{
		"envelope": {`{}`, `{"v":1,"tenant":"Acme","count":1,"encoding":"zstd","data":"AAAA"}`, `{"v":1,"tenant":"acme","count":0,"encoding":"zstd","data":"AAAA"}`,
			`{"v":1,"tenant":"acme","count":1,"encoding":"gzip","data":"AAAA"}`, `{"v":1,"tenant":"acme","count":1,"encoding":"zstd","data":"?"}`,
			`{"v":1,"tenant":"acme","count":1,"encoding":"zstd","data":"AAAA","more":1}`},
		"arrival": {`{}`, `{"v":2,"tenant":"acme","messages":[{"id":"AQAAAAAAAAAAAAAAAAAAAA==","entries":"AZ"}]}`, `{"v":1,"tenant":"acme","messages":[]}`,
			`{"v":1,"tenant":"acme","messages":[{"id":"AQ==","entries":"AQAAAAAAAAAAAAAAAAAAAA=="}]}`,
			`{"v":1,"tenant":"acme","messages":[{"id":"AQAAAAAAAAAAAAAAAAAAAA==","entries":""}]}`},
		"nudge": {`{}`, `{"v":2,"tenant":"acme"}`, `{"v":1,"tenant":""}`, `{"v":1,"tenant":"Acme"}`, `{"v":1,"tenant":"acme","more":1}`},
		"job": {`{}`, `{"v":2,"tenant":"acme","job":"j","generation":0}`, `{"v":1,"tenant":"acme","job":"","generation":0}`,
			`{"v":1,"tenant":"","job":"j","generation":0}`, `{"v":1,"tenant":"acme","job":"j"}`, `{"v":1,"tenant":"acme","job":"j","generation":-1}`},
	} {
		for _, body := range bodies {
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if schemas[name].Validate(value) == nil {
				t.Errorf("%s: got no error for %s, want one", name, body)
			}
		}
	}
}
