// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command unsubscribe-stream is the Lambda function with this task:
// End a client's subscription.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/sockets"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, queues.FromEnv, sockets.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartMessage(httpapi.UnsubscribeStream(services.Gate(), services.Stream()))
}
