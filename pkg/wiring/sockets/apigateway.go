//go:build !embedded

package sockets

import (
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// target returns the endpoint of the WebSocket API and the account that signs calls.
func target(s fromenv.Settings) (endpoint string, account config.AWS) {
	return s.AWS.Endpoints[config.SocketsService], s.AWS
}
