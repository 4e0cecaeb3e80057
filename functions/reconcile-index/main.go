// Command reconcile-index is the Lambda whose task is to send stored entries that the index lacks to it again.
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
	lambdaedge.StartSchedule(services.Reconciler().Run)
}
