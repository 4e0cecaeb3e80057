package localcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
)

// RedriveLocal moves the dead letters of the queues in a data folder back, and
// reports how many of each queue. The error is sqlite.ErrInUse if a service has
// the folder open.
func RedriveLocal(ctx context.Context, data string, names []manifest.QueueName, report func(manifest.QueueName, int64)) error {
	return withFile(ctx, data, func(db *sqlite.DB) error {
		return redrive(ctx, names, func(name manifest.QueueName) redriver { return embedded.Queue(db, name) }, report)
	})
}

// withFile opens the file of a data folder for a function.
func withFile(ctx context.Context, data string, use func(*sqlite.DB) error) error {
	path := filepath.Join(data, embedded.File)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s is no data folder: %w", data, err)
	}
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	return errors.Join(use(db), db.Close())
}

// RedriveSQS does the same with the queues of an account.
func RedriveSQS(ctx context.Context, engines config.Engines, names []manifest.QueueName, report func(manifest.QueueName, int64)) error {
	source := queues.New(engines)
	return redrive(ctx, names, func(name manifest.QueueName) redriver { return source.Queue(name) }, report)
}

type redriver interface {
	Redrive(ctx context.Context) (moved int64, err error)
}

func redrive(ctx context.Context, names []manifest.QueueName, queue func(manifest.QueueName) redriver, report func(manifest.QueueName, int64)) error {
	for _, name := range names {
		moved, err := queue(name).Redrive(ctx)
		if moved > 0 || err == nil {
			report(name, moved)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
