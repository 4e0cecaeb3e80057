// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command replay-erasures is the Lambda function with this task:
// Destroy again the erased keys that a restore of the database brought back.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/tombstones"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, tombstones.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartSchedule(services.ReplayErasures())
}
