package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// finding is what cdk-nag complains of.
type finding struct{ rule, resource, about string }

// TestNagFindsNothingWithoutAReason runs the rules of AWS Solutions. A finding that stays has
// its reason in accepted, and each of these still has a finding.
func TestNagFindsNothingWithoutAReason(t *testing.T) {
	used := map[string]bool{}
	for _, f := range nagFindings(t) {
		if accepted[f.rule] == "" {
			t.Errorf("%s: %s: %s, want no finding, or a reason", f.rule, f.resource, f.about)
		}
		used[f.rule] = true
	}
	for rule := range accepted {
		if !used[rule] {
			t.Errorf("got no finding of %s, want its reason removed", rule)
		}
	}
}

func nagFindings(t *testing.T) []finding {
	t.Helper()
	s := table()
	s.bootstraps = filepath.Join(folder, "bootstraps")
	out := filepath.Join(folder, "nag")
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(out), AnalyticsReporting: jsii.Bool(false)})
	rules := cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{
		Reports: jsii.Bool(true), ReportFormats: &[]cdknag.NagReportFormat{cdknag.NagReportFormat_CSV},
	})
	// Aspects of the app do not reach the stages, and the pipeline synthesises those that it
	// is given. It has none here.
	prod := Environments()[2]
	awscdk.Aspects_Of(addEnvironment(app, prod, s)).Add(rules, nil)
	addDelivery(app, nil, nil)
	awscdk.Aspects_Of(app).Add(rules, nil)
	app.Synth(nil)
	files, err := filepath.Glob(filepath.Join(out, "*-NagReport.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(files), len(synthesised["prod"])+1; got != want {
		t.Fatalf("got %d reports of stacks, want %d", got, want)
	}
	var all []finding
	for _, file := range files {
		for _, row := range readCSV(t, file) {
			const rule, resource, compliance, level, about = 0, 1, 2, 4, 5
			if row[compliance] == "Non-Compliant" && row[level] != "Warning" {
				all = append(all, finding{row[rule], row[resource], row[about]})
			}
		}
	}
	return all
}

func readCSV(t *testing.T, file string) [][]string {
	t.Helper()
	opened, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	rows, err := csv.NewReader(opened).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return rows[1:]
}

// accepted are the rules whose findings stay, each with its reason.
var accepted = map[string]string{
	"AwsSolutions-IAM5":  "wildcardFaults checks every role more strictly; the pipeline's roles are the CDK's own",
	"AwsSolutions-APIG2": "the document has the validators, which the rule looks for as resources; validatorFaults checks them",
	"AwsSolutions-APIG4": "connect-stream authenticates, and $connect answers before any other route",
	"AwsSolutions-S1":    "CloudTrail records who reads the buckets; a log bucket would need the same rule again",
	"AwsSolutions-SMG4":  "the connection string changes by the steps of docs/deploy.md, two users in turn; the rule does not see the cursor key's rotation in another stack",
	"AwsSolutions-OS3":   "the domain is in the VPC and accepts connections of the functions' group alone",
	"AwsSolutions-DOC2":  "the port is no secret: only the functions' group reaches it",
	"AwsSolutions-DOC3":  "DocumentDB manages the password in Secrets Manager, which the rule does not know",
	"AwsSolutions-DOC5":  "the audit log has these events; DocumentDB exports it as a whole",
	"AwsSolutions-CB4":   "the pipeline's artifacts are templates and binaries of public source",
}
