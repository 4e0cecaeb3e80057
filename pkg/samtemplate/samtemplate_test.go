package samtemplate_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/ocelot-audit/ocelot/pkg/export"
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
		t.Error("got a stale template.yaml, want what the generator writes: run go generate ./pkg/samtemplate")
	}
}

// parse reads the template into a part of its structure.
func parse(t *testing.T, template any) {
	t.Helper()
	text, err := samtemplate.Template()
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, template); err != nil {
		t.Fatal(err)
	}
}

func TestTemplateRunsSchedulesAtTheirRateAndNeverAgain(t *testing.T) {
	type retries struct{ MaximumRetryAttempts *int }
	var template struct {
		Resources map[string]struct {
			Properties struct {
				Events map[string]struct {
					Type       string
					Properties struct {
						ScheduleExpression string
						RetryPolicy        retries
					}
				}
				EventInvokeConfig retries
			}
		}
	}
	parse(t, &template)
	for _, f := range manifest.Functions() {
		if f.Trigger.Schedule == nil {
			continue
		}
		got := template.Resources[manifest.CamelCase(f.Name)+"Function"].Properties
		event := got.Events["Schedule"]
		if want := fmt.Sprintf("rate(%d minutes)", int(f.Trigger.Schedule.Every.Minutes())); event.Type != "ScheduleV2" {
			t.Errorf("%s: got type %q, want %q", f.Name, event.Type, "ScheduleV2")
		} else if event.Properties.ScheduleExpression != want {
			t.Errorf("%s: got schedule expression %q, want %q", f.Name, event.Properties.ScheduleExpression, want)
		}
		for _, r := range []retries{event.Properties.RetryPolicy, got.EventInvokeConfig} {
			if r.MaximumRetryAttempts == nil {
				t.Errorf("%s: got no maximum retry attempts, want one", f.Name)
			} else if *r.MaximumRetryAttempts != 0 {
				t.Errorf("%s: got %d maximum retry attempts, want 0", f.Name, *r.MaximumRetryAttempts)
			}
		}
	}
}

func TestSecretsManagerOfTheAccountMayInvokeWhatRotates(t *testing.T) {
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				Action, Principal, FunctionName, SourceAccount any
			}
		}
	}
	parse(t, &template)
	for _, f := range manifest.Functions() {
		if f.Trigger.Rotation == nil {
			continue
		}
		got := template.Resources[manifest.CamelCase(f.Name)+"Permission"]
		if got.Type != "AWS::Lambda::Permission" {
			t.Errorf("%s: got type %q, want %q", f.Name, got.Type, "AWS::Lambda::Permission")
		}
		for property, values := range map[string][2]any{
			"Action":        {got.Properties.Action, "lambda:InvokeFunction"},
			"Principal":     {got.Properties.Principal, "secretsmanager.amazonaws.com"},
			"FunctionName":  {got.Properties.FunctionName, map[string]any{"Ref": manifest.CamelCase(f.Name) + "Function"}},
			"SourceAccount": {got.Properties.SourceAccount, map[string]any{"Ref": "AWS::AccountId"}},
		} {
			if diff := cmp.Diff(values[1], values[0]); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", f.Name, property, diff)
			}
		}
	}
}

func TestTemplateHasEveryFunctionAndQueue(t *testing.T) {
	var template struct {
		Resources map[string]struct{ Type string }
	}
	parse(t, &template)
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
	name := manifest.CamelCase("create-log") + "Function"
	if _, ok := template.Resources[name]; !ok {
		t.Errorf("the template has no %s, want one", name)
	}
}

// TestTheBucketKeepsExportsLongerThanTheService: S3 counts from the beginning of an upload, which can
// take manifest.UploadDays and, because rules run at midnight, nearly another day.
func TestTheBucketKeepsExportsLongerThanTheService(t *testing.T) {
	if got, want := manifest.ExportBucketDays*24*time.Hour, export.FileAge+(manifest.UploadDays+1)*24*time.Hour; got != want {
		t.Errorf("the bucket keeps exports for %s, want %s", got, want)
	}
}
