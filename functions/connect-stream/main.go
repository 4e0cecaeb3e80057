// Command connect-stream is the Lambda whose task is to let a client connect for the live stream.
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
	lambdaedge.StartConnect(httpapi.ConnectStream(services.Gate(), services.Stream()))
}
