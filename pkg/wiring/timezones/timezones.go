// Package timezones has the tz database, which functions need that count by time zone. A
// function's machine may have none.
package timezones

import (
	"context"
	"time"
	_ "time/tzdata" // about 450 KB of a binary

	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// FromEnv lets a function count by time zone. It reads no setting.
var FromEnv = fromenv.Dependency{Name: manifest.DependencyTimeZones, Open: func(_ context.Context, o *fromenv.Opening) error {
	Use(&o.Stores)
	return nil
}}

// Use lets a process count by time zone.
func Use(stores *wiring.Stores) { stores.TimeZone = time.LoadLocation }
