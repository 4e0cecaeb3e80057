// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command get-openapi is the Lambda function with this task:
// Return the OpenAPI document.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/apispec"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartHTTP(apispec.GetOpenAPI(services.Gate()))
}
