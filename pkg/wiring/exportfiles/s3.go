//go:build !embedded

package exportfiles

import (
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func named(o *fromenv.Opening) (wiring.ExportFiles, error) {
	return Open(o.Settings.ExportsBucket, o.Settings.AWS)
}

// Open opens the bucket of S3 with this name, or the folder that config.LocalFolder names.
func Open(name string, aws config.AWS) (wiring.ExportFiles, error) {
	if files, is, err := inFolder(name); is {
		return files, err
	}
	return s3blob.Open(awsconfig.New(aws), name)
}
