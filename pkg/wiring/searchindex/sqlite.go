//go:build embedded

package searchindex

import (
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

var open = fromenv.Embedded(embedded.UseIndex)
