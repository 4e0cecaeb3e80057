package sqlite

import "github.com/ocelot-audit/ocelot/pkg/arrival"

// recall has rows that the writer has read or written lately, so that it need not read them again.
// They are right as long as this process alone writes to the file, and nothing is rolled back.
type recall struct {
	queues map[string]*queueTurns
	heads  map[int64]arrival.Head // of arrival logs, by the tenant's number
}

// queueTurns are the turns of a queue.
type queueTurns struct {
	received int64
	tenants  map[string]int64 // the last turns
}

// maxRecalled bounds the rows of each kind.
const maxRecalled = 32_768

// forget must be called after a rollback, and when rows are changed in another way.
func (w *writer) forget() {
	w.recall = recall{queues: map[string]*queueTurns{}, heads: map[int64]arrival.Head{}}
}

// recalledTurns returns the turns of a queue that the writer knows, nil if it cannot know them.
func (w *writer) recalledTurns(queue string) *queueTurns {
	q := w.recall.queues[queue]
	if q == nil && !w.shared {
		q = &queueTurns{received: -1, tenants: map[string]int64{}}
		w.recall.queues[queue] = q
	}
	if q != nil && len(q.tenants) > maxRecalled {
		clear(q.tenants)
	}
	return q
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
