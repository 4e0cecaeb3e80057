//go:build embedded

package queues

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
)

func open(ctx context.Context, o *fromenv.Opening) error {
	db, err := o.DB(ctx)
	if err != nil {
		return err
	}
	embedded.UseQueues(&o.Stores, db)
	return nil
}
