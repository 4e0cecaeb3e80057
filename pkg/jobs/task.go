package jobs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// TaskName names a kind of task.
type TaskName string

// The names of tasks. The input of each is a list of activity.DueDay.
const (
	// TaskReconcileIndex compares days of a tenant in the system of record and in the index.
	TaskReconcileIndex TaskName = "reconcile_index"
	// TaskReconcileArrivals compares days of a tenant in the system of record and in the
	// arrival log.
	TaskReconcileArrivals TaskName = "reconcile_arrivals"
	// TaskPruneArrivals removes old segments of a tenant's arrival log.
	TaskPruneArrivals TaskName = "prune_arrivals"
)

// Task does a piece of work that has no record: clients do not see it, and it is not
// resumed. The sender keeps track of what is done, and sends it again if it was lost.
// Doing it twice must do no harm.
type Task func(ctx context.Context, tenant audit.TenantID, input json.RawMessage) error

// SendTask sends a task of a tenant to the workers.
func SendTask(ctx context.Context, q Queue, tenant audit.TenantID, name TaskName, input any) error {
	text, err := json.Marshal(input)
	if err != nil {
		return fmt.Errorf("encode the task %s of %s: %w", name, tenant, err)
	}
	body, err := Message{Tenant: tenant, Task: name, Input: text}.Encode()
	if err == nil {
		err = q.Send(ctx, tenant, []string{body})
	}
	if err != nil {
		return fmt.Errorf("queue the task %s of %s: %w", name, tenant, err)
	}
	return nil
}
