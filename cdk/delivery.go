package main

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscodebuild"
	"github.com/aws/aws-cdk-go/awscdk/v2/pipelines"
)

// addDelivery adds the pipeline. It takes each change of the branch through the environments of
// its region in their order. Someone approves what goes to a protected one. Whoever moves the
// service to another region does it by hand.
func addDelivery(app awscdk.App, environments []Environment, stages []awscdk.Stage) {
	if slices.ContainsFunc(environments, func(e Environment) bool { return e.Basic }) {
		return
	}
	p := pipeline()
	stack := awscdk.NewStack(app, text("Delivery"), &awscdk.StackProps{
		StackName: text(prefix + "Delivery"), Description: text("Ocelot: the pipeline"), Env: &awscdk.Environment{Region: text(p.Region)},
		TerminationProtection: truth(true),
	})
	line := pipelines.NewCodePipeline(stack, text("Pipeline"), &pipelines.CodePipelineProps{
		PipelineName: text(prefix + "delivery"), CliVersion: text(cliVersion),
		PublishAssetsInParallel: truth(false), // otherwise each function has a project of its own
		CodeBuildDefaults: &pipelines.CodeBuildOptions{BuildEnvironment: &awscodebuild.BuildEnvironment{
			BuildImage: awscodebuild.LinuxBuildImage_AMAZON_LINUX_2023_5(), ComputeType: awscodebuild.ComputeType_LARGE,
		}},
		Synth: pipelines.NewShellStep(text("Synth"), &pipelines.ShellStepProps{
			Input: pipelines.CodePipelineSource_Connection(text(p.Repository), text(p.Branch), &pipelines.ConnectionSourceOptions{
				ConnectionArn: text(p.ConnectionARN),
			}),
			Commands: texts("make synth"), PrimaryOutputDirectory: text("cdk/cdk.out"),
		}),
	})
	for i, e := range environments {
		if e.Region != p.Region {
			continue
		}
		var options *pipelines.AddStageOpts
		if e.Protected {
			options = &pipelines.AddStageOpts{Pre: &[]pipelines.Step{
				pipelines.NewManualApprovalStep(text("Approve-"+e.Name), &pipelines.ManualApprovalStepProps{Comment: text("Release to " + e.Name)}),
			}}
		}
		line.AddStage(stages[i], options)
	}
}

// cliVersion is the version of the npm package aws-cdk.
const cliVersion = "2.1148.1"
