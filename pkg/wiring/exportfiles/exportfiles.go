// Package exportfiles opens the store of the files of exports. It makes no call to S3: a process calls it
// when it needs a file.
package exportfiles

import (
	"context"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/fileblob"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the store that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyExports, Open: open}

func open(_ context.Context, o *fromenv.Opening) error {
	files, err := named(o)
	if err != nil {
		return err
	}
	o.Stores.Exports = files
	return nil
}

// Folder is the folder of the files in a data folder.
const Folder = "exports"

// DownloadPath is the path at which the service that runs as one process serves the files.
const DownloadPath = "/downloads"

// Local are files in a folder. Downloads serves them at DownloadPath.
type Local struct {
	*fileblob.Blobs
	*fileblob.Downloads
}

// OpenFolder opens the files in a folder.
func OpenFolder(folder string) (Local, error) {
	blobs, err := fileblob.Open(folder)
	if err != nil {
		return Local{}, err
	}
	key, err := blobs.SigningKey()
	if err != nil {
		return Local{}, err
	}
	return Local{blobs, fileblob.NewDownloads(blobs, key, DownloadPath, time.Now)}, nil
}

// inFolder opens the files in a folder if the name is config.LocalFolder and the folder.
func inFolder(name string) (files wiring.ExportFiles, is bool, err error) {
	folder, is := strings.CutPrefix(name, config.LocalFolder)
	if !is {
		return nil, false, nil
	}
	files, err = OpenFolder(folder)
	return files, true, err
}
