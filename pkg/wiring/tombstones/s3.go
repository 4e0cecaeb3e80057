//go:build !embedded

package tombstones

import (
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/s3blob"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func named(o *fromenv.Opening) (erasure.Blobs, error) {
	return Open(o.Settings.TombstonesBucket, o.Settings.AWS)
}

// Open opens the bucket of S3 with this name, or the folder that config.LocalFolder names.
func Open(name string, aws config.AWS) (erasure.Blobs, error) {
	if blobs, is, err := inFolder(name); is {
		return blobs, err
	}
	return s3blob.Open(awsconfig.New(aws), name)
}
