//go:build embedded

package queues

import (
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

var open = fromenv.Embedded(embedded.UseQueues)
