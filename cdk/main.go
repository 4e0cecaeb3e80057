// Command cdk writes the CloudFormation templates of Ocelot's environments to cdk.out: one
// group of stacks for each environment, and the pipeline that deploys them. It loops over
// pkg/manifest. Run it by `make synth`.
package main

import (
	"log"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	s := service{
		functions: manifest.Functions(), queues: manifest.Queues(), document: apispec.OpenAPI(),
		bootstraps: setting(app, "bootstraps", "../bin/lambdas/arm64"),
	}
	environments, err := chosen(setting(app, "environments", "dev,staging,prod"), setting(app, "basic", "") == "true")
	if err != nil {
		log.Fatal(err)
	}
	addApp(app, environments, s)
	app.Synth(nil)
	if err := writeAccessControl(*app.Outdir(), environments, s.functions); err != nil {
		log.Fatal(err)
	}
}

// setting returns a value of the CDK's context, which `-c name=value` sets.
func setting(app awscdk.App, name, otherwise string) string {
	if value, is := app.Node().TryGetContext(jsii.String(name)).(string); is {
		return value
	}
	return otherwise
}
