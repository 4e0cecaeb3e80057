// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command run-jobs is the Lambda function with this task:
// Do a slice of a job, such as the deletion of a tenant, or a task, such as comparing the index.
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
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
	"github.com/ocelot-audit/ocelot/pkg/wiring/tombstones"
)

func main() {
	services, err := fromenv.Services(context.Background(), records.FromEnv, searchindex.FromEnv, queues.FromEnv, masterkey.FromEnv, exportfiles.FromEnv, tombstones.FromEnv, archivefiles.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartQueue(services.RunJobs(), services.Stores.Source)
}
