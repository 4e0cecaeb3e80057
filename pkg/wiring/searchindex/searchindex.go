// Package searchindex opens the search index of a Lambda. It is OpenSearch, or
// SQLite with the build tag "embedded".
package searchindex

import (
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the search index that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencySearch, Open: open}
