package postman_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/apispec/internal/postman"
)

const file = "../../../../../docs/ocelot.postman_collection.json"

func TestCollectionCurrent(t *testing.T) {
	want, err := postman.Collection(apispec.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the collection is stale: run `make generate` (-want +got):\n%s", diff)
	}
}

// Newman and Postman find the next request by its name.
func TestNamesAreUnique(t *testing.T) {
	var c struct {
		Item []struct {
			Item []struct{ Name string }
		}
	}
	text, err := postman.Collection(apispec.OpenAPI())
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, folder := range c.Item {
		for _, request := range folder.Item {
			if seen[request.Name] {
				t.Errorf("two requests are named %q, want each name once", request.Name)
			}
			seen[request.Name] = true
		}
	}
	if len(seen) < 25 {
		t.Errorf("got %d requests, want one for each operation", len(seen))
	}
}

// A route that the collection does not visit, and one that no longer answers as it expects, must be noticed.
func TestCollectionRefusesAnotherDocument(t *testing.T) {
	text := string(apispec.OpenAPI())
	for name, changed := range map[string]string{
		"a new operation":     strings.Replace(text, `"/docs": {`, `"/docs": {"post": {"operationId": "new-operation"},`, 1),
		"a missing operation": strings.ReplaceAll(text, `"get-stats"`, `"count-logs"`),
		"a missing answer":    strings.ReplaceAll(text, `"202": {`, `"299": {`),
		"no JSON":             "{",
	} {
		if changed == text {
			t.Fatalf("%s: the document did not change", name)
		}
		if _, err := postman.Collection([]byte(changed)); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
