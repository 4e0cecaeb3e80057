// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command authorize-request is the Lambda function with this task:
// Check whether a request's credential may access its tenant.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/tokens"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, queues.FromEnv, tokens.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartAuthorizer(services.AuthorizeRequest())
}
