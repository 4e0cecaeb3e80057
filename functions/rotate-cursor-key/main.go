// Code generated from pkg/manifest by go generate ./pkg/wiring/mains. DO NOT EDIT.

// Command rotate-cursor-key is the Lambda function with this task:
// Add a key of cursors and tickets, and have the one before sign.
package main

import (
	"context"
	"log"

	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cursorkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func main() {
	services, err := fromenv.Services(context.Background(), cursorkey.FromEnv)
	if err != nil {
		log.Fatal(err)
	}
	lambdaedge.StartRotation(services.RotateCursorKey())
}
