//go:build !embedded

package cursorkey

import (
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/engine/secrets"
	"github.com/ocelot-audit/ocelot/pkg/rotation"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

// versions returns what opens the versions of the secret in Secrets Manager. Most functions never
// do.
func versions(o *fromenv.Opening) func() (rotation.Versions, error) {
	return func() (rotation.Versions, error) {
		return secrets.NewVersions(awsconfig.New(o.Settings.AWS), string(o.Settings.CursorKey))
	}
}
