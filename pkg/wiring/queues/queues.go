// Package queues opens the queues of a Lambda. They are in SQS, or in SQLite with
// the build tag "embedded".
package queues

import (
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the queues that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyQueues, Open: open}
