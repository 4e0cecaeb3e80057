//go:build !embedded

package fromenv

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/cloud"
)

// stores returns the engines of production.
func stores(ctx context.Context) (wiring.Stores, config.Function, error) {
	settings, err := config.ReadCloud()
	if err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	if err := cloud.ResolveSecrets(ctx, &settings); err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	opened, err := cloud.Stores(settings.Engines)
	return opened, settings.Function, err
}
