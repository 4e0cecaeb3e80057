//go:build embedded

package sockets

import (
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// target returns the endpoint of the local runner. The runner checks no signature:
// the endpoint itself is secret.
func target(s fromenv.Settings) (endpoint string, account config.AWS) {
	return s.Sockets, config.AWS{Region: "local", AccessKeyID: "local", SecretAccessKey: config.Secret("local")}
}
