// Package embedded puts the embedded engine under the use cases.
package embedded

import (
	"time"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// File is the engine's file in a data folder.
const File = "ocelot.db"

// deadVisibility is how long a dead letter that somebody looks at is hidden from others.
const deadVisibility = time.Minute

// Stores returns the engine's adapters.
func Stores(db *sqlite.DB) wiring.Stores {
	deadLetters := func(name manifest.QueueName) ingest.Queue {
		return db.Queue(Named(name.DeadLetters()), deadVisibility, 0)
	}
	return wiring.Stores{
		Entries: db.Entries(), Index: db.Index(), Quarantine: db.Quarantine(),
		Tenants: db.Tenants(), Keys: db.Keys(), Jobs: db.Jobs(),
		StreamLog: db.StreamLog(), Connections: db.Connections(),
		Queue:        func(name manifest.QueueName) wiring.Queue { return Queue(db, name) },
		DeadLetters:  deadLetters,
		Source:       wiring.SourceOf(Named, func(name manifest.QueueName) *sqlite.Queue { return Queue(db, name) }, deadLetters),
		DrainPeriod:  5 * time.Second, // one process, one cache: only what is being written at this moment
		Grace:        wiring.DefaultGrace,
		Dependencies: []httpapi.Dependency{{Name: "embedded", Essential: true, Check: db.Ping}},
	}
}

// Named returns the name of a queue in the engine.
func Named(name manifest.QueueName) string { return string(name) }

// Queue returns a queue of the manifest.
func Queue(db *sqlite.DB, name manifest.QueueName) *sqlite.Queue {
	q := manifest.QueueOf(name)
	return db.Queue(Named(name), q.VisibilityTimeout, q.MaxReceives)
}
