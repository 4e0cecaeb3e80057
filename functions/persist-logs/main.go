// Command persist-logs is the Lambda whose task is to store accepted entries in the system of record.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

func main() {
	services, err := wiring.FromEnvironment(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartQueue(services.Persister().Persist)
}
