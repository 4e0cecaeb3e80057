package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pipelineFaults says what is wrong with the pipeline.
func pipelineFaults(s stacks) []string {
	var f faults
	for _, pipeline := range f.some(s, "AWS::CodePipeline::Pipeline") {
		var order []string
		for _, stage := range list(pipeline.get("Stages")) {
			order = append(order, strings.TrimPrefix(textOf(at(stage, "Name")), prefix))
		}
		if want := []string{"Source", "Build", "UpdatePipeline", "Assets", "dev", "staging", "prod"}; !slices.Equal(order, want) {
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
