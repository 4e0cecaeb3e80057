//go:build !embedded

package archivefiles

import (
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func named(o *fromenv.Opening) (wiring.ArchiveFiles, error) {
	return Open(o.Settings.ArchiveBucket, o.Settings.AWS)
}

// Open opens the bucket of S3 with this name, or the folder that config.LocalFolder names.
func Open(name string, aws config.AWS) (wiring.ArchiveFiles, error) {
	if files, is, err := inFolder(name); is {
		return files, err
	}
	return s3blob.Open(awsconfig.New(aws), name)
}
