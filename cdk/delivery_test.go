package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// pipelineFaults says what is wrong with the pipeline.
func pipelineFaults(s stacks) []string {
	var f faults
	for _, pipeline := range f.some(s, "AWS::CodePipeline::Pipeline") {
		if order, want := stagesOf(pipeline), []string{"Source", "Build", "UpdatePipeline", "Assets", "dev", "staging", "prod"}; !slices.Equal(order, want) {
			f.addf("got the stages %v, want %v", order, want)
			continue
		}
		f.want(pipeline, "Stages.6.Actions.0.ActionTypeId.Category", "Approval")
		if got := textOf(at(pipeline.get("Stages.0.Actions.0"), "ActionTypeId.Provider")); got != "CodeStarSourceConnection" {
			f.addf("got the source %q, want a connection", got)
		}
	}
	const projects = 3 // synthesis, the pipeline's own update, assets
	if got := len(f.some(s, "AWS::CodeBuild::Project")); got > projects {
		f.addf("got %d build projects, want at most %d", got, projects)
	}
	return f
}

// stagesOf returns the names of a pipeline's stages, in their order.
func stagesOf(pipeline found) []string {
	var names []string
	for _, stage := range list(pipeline.get("Stages")) {
		names = append(names, strings.TrimPrefix(textOf(at(stage, "Name")), prefix))
	}
	return names
}

func TestThePipelineReleasesThroughEveryEnvironment(t *testing.T) {
	for _, fault := range pipelineFaults(synthesised[""]) {
		t.Error(fault)
	}
	for _, m := range []mutation{
		{"no approval", func(s stacks) bool {
			actions, _ := s.of("AWS::CodePipeline::Pipeline")[0].get("Stages.6.Actions").([]any)
			actions[0].(map[string]any)["ActionTypeId"] = node{"Category": "Deploy"}
			return true
		}},
		{"prod before staging", func(s stacks) bool {
			stages, _ := s.of("AWS::CodePipeline::Pipeline")[0].get("Stages").([]any)
			stages[5], stages[6] = stages[6], stages[5]
			return true
		}},
		removed("AWS::CodePipeline::Pipeline"),
	} {
		changed := synthesised[""].clone(t)
		if !m.apply(changed) {
			t.Errorf("mutation %q found nothing to change, want something", m.name)
		} else if len(pipelineFaults(changed)) == 0 {
			t.Errorf("mutation %q: got no fault, want one", m.name)
		}
	}
}

// TestAnotherRegionTakesOver makes the environment that docs/deploy.md asks for after the loss of a
// region: prod in another one, with the replica of the tenants' key. The pipeline does not know it.
func TestAnotherRegionTakesOver(t *testing.T) {
	prod := Environments()[2]
	dr := prod
	dr.Name, dr.Region, dr.CIDR, dr.Zones = "dr", "eu-west-1", "10.43.0.0/16", []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}
	dr.Domain.CertificateARN = strings.ReplaceAll(prod.Domain.CertificateARN, prod.Region, dr.Region)
	dr.TenantsKey = "arn:aws:kms:eu-west-1:111122223333:key/mrk-00000000000000000000000000000000"
	all, err := synthesise("moved", []Environment{prod, dr}, table())
	if err != nil {
		t.Fatal(err)
	}
	e := environment{deployment: deployment{Environment: dr, service: table()}, stacks: all[dr.Name]}
	for _, c := range checks() {
		for _, fault := range c.faults(e) {
			t.Errorf("%s: %s", c.name, fault)
		}
	}
	for _, pipeline := range all[""].of("AWS::CodePipeline::Pipeline") {
		if got, want := stagesOf(pipeline), []string{"Source", "Build", "UpdatePipeline", "Assets", "prod"}; !slices.Equal(got, want) {
			t.Errorf("got the stages %v, want %v", got, want)
		}
	}
}

// TestTheDocumentNamesEveryQueue: the steps of a restore stop the consumers of all of them.
func TestTheDocumentNamesEveryQueue(t *testing.T) {
	text, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`for queue in (.+); do`).FindStringSubmatch(string(text))
	if match == nil {
		t.Fatal("docs/deploy.md has no loop over the queues, want one")
	}
	var want []string
	for _, q := range manifest.Queues() {
		want = append(want, string(q.Name))
	}
	if got := slices.Sorted(slices.Values(strings.Fields(match[1]))); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("docs/deploy.md stops the consumers of %v, want %v", got, want)
	}
}

// TestBasicLeavesOutWhatSomeAccountsLack: one switch leaves these types out, and nothing else
// of them stays.
func TestBasicLeavesOutWhatSomeAccountsLack(t *testing.T) {
	environments, err := chosen("prod", true)
	if err != nil {
		t.Fatal(err)
	}
	all, err := synthesise("basic", environments, table())
	if err != nil {
		t.Fatal(err)
	}
	if len(all[""]) > 0 {
		t.Error("got a pipeline, want none")
	}
	for _, kind := range []string{
		"AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::EC2::FlowLog", "AWS::EC2::SecurityGroupEgress", "AWS::WAFv2::WebACLAssociation",
		"AWS::WAFv2::LoggingConfiguration", "AWS::CodeDeploy::DeploymentGroup", "AWS::CodeDeploy::Application", "AWS::CloudWatch::CompositeAlarm",
	} {
		if got := len(all["prod"].of(kind)); got > 0 {
			t.Errorf("got %d %s, want none", got, kind)
		}
		if got := len(synthesised["prod"].of(kind)); got == 0 {
			t.Errorf("got no %s without the switch, want some", kind)
		}
	}
}

func TestUnknownEnvironmentIsAnError(t *testing.T) {
	if _, err := chosen("dev,nowhere", false); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got the error %v, want one that names the environment", err)
	}
}

// TestTheCommandLineHasOneVersion: the Makefile and the pages name it too.
func TestTheCommandLineHasOneVersion(t *testing.T) {
	for _, file := range []string{"../Makefile", "../docs/deploy.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		versions := regexp.MustCompile(`aws-cdk@([0-9.]+[0-9])`).FindAllStringSubmatch(string(text), -1)
		if len(versions) == 0 {
			t.Errorf("%s names no version of aws-cdk, want %s", file, cliVersion)
		}
		for _, v := range versions {
			if v[1] != cliVersion {
				t.Errorf("%s names aws-cdk %s, want %s", file, v[1], cliVersion)
			}
		}
	}
}
