//go:build !embedded

package fromenv

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// Settings are those of a function over the engines of production.
type Settings = config.Cloud

// drainPeriod is how long a consumer may still write for a tenant after its
// deletion. It caches the tenant's record for wiring.TenantTTL, and then works on a
// batch for up to half a minute.
const drainPeriod = time.Minute

func read(needs ...manifest.Dependency) (Settings, error) { return config.ReadCloud(needs...) }
