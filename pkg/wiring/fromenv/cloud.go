//go:build !embedded

package fromenv

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Settings are those of a function over the engines of production.
type Settings = config.Cloud

// ConsumerTenantTTL is how long consumers use a tenant's record. Settings take effect within
// that time.
const ConsumerTenantTTL = time.Minute

func read(needs ...manifest.Dependency) (Settings, error) { return config.ReadCloud(needs...) }
