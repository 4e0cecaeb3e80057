// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command run-archives is the Lambda function with this task:
// Do a slice of a job that reads or writes the archive, or find the days that are to be archived.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/archivefiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/masterkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.WithConnections(2), queues.FromEnv, masterkey.FromEnv, exportfiles.FromEnv, archivefiles.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartQueue(services.RunArchives(), services.Stores.Source)
}
