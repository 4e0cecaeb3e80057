// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command cleanup-logs is the Lambda function with this task:
// Start the removal of entries before their end, or preview it.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/masterkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, searchindex.FromEnv, queues.FromEnv, masterkey.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.CleanupLogs(services.Gate(), services.Cleanups()))
}
