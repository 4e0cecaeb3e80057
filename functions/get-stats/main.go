// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command get-stats is the Lambda function with this task:
// Count entries by field and over time.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
	"github.com/ocelot-audit/ocelot/pkg/wiring/timezones"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, searchindex.FromEnv, queues.FromEnv, timezones.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.GetStats(services.Gate(), services.Search()))
}
