package wiring

import (
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// LimitsOf returns the quotas of the settings.
func LimitsOf(rates config.Rates) quota.Limits {
	limit := func(r config.Rate) quota.Limit { return quota.Limit{Rate: int64(r.PerSecond), Burst: int64(r.Burst)} }
	return quota.Limits{Standard: limit(rates.Standard), Priority: limit(rates.Priority), Credential: limit(rates.Credential)}
}
