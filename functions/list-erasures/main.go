// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command list-erasures is the Lambda function with this task:
// List a tenant's erasures.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cursorkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, queues.FromEnv, cursorkey.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.ListErasures(services.Gate(), services.Erasures(), services.Cursors()))
}
