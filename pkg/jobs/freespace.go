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

// scrubStep is how much one call of Space erases.
const scrubStep = 5000

// Do is the Task of TaskFreeSpace. It sends the task again if something is left.
func (f *FreeSpace) Do(ctx context.Context, tenant audit.TenantID, _ json.RawMessage) error {
	for end := f.Now().Add(SliceTime); f.Now().Before(end); {
		n, err := f.Space.Purge(ctx, tenant, scrubStep)
		if err != nil {
			return fmt.Errorf("erase the free space: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
	return SendTask(ctx, f.Queue, tenant, TaskFreeSpace, nil)
}
