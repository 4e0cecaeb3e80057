package wiring

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/sqlite"
)

// Embedded returns the stores of the embedded engine.
func Embedded(db *sqlite.DB) Stores {
	return Stores{
		Entries: db.Entries(), Index: db.Index(), Quarantine: db.Quarantine(),
		Tenants: db.Tenants(), Keys: db.Keys(), Jobs: db.Jobs(),
		Queue:        func(name manifest.QueueName) ingest.Queue { return EmbeddedQueue(db, name) },
		DeadLetters:  func(name manifest.QueueName) ingest.Queue { return db.Queue(string(name)+"-dlq", deadVisibility, 0) },
		Settle:       time.Second, // one process, one cache: only what is being written at this moment
		Dependencies: []httpapi.Dependency{{Name: "embedded", Essential: true, Check: db.Ping}},
	}
}

// deadVisibility is how long a dead letter that somebody looks at is hidden from others.
const deadVisibility = time.Minute

// EmbeddedQueue returns a queue of the manifest in the embedded engine.
func EmbeddedQueue(db *sqlite.DB, name manifest.QueueName) *sqlite.Queue {
	for _, q := range manifest.Queues() {
		if q.Name == name {
			return db.Queue(string(name), q.VisibilityTimeout, q.MaxReceives)
		}
	}
	panic("wiring: no queue " + string(name) + " in the manifest")
}
