// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command connect-stream is the Lambda function with this task:
// Open a client's connection to the live stream.
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
	"github.com/ocelot-audit/ocelot/pkg/wiring/tokens"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, queues.FromEnv, cursorkey.FromEnv, tokens.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartConnect(httpapi.ConnectStream(services.Gate(), services.Stream()))
}
