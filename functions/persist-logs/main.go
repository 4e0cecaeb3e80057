// Command persist-logs is the Lambda whose task is to store accepted entries in the system of record.
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
	lambdaedge.StartQueue(services.Persister().Persist, services.Stores.Source)
}
