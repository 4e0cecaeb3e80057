// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command stream-logs is the Lambda function with this task:
// Send the entries of a tenant to its live subscribers.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cursorkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/sockets"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.WithConnections(2), queues.FromEnv, sockets.FromEnv, cursorkey.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartQueue(services.StreamLogs(), services.Stores.Source)
}
