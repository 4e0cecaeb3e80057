// Package embedded puts the embedded engine under the use cases.
package embedded

import (
	"context"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// File is the engine's file in a data folder.
const File = "ocelot.db"

// deadLetterVisibility is how long a dead letter stays hidden after it was received.
const deadLetterVisibility = time.Minute

// handoffBytes bounds the lines of accepted entries that are kept until they are stored. That is several
// times what ahead lets wait.
const handoffBytes = 8 << 20

// Stores returns every adapter of the engine, for a process that runs all functions. There
// persist-logs does the work of index-logs and order-logs with its own.
func Stores(db *sqlite.DB) wiring.Stores {
	// One process has one cache of tenants, so no record is old.
	stores := wiring.Stores{Committer: db.Committer(), Handoff: envelope.NewHandoff(handoffBytes, time.Now), DrainPeriod: wiring.DrainPeriodOf(0), Grace: wiring.DefaultGrace, Dependencies: []httpapi.Dependency{Health(db)}}
	UseRecords(&stores, db)
	UseIndex(&stores, db)
	UseQueues(&stores, db)
	return stores
}

// Health is the state of the engine. Without it the service accepts no entries.
func Health(db *sqlite.DB) httpapi.Dependency {
	return httpapi.Dependency{Name: "embedded", Essential: true, Check: db.Ping}
}

// UseRecords puts the engine under every port of stored records.
func UseRecords(stores *wiring.Stores, db *sqlite.DB) {
	stores.Entries, stores.Quarantine = db.Entries(), db.Quarantine()
	stores.Tenants, stores.Keys, stores.Jobs = db.Tenants(), db.Keys(), db.Jobs()
	stores.Arrivals, stores.Streams, stores.Connections = db.Arrivals(), db.Streams(), db.Connections()
	stores.Activity, stores.FreeSpace = db.Activity(), db.FreeSpace()
	stores.Quotas, stores.Attempts, stores.TenantKeys = db.Quotas(), db.Attempts(), db.TenantKeys()
	stores.Certificates, stores.Holds = db.Certificates(), db.Holds()
}

// UseIndex puts the engine under the search index.
func UseIndex(stores *wiring.Stores, db *sqlite.DB) { stores.Index = db.Index() }

// UseQueues puts the engine under the queues.
func UseQueues(stores *wiring.Stores, db *sqlite.DB) {
	stores.CheckSpace, stores.LocalMessages = db.CheckSpace, db.Messages(Named(manifest.QueueJobs))
	stores.Backlog = func(ctx context.Context, limit int64) (int64, error) {
		return db.Waiting(ctx, limit, Named(manifest.QueueIngest), Named(manifest.QueueIngestPriority))
	}
	stores.Queue = func(name manifest.QueueName) wiring.Queue { return Queue(db, name) }
	stores.DeadLetters = func(name manifest.QueueName) ingest.Queue {
		return db.Queue(Named(name.DeadLetters()), deadLetterVisibility, 0)
	}
	stores.Source = wiring.SourceOf(Named, func(name manifest.QueueName) *sqlite.Queue { return Queue(db, name) }, stores.DeadLetters)
}

// Named returns the name of a queue in the engine.
func Named(name manifest.QueueName) string { return string(name) }

const (
	// ahead is how much may wait in a queue before senders wait too: what consumers receive at once.
	ahead = sqlite.MaxReceived
	// gather is how long entries wait for others while many come. It is short beside what people
	// notice.
	gather = 200 * time.Millisecond
)

// backlogs bound what may wait in a queue. A tenant is slowed down once its part of ahead waits
// there, or 64 messages if other processes use the file too. The queues between functions refuse nothing.
var backlogs = map[manifest.QueueName]sqlite.Backlog{
	manifest.QueueIngest:         {Weigh: weigh, Ahead: ahead, Slow: 64, Full: 10_000, Gather: gather},
	manifest.QueueIngestPriority: {Weigh: weigh, Ahead: ahead, Slow: 64, Full: 10_000, Gather: gather},
	manifest.QueueIndex:          {Weigh: weigh, Ahead: ahead, Slow: 64},
}

// weigh returns for how many bytes of a queue a message counts. Its entries cause most of the work, whether they are
// compressed or not; very long ones do by their length.
func weigh(body string) int {
	const entryBytes = sqlite.MaxReceived / 1000 // as many as one transaction takes
	return max(entryBytes*envelope.CountOf(body), len(body)/16)
}

// Queue returns a queue of the manifest.
func Queue(db *sqlite.DB, name manifest.QueueName) *sqlite.Queue {
	q := manifest.QueueOf(name)
	return db.Queue(Named(name), q.VisibilityTimeout, q.MaxReceives).WithBacklog(backlogs[name])
}
