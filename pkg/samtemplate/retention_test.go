package samtemplate_test

import (
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// The template must not import an engine, so that it repeats how long queues keep messages.
func TestQueuesKeepMessagesAsTheLocalOnesDo(t *testing.T) {
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct{ MessageRetentionPeriod float64 }
		}
	}
	parse(t, &template)
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
