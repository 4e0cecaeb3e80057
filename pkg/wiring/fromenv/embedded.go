//go:build embedded

package fromenv

import (
	"context"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// stores returns the embedded engine, for functions that run on a laptop beside
// one another and beside the runner that polls the queues.
func stores(ctx context.Context) (wiring.Stores, config.Function, error) {
	settings, err := config.ReadEmbedded()
	if err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	db, err := sqlite.Open(ctx, filepath.Join(settings.Data, embedded.File), sqlite.WithSharedFile())
	if err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	return embedded.Stores(db), settings.Function, nil
}
