package localcloud_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

const root = "../../.."

func names(keep func(manifest.Function) bool) []string {
	var found []string
	for _, f := range manifest.Functions() {
		if keep(f) {
			found = append(found, f.Name)
		}
	}
	slices.Sort(found)
	return found
}

func all(manifest.Function) bool { return true }

func hasRoute(f manifest.Function) bool { return f.Trigger.Route != nil }

func hasQueue(f manifest.Function) bool { return len(f.Trigger.Queues) > 0 }

func hasSchedule(f manifest.Function) bool { return f.Trigger.Schedule != nil }

func hasSocket(f manifest.Function) bool { return f.Trigger.Socket != nil }

func isRotation(f manifest.Function) bool { return f.Trigger.Rotation != nil }

func isAuthorizer(f manifest.Function) bool { return f.Trigger.Authorizer }

// folders returns the subfolders of a folder of the repository that have a file of the pattern.
func folders(t *testing.T, below, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, below, "*", pattern))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range files {
		found[filepath.Base(filepath.Dir(f))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s has %s, want only names of the manifest", what, name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s lacks %s, want every name of the manifest", what, name)
		}
	}
}

func embeddedServices(t *testing.T) *wiring.Services {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return wiring.New(embedded.Stores(db), wiring.Security{Tokens: refuseTokens{}, CursorKeys: func() [][]byte { return [][]byte{make([]byte, 32)} }}, discard())
}

func TestManifestMatchesFolders(t *testing.T) {
	same(t, "functions/", folders(t, "functions", "main.go"), names(all))
	same(t, "events/", slices.DeleteFunc(folders(t, "events", "*.json"), func(name string) bool { return name == "schemas" }), names(all))
}

func TestManifestMatchesTheRunner(t *testing.T) {
	services := embeddedServices(t)
	same(t, "HTTPFunctions", slices.Sorted(maps.Keys(localcloud.HTTPFunctions(services))), names(hasRoute))
	same(t, "QueueFunctions", slices.Sorted(maps.Keys(localcloud.QueueFunctions(services))), names(hasQueue))
	same(t, "ScheduleFunctions", slices.Sorted(maps.Keys(localcloud.ScheduleFunctions(services))), names(hasSchedule))
	connect, messages := localcloud.ConnectFunctions(services), localcloud.MessageFunctions(services)
	same(t, "ConnectFunctions and MessageFunctions", slices.Concat(slices.Collect(maps.Keys(connect)), slices.Collect(maps.Keys(messages))), names(hasSocket))
	same(t, "AuthorizerFunctions", slices.Sorted(maps.Keys(localcloud.AuthorizerFunctions(services))), names(isAuthorizer))
	same(t, "RotationFunctions", slices.Sorted(maps.Keys(localcloud.RotationFunctions(services))), names(isRotation))
	for name := range connect {
		same(t, "ConnectFunctions", []string{name}, names(func(f manifest.Function) bool { return hasSocket(f) && f.Trigger.Socket.Key == manifest.SocketConnect }))
	}
}

func TestManifestMatchesTheTemplate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				Events map[string]struct{ Type string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	var functions, scheduled []string
	for id, r := range template.Resources {
		if r.Type == "AWS::Serverless::Function" {
			functions = append(functions, id)
		}
		for _, event := range r.Properties.Events {
			if event.Type == "ScheduleV2" {
				scheduled = append(scheduled, id)
			}
		}
	}
	logicalIDs := func(names []string) []string {
		for i, name := range names {
			names[i] = manifest.CamelCase(name) + "Function"
		}
		return names
	}
	same(t, "template.yaml", functions, logicalIDs(names(all)))
	same(t, "template.yaml with its schedules", scheduled, logicalIDs(names(hasSchedule)))
}

func TestManifestMatchesTheOpenAPIDocument(t *testing.T) {
	var document struct {
		Servers []struct{ URL string }
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(apispec.OpenAPI(), &document); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for path, operations := range document.Paths {
		for method := range operations {
			if slices.Contains([]string{"get", "put", "post", "delete", "patch"}, method) {
				got = append(got, strings.ToUpper(method)+" "+strings.TrimPrefix(path, manifest.BasePath))
			}
		}
	}
	for _, f := range manifest.Functions() {
		if r := f.Trigger.Route; r != nil {
			want = append(want, r.Method+" "+r.Path)
		}
	}
	same(t, "the OpenAPI document", got, want)
}

// refuseTokens rejects every token.
type refuseTokens struct{}

func (refuseTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, audit.ErrUnauthenticated
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
