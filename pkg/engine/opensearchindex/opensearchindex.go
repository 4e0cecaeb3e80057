// Package opensearchindex is the search index in OpenSearch (2.4 or later).
//
// A tenant's entries lie in indexes of its own, one a month, or in those of a pool that
// it shares with other tenants. Its placements say which (see names.go). Old entries
// share the indexes of a few months (see monthOf). There are no aliases. Two templates
// give new indexes their mapping.
//
// One type, scope, makes every request about entries. It gives the names of the indexes,
// the condition on tenant_id that every search has, and the routing within a pool.
//
// A document (see document.go) has the searchable fields under the entry's own
// names, the metadata as tokens, and the whole stored entry as text. So no
// entry is refused for its form, and each is returned byte for byte.
package opensearchindex

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opensearch-project/opensearch-go/v4"

	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

var (
	_ search.Index       = (*Index)(nil)
	_ search.IndexWriter = (*Index)(nil)
	_ search.IDLister    = (*Index)(nil)
	_ jobs.CountedPurger = (*Index)(nil)
	_ tenants.IndexSizes = (*Index)(nil)
)

// Index is the search index of all tenants. It implements search.Index,
// search.IndexWriter, search.IDLister and jobs.CountedPurger. It is safe for
// concurrent use.
type Index struct {
	config Config
	// client creates the client at the first request. Creating it is the slowest
	// part of a function's start, and most functions never need it.
	client     func() (*opensearch.Client, error)
	limits     groupLimits
	placements Placements // nil: every tenant has its own family
	templates  *templates
	refusals   *refusals
	foresight  foresightLimits
	windows    windowLimits
	lockTime   time.Duration // of removals of whole indexes
}

// Open returns the index. It connects at the first request.
func Open(config Config) (*Index, error) {
	config, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("open OpenSearch index: %w", err)
	}
	return &Index{
		config: config, client: sync.OnceValues(config.newClient), templates: &templates{},
		limits: defaultGroupLimits(), refusals: newRefusals(), foresight: defaultForesightLimits(),
		windows: defaultWindowLimits(), lockTime: defaultLockTime,
	}, nil
}

// Close closes idle connections.
func (x *Index) Close() error {
	client, err := x.client()
	if err != nil {
		return err
	}
	return client.Close()
}

// Ping returns an error if OpenSearch does not answer. It does not retry.
func (x *Index) Ping(ctx context.Context) error {
	if _, err := x.send(ctx, httpRequest{method: http.MethodGet, path: "/"}); err != nil {
		return fmt.Errorf("ping OpenSearch: %w", asUnavailable(err))
	}
	return nil
}
