// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command get-export is the Lambda function with this task:
// Return the state of an export, with a URL of its file.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/masterkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, queues.FromEnv, masterkey.FromEnv, exportfiles.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(httpapi.GetExport(services.Gate(), services.ExportJobs()))
}
