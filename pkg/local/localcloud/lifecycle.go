package localcloud

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// expireEvery is the time between two removals of old exports.
const expireEvery = time.Hour

// exportAge is the age at which a bucket removes files that the service could not remove.
const exportAge = manifest.ExportBucketDays * 24 * time.Hour

// expireExports removes old files of exports until ctx ends. It stands in for the lifecycle rules of a
// bucket.
func (r *runner) expireExports(ctx context.Context) {
	ticks := time.NewTicker(expireEvery)
	defer ticks.Stop()
	for ctx.Err() == nil {
		if err := r.engine.files.RemoveOlder(ctx, time.Now().Add(-exportAge)); err != nil && ctx.Err() == nil {
			r.Log.ErrorContext(ctx, "old exports were not removed", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
}
