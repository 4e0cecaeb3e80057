//go:build !embedded

package masterkey

import (
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/kmskeys"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func named(o *fromenv.Opening) (protect.KeyWrapper, error) {
	return Open(o.Settings.MasterKey, o.Settings.AWS)
}

// Open opens the key of AWS KMS with this name, or the one in the folder that config.LocalFolder
// names.
func Open(name string, aws config.AWS) (protect.KeyWrapper, error) {
	if wrapper, is, err := inFolder(name); is {
		return wrapper, err
	}
	return kmskeys.New(awsconfig.New(aws), name), nil
}
