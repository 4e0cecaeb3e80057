//go:build !embedded

package secretvalue

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func fetch(ctx context.Context, o *fromenv.Opening, value config.Secret) (config.Secret, error) {
	if !secrets.IsARN(string(value)) {
		return value, nil
	}
	if o.Secrets == nil { // a start that fetches nothing does not pay for the client
		o.Secrets = secrets.New(awsconfig.New(o.Settings.AWS), time.Now)
	}
	text, err := o.Secrets.Resolve(ctx, string(value))
	return config.Secret(text), err
}
