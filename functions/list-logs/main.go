// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command list-logs is the Lambda function with this task:
// List entries by filter and full text.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cursorkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, searchindex.FromEnv, queues.FromEnv, cursorkey.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.ListLogs(services.Gate(), services.Search()))
}
