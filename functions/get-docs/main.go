// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command get-docs is the Lambda function with this task:
// Return the documentation page.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/apidocs"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(apidocs.GetDocs(services.Gate()))
}
