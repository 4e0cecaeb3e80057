package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TaskName names a kind of task.
type TaskName string

// The names of tasks. The input is a list of activity.DueDay, if nothing else is said.
const (
	// TaskReconcileIndex compares days of a tenant in the system of record and in the index.
	TaskReconcileIndex TaskName = "reconcile_index"
	// TaskReconcileArrivals compares days of a tenant in the system of record and in the
	// arrival log.
	TaskReconcileArrivals TaskName = "reconcile_arrivals"
	// TaskPruneArrivals removes old segments of a tenant's arrival log.
	TaskPruneArrivals TaskName = "prune_arrivals"
	// TaskRetain marks, unmarks and removes expired entries of days of a tenant.
	TaskRetain TaskName = "retain"
	// TaskRetainAgain makes all days of a tenant due whose retention or archive has changed, and shares
	// out those that are due for TaskRetain. It has no input.
	TaskRetainAgain TaskName = "retain_again"
	// TaskArchive starts the jobs that archive days of a tenant, and removes parts of its archive after
	// their end.
	TaskArchive TaskName = "archive"
	// TaskPlanArchive shares out further days that are due for TaskArchive. Its tenant has nothing to do with
	// them, and its input is that of activity.Plan.Do.
	TaskPlanArchive TaskName = "plan_archive"
	// TaskFreeSpace erases what removals left in the embedded engine's file. Its input is that of FreeSpace.Do. Its
	// tenant has nothing to do with it.
	TaskFreeSpace TaskName = "free_space"
)

// Task does a piece of work that has no record: clients do not see it, and it is not
// resumed. The sender keeps track of what is done, and sends it again if it was lost.
// Doing it twice must do no harm.
type Task func(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error

// SendTask sends a task of a tenant to the workers. A nil input is none.
func SendTask(ctx context.Context, q Queue, tenant audit.TenantID, name TaskName, input any) error {
	return SendTaskAfter(ctx, q, tenant, 0, name, input)
}

// SendTaskAfter is SendTask with a delay of up to MaxDelay.
func SendTaskAfter(ctx context.Context, q Queue, tenant audit.TenantID, delay time.Duration, name TaskName, input any) error {
	m := Message{Tenant: tenant, Task: name}
	if input != nil {
		text, err := json.Marshal(input)
		if err != nil {
			return fmt.Errorf("encode the task %s of %s: %w", name, tenant, err)
		}
		m.Input = text
	}
	body, err := m.Encode()
	if err == nil {
		err = deliver(ctx, q, tenant, delay, body)
	}
	if err != nil {
		return fmt.Errorf("queue the task %s of %s: %w", name, tenant, err)
	}
	return nil
}
