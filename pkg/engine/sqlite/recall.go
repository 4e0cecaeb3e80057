package sqlite

import (
	"maps"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
)

// recall has what the writer has read or written lately, so that it need not read it again.
// It is right as long as this process alone writes to the file, and nothing is rolled back.
type recall struct {
	queues map[string]*queueTurns
	heads  map[int64]arrival.Head // of arrival logs, by the tenant's number
}

// queueTurns are the turns of a queue; see turns.go.
type queueTurns struct {
	received int64            // the greatest that was received
	tenants  map[string]int64 // the last turns; a tenant without has no message that waits
	trimmed  int              // the number of tenants after trim
}

// maxRecalled bounds the rows of each kind.
const maxRecalled = 32_768

// forget must be called after a rollback.
func (w *writer) forget() {
	w.recall = recall{queues: map[string]*queueTurns{}, heads: map[int64]arrival.Head{}}
}

// forgetQueues must be called when messages are removed that were not received. To find the turns again takes
// longer the more messages wait.
func (w *writer) forgetQueues() { w.recall.queues = map[string]*queueTurns{} }

// trim forgets tenants of which no message waits, if there are many.
func (q *queueTurns) trim() {
	if len(q.tenants) > maxRecalled && len(q.tenants) > 2*q.trimmed {
		maps.DeleteFunc(q.tenants, func(_ string, last int64) bool { return last <= q.received })
		q.trimmed = len(q.tenants)
	}
}

// noteHead notes the end of a tenant's arrival log.
func (w *writer) noteHead(tenant int64, head arrival.Head) {
	if w.shared {
		return
	}
	if len(w.recall.heads) > maxRecalled {
		clear(w.recall.heads)
	}
	w.recall.heads[tenant] = head
}
