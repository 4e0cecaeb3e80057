// Package records opens the database of a Lambda: the system of record and every
// other stored record. It is MongoDB, or SQLite with the build tag "embedded".
package records

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the database that the environment names.
var FromEnv = WithConnections(0)

// WithConnections is FromEnv with at most so many connections to a server; 0: as many as the engine
// opens by itself. The embedded engine has none.
func WithConnections(n int) fromenv.Dependency {
	return fromenv.Dependency{Name: manifest.DependencyRecords, Open: func(ctx context.Context, o *fromenv.Opening) error { return open(ctx, o, n) }}
}
