// Package events_test writes the samples of this folder (go generate ./events)
// and invokes every function with its own.
package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
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
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s is stale; run go generate ./events (%v)", path, err)
		}
	}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if _, has := made[path]; err == nil && !has && entry.Type().IsRegular() && filepath.Ext(path) == ".json" && filepath.Dir(path) != "schemas" {
			t.Errorf("%s is of no sample", path)
		}
		return err
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
			t.Errorf("%s has %d samples, not a success and a fault", f.Name, have[f.Name])
		}
	}
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(have))); diff != "" {
		t.Error(diff)
	}
}

// newService is a service over an empty file that holds the fixtures.
func newService(t *testing.T) (*wiring.Services, *sockets) {
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
	stores := embedded.Stores(db)
	stores.DrainPeriod = 0 // nothing else writes
	clients := &sockets{}
	stores.Sockets = clients
	service := wiring.New(stores, wiring.Security{CursorKey: make([]byte, 32)}, slog.New(slog.DiscardHandler))
	var f fixtures
	load(t, "fixtures.json", &f)
	if err := f.put(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	return service, clients
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

// Every function answers its samples as they say, over what fixtures.json holds.
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
				service, clients := newService(t)
				got := invoke(t, service, f, path)
				got.Sent = clients.sent
				if diff := cmp.Diff(expected, got); diff != "" {
					t.Error(diff)
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
	return want{BatchItemFailures: &response.BatchItemFailures, DeadLetters: deadLetters(t, s, f)}
}

// deadLetters counts those of the queues that trigger the function.
func deadLetters(t *testing.T, s *wiring.Services, f manifest.Function) (total int64) {
	t.Helper()
	for _, trigger := range f.Trigger.Queues {
		_, _, dead, err := s.Stores.Queue(trigger.Queue).(*sqlite.Queue).Depth(t.Context())
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
	for _, name := range []string{"envelope", "purge", "delivery"} {
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
			switch {
			case s.function == "purge-tenant":
				name = "purge"
			case strings.Contains(message.Body, `"connection"`):
				name = "delivery"
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
		"delivery": {`{}`, `{"v":2,"tenant":"acme","connection":"c"}`, `{"v":1,"tenant":"acme","connection":""}`, `{"v":1,"tenant":"","connection":"c"}`},
		"purge":    {`{}`, `{"v":2,"tenant":"acme","job":"j"}`, `{"v":1,"tenant":"acme","job":""}`, `{"v":1,"tenant":"","job":"j"}`},
	} {
		for _, body := range bodies {
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if schemas[name].Validate(value) == nil {
				t.Errorf("%s takes %s", name, body)
			}
		}
	}
}
