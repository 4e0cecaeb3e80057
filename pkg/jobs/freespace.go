package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Space is the space of a file in which something is left of removed records. Removals are numbered in their order.
type Space interface {
	// Pending returns the number of the last removal, or 0 if nothing is left of what was removed.
	Pending(ctx context.Context) (removal int64, err error)
	// Erase does one step. It reports whether nothing is left of what was removed up to a removal. Later removals do
	// not hold that up. Several calls may run at the same time.
	Erase(ctx context.Context, removal int64) (done bool, err error)
}

// FreeSpace erases what removed records left in a file, in slices. One task at a time does so in the process.
type FreeSpace struct {
	Space Space
	Queue Queue
	Now   func() time.Time

	turn  sync.Mutex
	asked atomic.Bool // by a task that the one under way has not seen
}

// Do is the Task of TaskFreeSpace. Its input is up to which removal it erases; nil: up to the last one. It sends the
// task again if something of that is left. If another one is under way, it ends at once: that one begins again then.
func (f *FreeSpace) Do(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error {
	var removal int64
	if input != nil {
		if err := json.Unmarshal(input, &removal); err != nil {
			return fmt.Errorf("read up to which removal to erase: %w", err)
		}
	}
	if f.asked.Swap(true) { // a task that ended at once was sent after a later removal
		removal = 0
	}
	end := f.Now().Add(SliceTime)
	for done := true; done && f.asked.Load() && f.turn.TryLock(); {
		var err error
		if done, err = f.erase(ctx, &removal, end); err != nil {
			return err
		}
		if !done {
			return SendTask(ctx, f.Queue, tenant, TaskFreeSpace, removal)
		}
	}
	return nil
}

// erase erases in the turn of the task, which it gives back.
func (f *FreeSpace) erase(ctx context.Context, removal *int64, end time.Time) (done bool, err error) {
	defer f.turn.Unlock()
	f.asked.Store(false)
	return Scrub(ctx, f.Space, removal, func() bool { return !f.Now().Before(end) })
}

// Scrub erases what is left of removed records until nothing is left or the time is up. It reports whether nothing is
// left. If removal is 0, it sets it to the last removal. A caller that keeps it waits for no later one. At the end,
// it is 0 again.
func Scrub(ctx context.Context, space Space, removal *int64, timeUp func() bool) (done bool, err error) {
	if *removal == 0 {
		if *removal, err = space.Pending(ctx); err != nil {
			return false, err
		}
	}
	for {
		done, err := space.Erase(ctx, *removal)
		if err != nil {
			return false, fmt.Errorf("erase the free space: %w", err)
		}
		if done {
			*removal = 0
			return true, nil
		}
		if timeUp() {
			return false, nil
		}
	}
}
