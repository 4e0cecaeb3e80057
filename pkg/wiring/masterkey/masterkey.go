// Package masterkey opens the key that wraps the tenants' keys. It makes no call: a process calls the
// key when it needs the keys of a tenant.
package masterkey

import (
	"context"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/localkeys"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv opens the key that the environment names.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyMasterKey, Open: open}

func open(_ context.Context, o *fromenv.Opening) error {
	wrapper, err := named(o)
	if err != nil {
		return err
	}
	o.Stores.MasterKey = wrapper
	return nil
}

// inFolder opens the key in a folder if the name is config.LocalFolder and the folder.
func inFolder(name string) (wrapper protect.KeyWrapper, is bool, err error) {
	folder, is := strings.CutPrefix(name, config.LocalFolder)
	if !is {
		return nil, false, nil
	}
	wrapper, err = localkeys.Open(folder)
	return wrapper, true, err
}
