// Package cloud puts the engines of production under the use cases: MongoDB,
// OpenSearch and SQS.
package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/engine/wsgateway"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// drainPeriod is how long a consumer may still write for a tenant after its deletion:
// its record may be cached and its batch run for half a minute.
const drainPeriod = time.Minute

// isolationTTL is long: a tenant's isolation never changes.
const isolationTTL = time.Hour

// Stores returns the adapters of the engines that the settings name. No
// connection is opened before a port is used.
func Stores(engines config.Engines) (wiring.Stores, error) {
	stores := wiring.Stores{DrainPeriod: drainPeriod, Grace: wiring.DefaultGrace}
	if err := UseMongo(&stores, engines); err != nil {
		return wiring.Stores{}, err
	}
	if err := UseOpenSearch(&stores, engines); err != nil {
		return wiring.Stores{}, err
	}
	UseSQS(&stores, engines)
	sockets, err := wsgateway.New(engines.AWS.Endpoints[config.SocketsService], awsconfig.New(engines.AWS))
	if err != nil {
		return wiring.Stores{}, err
	}
	stores.Sockets = sockets
	return stores, nil
}

// UseMongo puts MongoDB under every port of stored records.
func UseMongo(stores *wiring.Stores, engines config.Engines) error {
	mongo, err := mongostore.Open(string(engines.MongoURI), engines.MongoDatabase)
	if err != nil {
		return err
	}
	stores.Entries, stores.Degraded = mongo.Entries(isolation(mongo.Tenants())), mongo.Index()
	stores.Quarantine, stores.Tenants, stores.Keys, stores.Jobs = mongo.Quarantine(), mongo.Tenants(), mongo.Keys(), mongo.Jobs()
	stores.StreamLog, stores.Connections = mongo.StreamLog(), mongo.Connections()
	// Entries are taken without it: they wait in the queue.
	stores.Dependencies = append(stores.Dependencies, httpapi.Dependency{Name: "entries", Check: mongo.Ping})
	return nil
}

// UseOpenSearch puts OpenSearch under the search index.
func UseOpenSearch(stores *wiring.Stores, engines config.Engines) error {
	settings := opensearchindex.Config{URLs: []string{string(engines.OpenSearchURL)}, Prefix: engines.OpenSearchPrefix, Replicas: engines.OpenSearchReplicas}
	if engines.OpenSearchSigned {
		aws := awsconfig.New(engines.AWS)
		settings.AWS = &aws
	}
	index, err := opensearchindex.Open(settings)
	if err != nil {
		return err
	}
	stores.Index = index
	stores.Dependencies = append(stores.Dependencies, httpapi.Dependency{Name: "search", Check: index.Ping})
	return nil
}

// UseSQS puts SQS under the queues.
func UseSQS(stores *wiring.Stores, engines config.Engines) {
	queues := NewQueues(engines)
	stores.Queue = func(name manifest.QueueName) wiring.Queue { return queues.Queue(name) }
	stores.DeadLetters = func(name manifest.QueueName) ingest.Queue { return queues.Queue(name.DeadLetters()) }
	stores.Source = wiring.SourceOf(queues.Named, queues.Queue, stores.DeadLetters)
	stores.Dependencies = append(stores.Dependencies,
		httpapi.Dependency{Name: "queue", Essential: true, Check: queues.Queue(manifest.QueueIngest).Ping})
}

// Queues are the manifest's queues in SQS.
type Queues struct {
	client *sqs.Client
	prefix string
}

// NewQueues returns the queues of one account and prefix.
func NewQueues(engines config.Engines) Queues {
	return Queues{client: sqsqueue.NewClient(awsconfig.New(engines.AWS)), prefix: engines.QueuePrefix}
}

// Queue returns one queue.
func (q Queues) Queue(name manifest.QueueName) *sqsqueue.Queue {
	return sqsqueue.New(q.client, q.Named(name), sqsqueue.Options{})
}

// Named returns the name of a queue in SQS.
func (q Queues) Named(name manifest.QueueName) string { return q.prefix + "-" + string(name) }

// Ensure creates the queues that are missing, with their dead-letter queues. In
// production the deployment does.
func (q Queues) Ensure(ctx context.Context) error {
	queues := manifest.Queues()
	configs := make([]sqsqueue.Config, len(queues))
	for i, queue := range queues {
		configs[i] = sqsqueue.Config{Name: q.Named(queue.Name), VisibilityTimeout: queue.VisibilityTimeout, MaxReceives: queue.MaxReceives}
	}
	return sqsqueue.EnsureQueues(ctx, q.client, configs)
}

// isolation tells how a tenant's entries lie.
func isolation(store tenants.Store) mongostore.IsolationFunc {
	cache := tenants.NewCache(store, isolationTTL, time.Now)
	return func(ctx context.Context, id audit.TenantID) (audit.Isolation, error) {
		tenant, err := cache.Tenant(ctx, id)
		if err != nil {
			return "", fmt.Errorf("isolation of %s: %w", id, err)
		}
		return tenant.Settings.Isolation, nil
	}
}
