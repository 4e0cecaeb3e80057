// Package cloud puts the engines of production under the use cases: MongoDB,
// OpenSearch and SQS.
package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
)

// settle is how long a consumer may still write for a tenant after its deletion:
// its record may be cached and its batch run for half a minute.
const settle = time.Minute

// isolationTTL is long: a tenant's isolation never changes.
const isolationTTL = time.Hour

// Stores returns the adapters of the engines that the settings name. No
// connection is opened before a port is used.
func Stores(settings config.Cloud) (wiring.Stores, error) {
	aws := awsconfig.New(settings.AWS)
	mongo, err := mongostore.Open(string(settings.MongoURI), settings.MongoDatabase)
	if err != nil {
		return wiring.Stores{}, err
	}
	search := opensearchindex.Config{URLs: []string{string(settings.OpenSearchURL)}, Replicas: settings.OpenSearchReplicas}
	if settings.OpenSearchSigned {
		search.AWS = &aws
	}
	index, err := opensearchindex.Open(search)
	if err != nil {
		return wiring.Stores{}, err
	}
	sqs := sqsqueue.NewClient(aws)
	queue := func(name string) *sqsqueue.Queue { return sqsqueue.New(sqs, name, sqsqueue.Options{}) }
	ingestQueue := queue(sqsqueue.Name(settings.QueuePrefix, manifest.QueueIngest))
	return wiring.Stores{
		Entries: mongo.Entries(isolation(mongo.Tenants())), Index: index, Degraded: mongo.Index(), Quarantine: mongo.Quarantine(),
		Tenants: mongo.Tenants(), Keys: mongo.Keys(), Jobs: mongo.Jobs(),
		Queue: func(name manifest.QueueName) ingest.Queue { return queue(sqsqueue.Name(settings.QueuePrefix, name)) },
		DeadLetters: func(name manifest.QueueName) ingest.Queue {
			return queue(sqsqueue.Name(settings.QueuePrefix, name.DeadLetters()))
		},
		Settle: settle, Grace: wiring.DefaultGrace,
		Dependencies: []httpapi.Dependency{
			{Name: "entries", Check: mongo.Ping}, // entries are taken without it: they wait in the queue
			{Name: "search", Check: index.Ping},
			{Name: "queue", Essential: true, Check: ingestQueue.Ping},
		},
	}, nil
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
