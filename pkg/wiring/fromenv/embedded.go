//go:build embedded

package fromenv

import (
	"context"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// Settings are those of a function over the embedded engine.
type Settings = config.Embedded

// ConsumerTenantTTL is that of other functions: reading a record again is cheap here.
const ConsumerTenantTTL = wiring.TenantTTL

func read(needs ...manifest.Dependency) (Settings, error) { return config.ReadEmbedded(needs...) }

// db returns the embedded engine. The first call opens the file, which the
// function shares with other functions and with the runner.
func (o *Opening) db(ctx context.Context) (*sqlite.DB, error) {
	if db, opened := o.Shared.(*sqlite.DB); opened {
		return db, nil
	}
	db, err := sqlite.Open(ctx, filepath.Join(o.Settings.Data, embedded.File), sqlite.WithSharedFile())
	if err != nil {
		return nil, err
	}
	o.Shared = db
	o.Stores.Dependencies = append(o.Stores.Dependencies, embedded.Health(db))
	return db, nil
}

// Embedded returns a function that opens the embedded engine and sets stores of it with use.
func Embedded(use func(*wiring.Stores, *sqlite.DB)) func(context.Context, *Opening) error {
	return func(ctx context.Context, o *Opening) error {
		db, err := o.db(ctx)
		if err != nil {
			return err
		}
		use(&o.Stores, db)
		return nil
	}
}
