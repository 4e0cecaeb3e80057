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
	"time"

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
func hasSocket(f manifest.Function) bool   { return f.Trigger.Socket != nil }

func isAuthorizer(f manifest.Function) bool { return f.Trigger.Authorizer }

// folders returns the folders below a folder of the repository that hold a file of the pattern.
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
			t.Errorf("%s has %s, the manifest has not", what, name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("the manifest has %s, %s has not", name, what)
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
	return wiring.New(embedded.Stores(db), wiring.Security{Tokens: refuseTokens{}, CursorKey: make([]byte, 32)}, discard())
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
	for name := range connect {
		same(t, "ConnectFunctions", []string{name}, names(func(f manifest.Function) bool { return hasSocket(f) && f.Trigger.Socket.Key == manifest.SocketConnect }))
	}
}

func TestManifestTriggers(t *testing.T) {
	for _, f := range manifest.Functions() {
		triggers := 0
		for _, has := range []func(manifest.Function) bool{hasRoute, hasQueue, hasSchedule, hasSocket, isAuthorizer} {
			if has(f) {
				triggers++
			}
		}
		if triggers != 1 {
			t.Errorf("%s has %d triggers, want exactly one", f.Name, triggers)
		}
		if s := f.Trigger.Schedule; s != nil && (s.Every <= f.Timeout || s.Every%time.Minute != 0) {
			t.Errorf("%s runs every %s with a timeout of %s: runs would overlap, or the rate is of no whole minutes", f.Name, s.Every, f.Timeout)
		}
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

func TestManifestGrantsNameWhatExists(t *testing.T) {
	known := []manifest.Resource{
		manifest.ResourceEntries, manifest.ResourceIndex, manifest.ResourceTenants, manifest.ResourceKeys,
		manifest.ResourceJobs, manifest.ResourceQuarantine, manifest.ResourceCursorKey, manifest.ResourceTokens,
		manifest.ResourceStream, manifest.ResourceConnections, manifest.ResourceSockets,
	}
	for _, q := range manifest.Queues() {
		known = append(known, manifest.QueueResource(q.Name), manifest.QueueResource(q.Name.DeadLetters()))
		consumed := false
		for _, f := range manifest.Functions() {
			for _, trigger := range f.Trigger.Queues {
				if trigger.Queue != q.Name {
					continue
				}
				consumed = true
				if q.VisibilityTimeout < 6*f.Timeout {
					t.Errorf("queue %s is visible again after %s, less than six times the %s of %s", q.Name, q.VisibilityTimeout, f.Timeout, f.Name)
				}
			}
		}
		if !consumed {
			t.Errorf("nobody reads queue %s", q.Name)
		}
	}
	for _, f := range manifest.Functions() {
		for _, g := range f.Grants {
			if !slices.Contains(known, g.Resource) {
				t.Errorf("%s is granted %s, which does not exist", f.Name, g.Resource)
			}
		}
		if f.MemoryMB == 0 || f.Timeout == 0 || f.Summary == "" {
			t.Errorf("%s lacks its size, timeout or summary", f.Name)
		}
	}
}

// refuseTokens verifies no token.
type refuseTokens struct{}

func (refuseTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, audit.ErrUnauthenticated
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
