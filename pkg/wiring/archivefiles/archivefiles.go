// Package archivefiles opens the store of the archive: a bucket of S3, or a folder. It makes no call to S3.
package archivefiles

import (
	"context"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the store that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyArchive, Open: open}

func open(_ context.Context, o *fromenv.Opening) error {
	files, err := named(o)
	if err != nil {
		return err
	}
	o.Stores.Archive = files
	return nil
}

// Folder is the folder of the archive in a data folder.
const Folder = "archive"

// inFolder opens the folder if the name is config.LocalFolder and the folder. Its files are those that S3
// would have, so that other programs can read them.
func inFolder(name string) (files wiring.ArchiveFiles, is bool, err error) {
	folder, is := strings.CutPrefix(name, config.LocalFolder)
	if !is {
		return nil, false, nil
	}
	files, err = fileblob.OpenPlain(folder)
	return files, true, err
}
