package localcloud

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

// WithLocalIngest opens the ingest queue of a data folder for a function. The error is sqlite.ErrInUse if a
// service has the folder open.
func WithLocalIngest(ctx context.Context, data string, use func(ingest.Queue) error) error {
	return withFile(ctx, data, func(db *sqlite.DB) error { return use(embedded.Queue(db, manifest.QueueIngest)) })
}

// IngestSQS returns the ingest queue of an account.
func IngestSQS(engines config.Engines) ingest.Queue {
	return queues.New(engines).Queue(manifest.QueueIngest)
}
