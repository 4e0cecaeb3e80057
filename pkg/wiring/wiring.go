// Package wiring puts adapters under the use cases: the one place that knows
// which engine stands behind which port.
package wiring

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/metrics"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/stream"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// Entries is the system of record.
type Entries interface {
	ingest.Store
	search.Reader
	search.IDLister
	stream.Reader
	jobs.Purger
}

// Index is the search index.
type Index interface {
	search.Index
	search.IndexWriter
	search.IDLister
	jobs.Purger
}

// Quarantine keeps what a step could not take.
type Quarantine interface {
	quarantine.Store
	jobs.Purger
}

// Keys keeps API keys.
type Keys interface {
	tenants.KeyStore
	jobs.Purger
}

// DefaultGrace is longer than entries wait for the index on a busy day.
const DefaultGrace = time.Hour

// StreamLog is the order of the live streams.
type StreamLog interface {
	stream.Log
	jobs.Purger
}

// Connections are those of the live streams' clients.
type Connections interface {
	stream.Connections
	jobs.Purger
}

// Queue is the sending side of a queue.
type Queue interface {
	ingest.Queue
	stream.Queue
}

// Stores are the adapters of one process.
type Stores struct {
	Entries Entries
	Index   Index
	// Degraded stands in for Index while that is unavailable; nil: nothing does.
	Degraded   search.Finder
	Quarantine Quarantine
	Tenants    tenants.Store
	Keys       Keys
	Jobs       jobs.Store
	StreamLog  StreamLog
	// Connections are the records of connections, Sockets the connections themselves.
	Connections Connections
	Sockets     stream.Sender
	// Queue returns the sending side of a queue.
	Queue func(name manifest.QueueName) Queue
	// DeadLetters returns the sending side of a queue's dead-letter queue.
	DeadLetters func(name manifest.QueueName) ingest.Queue
	// Source is what is done to messages that a function was given.
	Source lambdaedge.Source
	// DrainPeriod is how long a consumer may still write for a tenant that was deleted; see jobs.PurgeWorker.
	DrainPeriod time.Duration
	// Grace is how long a stored entry may be on its way to the index; see search.Reconciler.
	Grace time.Duration
	// Dependencies are what the health endpoint asks after.
	Dependencies []httpapi.Dependency
}

// received is the receiving side of a queue.
type received interface {
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
}

// SourceOf returns what is done to messages of the manifest's queues where those
// are named so. Another queue's message is an error.
func SourceOf[Q received](named func(manifest.QueueName) string, queue func(manifest.QueueName) Q, deadLetters func(manifest.QueueName) ingest.Queue) lambdaedge.Source {
	names := make(map[string]manifest.QueueName)
	for _, q := range manifest.Queues() {
		names[named(q.Name)] = q.Name
	}
	find := func(text string) (manifest.QueueName, error) {
		if name, ok := names[text]; ok {
			return name, nil
		}
		return "", fmt.Errorf("%q is no queue of this deployment", text)
	}
	return lambdaedge.Source{
		ChangeVisibility: func(ctx context.Context, text, receipt string, after time.Duration) error {
			name, err := find(text)
			if err != nil {
				return err
			}
			return queue(name).ChangeVisibility(ctx, receipt, after)
		},
		DeadLetter: func(ctx context.Context, text, body string) error {
			name, err := find(text)
			if err != nil {
				return err
			}
			return deadLetters(name).Send(ctx, []string{body})
		},
	}
}

// Security are the secrets of one process and what follows from them.
type Security struct {
	Tokens    access.TokenVerifier
	CursorKey []byte // at least 32 bytes
}

// Services makes the use cases over one set of adapters. Its methods return the
// same instance each time and are safe for concurrent use.
type Services struct {
	Stores Stores
	Log    *slog.Logger
	// StreamURL is the public address of the WebSocket API.
	StreamURL httpapi.StreamURL
	// Metrics is where metrics go, in lines; see package metrics. New has them discarded.
	Metrics io.Writer

	gate       func() *httpapi.Gate
	tenants    func() *tenants.Cache
	accept     func() *ingest.Service
	cursors    func() *cursor.Signer
	authorizer func() *access.Authenticator
}

// tenantTTL is how old a tenant's record may be that decides on a request of
// another process; a process sees its own changes at once.
const tenantTTL = 5 * time.Second

// New returns the use cases over the stores.
func New(stores Stores, security Security, log *slog.Logger) *Services {
	s := &Services{Stores: stores, Log: log, Metrics: io.Discard}
	s.tenants = sync.OnceValue(func() *tenants.Cache { return tenants.NewCache(stores.Tenants, tenantTTL, time.Now) })
	s.cursors = sync.OnceValue(func() *cursor.Signer { return cursor.NewSigner(security.CursorKey) })
	s.authorizer = sync.OnceValue(func() *access.Authenticator {
		return &access.Authenticator{Tokens: security.Tokens, Keys: tenants.KeyFinder{Store: stores.Keys}, Now: time.Now, Log: log}
	})
	s.accept = sync.OnceValue(func() *ingest.Service {
		return &ingest.Service{
			Standard: stores.Queue(manifest.QueueIngest), Priority: stores.Queue(manifest.QueueIngestPriority),
			Now: time.Now, Random: random,
		}
	})
	s.gate = sync.OnceValue(func() *httpapi.Gate {
		return &httpapi.Gate{Authenticator: s.authorizer(), Tenants: s.tenants().StaleIfError(), Log: log, Now: time.Now, NewRequestID: uuid.NewString}
	})
	return s
}

