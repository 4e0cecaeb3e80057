//go:build embedded

package archivefiles

import (
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// named opens the files in the data folder.
func named(o *fromenv.Opening) (wiring.ArchiveFiles, error) {
	files, _, err := inFolder(config.LocalFolder + filepath.Join(o.Settings.Data, Folder))
	return files, err
}
