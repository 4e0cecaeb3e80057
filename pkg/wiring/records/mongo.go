//go:build !embedded

package records

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

func open(ctx context.Context, o *fromenv.Opening, connections int) (err error) {
	engines := o.Settings.Engines
	named := engines.MongoURI
	if engines.MongoURI, err = secretvalue.Resolve(ctx, o, variable, named); err != nil {
		return err
	}
	current := func(ctx context.Context) (string, error) {
		uri, err := secretvalue.Resolve(ctx, o, variable, named)
		return string(uri), err
	}
	failed := func(err error) { o.Log.Warn("the earlier connection string of MongoDB remains in use", "error", err) }
	options := []mongostore.Option{mongostore.WithCurrentURI(current, failed)}
	if connections > 0 {
		options = append(options, mongostore.WithPoolSize(connections))
	}
	return Use(&o.Stores, engines, options...)
}

const variable = "MONGODB_URI"

// Use puts MongoDB under every port of stored records. It connects when a port is used.
func Use(stores *wiring.Stores, engines config.Engines, more ...mongostore.Option) error {
	mongo, err := mongostore.Open(string(engines.MongoURI), engines.MongoDatabase, append(mongoOptions(engines), more...)...)
	if err != nil {
		return err
	}
	stores.Committer = nil // entries and their index lie apart
	stores.PlaceEntries = func(isolation func(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error)) (wiring.Entries, wiring.Lists) {
		return mongo.Entries(isolation), mongo.Index(isolation)
	}
	stores.Partitions = mongo
	stores.Quarantine, stores.Tenants, stores.Keys, stores.Jobs = mongo.Quarantine(), mongo.Tenants(), mongo.Keys(), mongo.Jobs()
	stores.Arrivals, stores.Streams, stores.Connections, stores.Activity = mongo.Arrivals(), mongo.Streams(), mongo.Connections(), mongo.Activity()
	stores.Quotas, stores.Attempts, stores.TenantKeys = mongo.Quotas(), mongo.Attempts(), mongo.TenantKeys()
	stores.Certificates, stores.Holds = mongo.Certificates(), mongo.Holds()
	stores.Placing = tenants.Placing{Separate: engines.SearchSeparateTenants, Pools: engines.SearchPools}
	stores.Clock = mongo.Time
	// Not essential: while MongoDB is down, accepted entries wait in the queue.
	stores.Dependencies = append(stores.Dependencies, httpapi.Dependency{Name: "entries", Check: mongo.Ping})
	return nil
}

// mongoOptions returns the options of the settings that are set.
func mongoOptions(engines config.Engines) []mongostore.Option {
	var options []mongostore.Option
	if engines.MongoIndexes != "" {
		options = append(options, mongostore.WithIndexes(mongostore.Indexes(engines.MongoIndexes)))
	}
	if engines.MongoReadPreference != "" {
		options = append(options, mongostore.WithReadPreference(engines.MongoReadPreference))
	}
	return options
}
