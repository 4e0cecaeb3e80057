package samtemplate_test

import (
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/samtemplate"
)

// The template must not import an engine, so that it repeats how long queues keep messages.
func TestQueuesKeepMessagesAsTheLocalOnesDo(t *testing.T) {
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct{ MessageRetentionPeriod float64 }
		}
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for name, resource := range template.Resources {
		if resource.Type != "AWS::SQS::Queue" {
			continue
		}
		checked++
		if got, want := resource.Properties.MessageRetentionPeriod, sqsqueue.Retention.Seconds(); got != want {
			t.Errorf("%s keeps messages for %.0f seconds, want %.0f", name, got, want)
		}
	}
	if want := 2 * len(manifest.Queues()); checked != want {
		t.Errorf("checked %d queues, want %d: each with its dead-letter queue", checked, want)
	}
}
