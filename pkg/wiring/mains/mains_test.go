package mains_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/mains"
)

const root = "../../.."

func TestMainsAreCurrent(t *testing.T) {
	files, err := mains.Files(root, manifest.Functions())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("got a stale %s, want what the generator writes: run go generate ./pkg/wiring/mains", path)
		}
	}
	folders, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(folders), len(manifest.Functions()); got != want {
		t.Errorf("functions/ has %d mains, want %d: remove those that the manifest does not have", got, want)
	}
}

func TestAMainOpensWhatItsFunctionWasGranted(t *testing.T) {
	files, err := mains.Files(root, []manifest.Function{{
		Name: "persist-logs", Summary: "Store entries", Trigger: manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: manifest.QueueIngest}}},
		Grants: []manifest.Grant{{Resource: manifest.ResourceIndex, Read: true}, {Resource: manifest.ResourceSockets, Write: true}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	text := string(files["functions/persist-logs/main.go"])
	for _, want := range []string{
		"fromenv.Services(context.Background(), searchindex.FromEnv, sockets.FromEnv)",
		"lambdaedge.StartQueue(services.PersistLogs(), services.Stores.Source)",
		"// Store entries.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}
	if strings.Contains(text, "pkg/wiring/records") {
		t.Errorf("got\n%s\nwant no database: none was granted", text)
	}
}

func TestAMainBoundsItsConnections(t *testing.T) {
	files, err := mains.Files(root, []manifest.Function{{
		Name: "stream-logs", Summary: "Send entries", Trigger: manifest.Trigger{Queues: []manifest.QueueTrigger{{Queue: manifest.QueueStream}}},
		Grants: []manifest.Grant{{Resource: manifest.ResourceStream, Read: true}}, Connections: 2,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if text, want := string(files["functions/stream-logs/main.go"]), "records.WithConnections(2)"; !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant %q in it", text, want)
	}
}

func TestAFunctionWithoutAHandlerIsAnError(t *testing.T) {
	_, err := mains.Files(root, []manifest.Function{{Name: "paint-logs"}})
	if err == nil {
		t.Fatal("got no error, want one")
	}
	for _, want := range []string{"paint-logs", "PaintLogs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %q, want %q in it", err, want)
		}
	}
}
