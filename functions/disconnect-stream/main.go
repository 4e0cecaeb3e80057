// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command disconnect-stream is the Lambda function with this task:
// Remove a connection that has ended.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartMessage(httpapi.DisconnectStream(services.Gate(), services.Stream()))
}
