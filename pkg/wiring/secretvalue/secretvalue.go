// Package secretvalue returns the values of secrets that the environment holds, or
// names by their ARN in Secrets Manager.
package secretvalue

import (
	"context"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// Resolve returns the value of the variable's secret. If the variable holds an ARN, it
// fetches the value from Secrets Manager, else it makes no call. The error names the
// variable and never the value.
func Resolve(ctx context.Context, o *fromenv.Opening, variable string, value config.Secret) (config.Secret, error) {
	fetched, err := fetch(ctx, o, value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if isKey(variable) {
		err = config.CheckSecret(variable, fetched)
	}
	return fetched, err
}

// isKey reports whether the variable's value is used as a key, and not as an address.
func isKey(variable string) bool {
	return variable == "OCELOT_CURSOR_KEY" || variable == "OCELOT_JWT_SECRET"
}
