// Package records opens the database of a Lambda: the system of record and every
// other stored record. It is MongoDB, or SQLite with the build tag "embedded".
package records

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the database that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyRecords, Open: open}

// WithConnections is FromEnv with at most so many connections to a server.
func WithConnections(n int) fromenv.Dependency {
	return fromenv.Dependency{Name: manifest.DependencyRecords, Open: func(ctx context.Context, o *fromenv.Opening) error {
		o.Connections = n
		return open(ctx, o)
	}}
}
