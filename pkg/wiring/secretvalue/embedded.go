//go:build embedded

package secretvalue

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// fetch returns the value itself: the runner passes secrets in the environment.
func fetch(_ context.Context, _ *fromenv.Opening, value config.Secret) (config.Secret, error) {
	return value, nil
}
