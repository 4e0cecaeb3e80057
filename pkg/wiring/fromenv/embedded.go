//go:build embedded

package fromenv

import (
	"context"
	"path/filepath"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// drainPeriod is how long a consumer may still write for a tenant after its deletion:
// another process has the tenant's record cached for five seconds, and its batch
// of a local file takes no longer.
const drainPeriod = 10 * time.Second

// stores returns the embedded engine, for functions that run on a laptop beside
// one another and beside the runner that polls the queues.
func stores(ctx context.Context) (wiring.Stores, config.Function, error) {
	settings, err := config.ReadEmbedded()
	if err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	db, err := sqlite.Open(ctx, filepath.Join(settings.Data, embedded.File), sqlite.WithSharedFile())
	if err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	opened := embedded.Stores(db)
	opened.DrainPeriod = drainPeriod
	// The runner that takes what is sent knows its own by the address alone.
	runner := config.AWS{Region: "local", AccessKeyID: "local", SecretAccessKey: config.Secret("local")}
	if opened.Sockets, err = wsgateway.New(settings.Sockets, awsconfig.New(runner)); err != nil {
		return wiring.Stores{}, config.Function{}, err
	}
	return opened, settings.Function, nil
}
