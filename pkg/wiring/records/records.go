// Package records opens the database of a Lambda: the system of record and every
// other stored record. It is MongoDB, or SQLite with the build tag "embedded".
package records

import (
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the database that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyRecords, Open: open}
