// Package tombstones opens the store of what outlives a restore of the database: a bucket of S3, or a
// folder. It makes no call to S3.
package tombstones

import (
	"context"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the store that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyTombstones, Open: open}

func open(_ context.Context, o *fromenv.Opening) error {
	blobs, err := named(o)
	if err != nil {
		return err
	}
	o.Stores.Tombstones = blobs
	return nil
}

// Folder is the folder of the tombstones in a data folder.
const Folder = "tombstones"

// inFolder opens the folder if the name is config.LocalFolder and the folder.
func inFolder(name string) (blobs erasure.Blobs, is bool, err error) {
	folder, is := strings.CutPrefix(name, config.LocalFolder)
	if !is {
		return nil, false, nil
	}
	files, err := fileblob.Open(folder)
	return files, true, err
}
