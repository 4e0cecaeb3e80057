// Package sockets opens the connections of the WebSocket API for a Lambda. It sends
// frames to clients through API Gateway, or through the local runner with the build tag
// "embedded".
package sockets

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the WebSocket API that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencySockets, Open: open}

func open(_ context.Context, o *fromenv.Opening) error {
	endpoint, account := target(o.Settings)
	gateway, err := wsgateway.New(endpoint, awsconfig.New(account))
	if err != nil {
		return err
	}
	o.Stores.Sockets = gateway
	return nil
}
