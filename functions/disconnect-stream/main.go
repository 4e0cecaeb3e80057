// Command disconnect-stream is the Lambda whose task is to forget a connection that has ended.
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
	lambdaedge.StartMessage(httpapi.DisconnectStream(services.Gate(), services.Stream()))
}
