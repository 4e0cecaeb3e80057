package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// FreeSpace erases what removed records left in a file, in slices of a few minutes.
type FreeSpace struct {
	Space Purger
	Queue Queue
	Now   func() time.Time
}

// scrubStep is how much one call of a Purger of free space erases.
const scrubStep = 5000

// Do is the Task of TaskFreeSpace. It sends the task again if something is left.
func (f *FreeSpace) Do(ctx context.Context, tenant audit.TenantID, _ json.RawMessage) error {
	end := f.Now().Add(SliceTime)
	done, err := Scrub(ctx, f.Space, tenant, func() bool { return !f.Now().Before(end) })
	if err != nil || done {
		return err
	}
	return SendTask(ctx, f.Queue, tenant, TaskFreeSpace, nil)
}

// Scrub erases what removed records left in a file until nothing is left or the time is up. It
// reports whether nothing is left.
func Scrub(ctx context.Context, space Purger, tenant audit.TenantID, timeUp func() bool) (bool, error) {
	for {
		n, err := space.Purge(ctx, tenant, scrubStep)
		if err != nil {
			return false, fmt.Errorf("erase the free space: %w", err)
		}
		if n == 0 || timeUp() {
			return n == 0, nil
		}
	}
}
