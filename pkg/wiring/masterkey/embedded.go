//go:build embedded

package masterkey

import (
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// named opens the key in the data folder.
func named(o *fromenv.Opening) (protect.KeyWrapper, error) {
	wrapper, _, err := inFolder(config.LocalFolder + o.Settings.Data)
	return wrapper, err
}
