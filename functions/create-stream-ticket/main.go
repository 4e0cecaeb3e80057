// Command create-stream-ticket is the Lambda whose task is to create a ticket with which a browser connects for the live stream.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.CreateStreamTicket(services.Gate(), services.Stream(), services.StreamURL))
}
