//go:build !embedded

package searchindex

import (
	"context"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/awsconfig"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/edge/httpapi"
	"github.com/ocelot-audit/ocelot/pkg/engine/opensearchindex"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/fromenv"
	"github.com/ocelot-audit/ocelot/pkg/wiring/secretvalue"
)

func open(ctx context.Context, o *fromenv.Opening) (err error) {
	engines := o.Settings.Engines
	if engines.OpenSearchURL, err = secretvalue.Resolve(ctx, o, "OPENSEARCH_URL", engines.OpenSearchURL); err != nil {
		return err
	}
	return Use(&o.Stores, engines)
}

// Use puts OpenSearch under the search index. It connects when the index is used.
func Use(stores *wiring.Stores, engines config.Engines) error {
	settings := opensearchindex.Config{URLs: []string{string(engines.OpenSearchURL)}, Prefix: engines.OpenSearchPrefix, Replicas: engines.OpenSearchReplicas}
	if engines.OpenSearchSigned {
		aws := awsconfig.New(engines.AWS)
		settings.AWS = &aws
	}
	index, err := opensearchindex.Open(settings)
	if err != nil {
		return err
	}
	stores.Index, stores.Sizes, stores.EmptyIndexes = index, index, index
	stores.Committer = nil // entries and their index lie apart
	stores.Placing = tenants.Placing{Separate: engines.SearchSeparateTenants, Pools: engines.SearchPools}
	stores.PlaceIndex = func(placements func(context.Context, audit.TenantID) ([]audit.Placement, error)) wiring.Index {
		return index.WithPlacements(placements)
	}
	stores.Dependencies = append(stores.Dependencies, httpapi.Dependency{Name: "search", Check: index.Ping})
	return nil
}
