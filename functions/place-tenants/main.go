// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command place-tenants is the Lambda function with this task:
// Give large tenants search indexes of their own and prepare those of the next month.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, searchindex.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartSchedule(services.PlaceTenants())
}
