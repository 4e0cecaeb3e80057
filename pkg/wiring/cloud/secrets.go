package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
)

// ResolveSecrets puts the values of Secrets Manager into the settings that name
// one by its ARN. Where none does, nothing is called.
func ResolveSecrets(ctx context.Context, settings *config.Cloud) error {
	var resolver *secrets.Resolver // a start that needs none does not pay for it
	for name, setting := range map[string]*config.Secret{
		"OCELOT_CURSOR_KEY": &settings.CursorKey, "OCELOT_JWT_SECRET": &settings.Auth.JWTSecret,
		"MONGODB_URI": &settings.MongoURI, "OPENSEARCH_URL": &settings.OpenSearchURL,
	} {
		if !secrets.IsARN(string(*setting)) {
			continue
		}
		if resolver == nil {
			resolver = secrets.New(secrets.NewClient(awsconfig.New(settings.AWS)), time.Now)
		}
		value, err := resolver.Resolve(ctx, string(*setting))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*setting = config.Secret(value)
	}
	return settings.Check()
}
