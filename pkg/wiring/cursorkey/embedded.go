//go:build embedded

package cursorkey

import (
	"github.com/ocelot-audit/ocelot/pkg/rotation"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// versions returns nil: the runner passes the key in the environment, where it stays.
func versions(*fromenv.Opening) func() (rotation.Versions, error) { return nil }
