//go:build embedded

package records

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
	embedded.UseRecords(&o.Stores, db)
	return nil
}
