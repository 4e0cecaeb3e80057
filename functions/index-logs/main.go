// Command index-logs is the Lambda whose task is to make stored entries findable.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartQueue(services.Indexer().IndexMessage, services.Stores.Source)
}