func random(b []byte) { _, _ = rand.Read(b) } // never fails, see crypto/rand

// Gate is what every HTTP function's requests pass.
func (s *Services) Gate() *httpapi.Gate { return s.gate() }

// Authenticate verifies the value of an Authorization header.
func (s *Services) Authenticate(ctx context.Context, authorization string) (access.Principal, error) {
	return s.authorizer().Authenticate(ctx, authorization)
}

// Cursors signs the cursors of lists.
func (s *Services) Cursors() *cursor.Signer { return s.cursors() }

// Ingest accepts entries.
func (s *Services) Ingest() *ingest.Service { return s.accept() }

// Search answers the read side.
func (s *Services) Search() *search.Service {
	return &search.Service{Index: s.Stores.Index, Degraded: s.Stores.Degraded, Reader: s.Stores.Entries, Cursors: s.cursors(), Now: time.Now}
}

// Stream answers clients of the live stream and delivers to them.
func (s *Services) Stream() *stream.Service {
	return &stream.Service{
		Segments: s.Stores.StreamLog, Connections: s.Stores.Connections, Reader: s.Stores.Entries, Sender: s.Stores.Sockets,
		Queue: s.Stores.Queue(manifest.QueueStream), Tenants: s.tenants(), Cursors: s.cursors(), Now: time.Now, Random: random, Log: s.Log,
	}
}

// Quarantine holds, lists, retries and deletes entries that a step could not take.
func (s *Services) Quarantine() *quarantine.Service {
	return &quarantine.Service{
		Store: s.Stores.Quarantine, Standard: s.Stores.Queue(manifest.QueueIngest), Priority: s.Stores.Queue(manifest.QueueIngestPriority),
		Index: s.Stores.Queue(manifest.QueueIndex), Recorder: s.accept(), Now: time.Now,
	}
}

// Tenants administers tenants and keys.
func (s *Services) Tenants() *tenants.Service {
	return &tenants.Service{
		Tenants: s.tenants().Fresh(), Keys: s.Stores.Keys, Jobs: s.Stores.Jobs, Purge: s.Stores.Queue(manifest.QueuePurge),
		Recorder: s.accept(), Now: time.Now, Random: random,
	}
}

// Persister stores what the ingest queues hold.
func (s *Services) Persister() *ingest.Persister {
	return &ingest.Persister{
		Store: s.Stores.Entries, Quarantine: s.Quarantine(), Tenants: s.tenants(), Index: s.Stores.Queue(manifest.QueueIndex),
		Subscribers: s.Stores.StreamLog, Stream: s.Stores.Queue(manifest.QueueStream),
		DeadLetters: s.Stores.DeadLetters(manifest.QueueIngest),
	}
}

// Indexer makes what the index queue holds findable.
func (s *Services) Indexer() *search.Indexer {
	return &search.Indexer{Index: s.Stores.Index, Quarantine: s.Quarantine(), Tenants: s.tenants()}
}

// Reconciler finds what the index lacks, tenant by tenant. Its results are metrics.
func (s *Services) Reconciler() *search.ReconcileRun {
	return &search.ReconcileRun{
		Reconciler: &search.Reconciler{
			Store: s.Stores.Entries, Index: s.Stores.Index, Reader: s.Stores.Entries, Queue: s.Stores.Queue(manifest.QueueIndex),
			Grace: s.Stores.Grace, Now: time.Now,
		},
		Tenants: s.Stores.Tenants, Every: manifest.ReconcileEvery, Log: s.Log,
		Publish: publishTo(metrics.New(s.Metrics, "reconcile-index", time.Now)),
	}
}

// publishTo makes metrics of what was found for a tenant and day.
func publishTo(w *metrics.Writer) func(search.Reconciliation) error {
	return func(r search.Reconciliation) error {
		return w.Write(r.Tenant, []metrics.Metric{
			{Name: "Stored", Unit: metrics.Count, Value: float64(r.Stored)}, {Name: "Indexed", Unit: metrics.Count, Value: float64(r.Indexed)},
			{Name: "Repaired", Unit: metrics.Count, Value: float64(r.Repaired)}, {Name: "Lag", Unit: metrics.Seconds, Value: r.Lag.Seconds()},
		}, map[string]any{"day": r.Day.Format(time.DateOnly), "pending": r.Pending, "extra": r.Extra})
	}
}

// Purger removes deleted tenants from every store.
func (s *Services) Purger() *jobs.PurgeWorker {
	return &jobs.PurgeWorker{
		Tenants: s.tenants().Fresh(), Jobs: s.Stores.Jobs, Now: time.Now, DrainPeriod: s.Stores.DrainPeriod,
		Stores: []jobs.NamedPurger{
			{Name: "entries", Purger: s.Stores.Entries}, {Name: "index", Purger: s.Stores.Index},
			{Name: "quarantine", Purger: s.Stores.Quarantine}, {Name: "keys", Purger: s.Stores.Keys},
			{Name: "stream", Purger: s.Stores.StreamLog}, {Name: "connections", Purger: s.Stores.Connections},
		},
	}
}
