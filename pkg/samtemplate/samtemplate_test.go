package samtemplate_test

import (
	"bytes"
	"os"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/samtemplate"
)

func TestTemplateFileIsCurrent(t *testing.T) {
	want, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("template.yaml is stale: run go generate ./pkg/samtemplate")
	}
}

func TestTemplateHasEveryFunctionAndQueue(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct{ Type string }
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range template.Resources {
		count[r.Type]++
	}
	if got, want := count["AWS::Serverless::Function"], len(manifest.Functions()); got != want {
		t.Errorf("%d functions, want %d", got, want)
	}
	if got, want := count["AWS::SQS::Queue"], 2*len(manifest.Queues()); got != want {
		t.Errorf("%d queues, want %d: one and its dead letters for each", got, want)
	}
	if _, ok := template.Resources[samtemplate.LogicalID("create-log")+"Function"]; !ok {
		t.Error("CreateLogFunction is missing")
	}
}
