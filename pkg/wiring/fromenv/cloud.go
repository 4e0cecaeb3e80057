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

// drainPeriod is how long a consumer may still write for a tenant after its deletion: it uses
// a record of up to ConsumerTenantTTL, and then works on a batch for up to half a minute. The
// rest is for clocks that differ.
const drainPeriod = ConsumerTenantTTL + 30*time.Second + 10*time.Second

func read(needs ...manifest.Dependency) (Settings, error) { return config.ReadCloud(needs...) }
