//go:build embedded

package records

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

var useEmbedded = fromenv.Embedded(embedded.UseRecords)

func open(ctx context.Context, o *fromenv.Opening, _ int) error { return useEmbedded(ctx, o) }
