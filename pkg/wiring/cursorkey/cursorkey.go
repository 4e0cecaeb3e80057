// Package cursorkey reads the key with which a Lambda signs cursors and tickets.
package cursorkey

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

// FromEnv reads the key that the environment holds or names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyCursorKey, Open: open}

func open(ctx context.Context, o *fromenv.Opening) error {
	key, err := secretvalue.Resolve(ctx, o, "OCELOT_CURSOR_KEY", o.Settings.CursorKey)
	o.Security.CursorKey = key
	return err
}
