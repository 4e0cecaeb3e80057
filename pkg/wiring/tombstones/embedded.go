//go:build embedded

package tombstones

import (
	"fmt"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// named opens the folder that is named, or else the one in the data folder.
func named(o *fromenv.Opening) (erasure.Blobs, error) {
	name := o.Settings.TombstonesBucket
	if name == "" {
		name = config.LocalFolder + filepath.Join(o.Settings.Data, Folder)
	}
	blobs, is, err := inFolder(name)
	if !is {
		return nil, fmt.Errorf("tombstones in %s: this binary has the embedded engine, which keeps them in a folder, as %sDIR", name, config.LocalFolder)
	}
	return blobs, err
}
