package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/engine/mongostore"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// The tenants of the query times share every engine, and in OpenSearch one pool.
const (
	bigTenant    audit.TenantID = "big"
	smallTenant  audit.TenantID = "small"
	smallOnes                   = 10 // tenants of one size: smallTenant and others
	quickEntries                = 100_000
)

// querySizes are numbers of entries.
type querySizes struct{ all, big, small int }

// querySizesOf gives each of the small tenants a hundredth of the entries, and the big one the rest.
func querySizesOf(all int) querySizes {
	small := all / 100
	return querySizes{all: all, big: all - smallOnes*small, small: small}
}

// Each time is the median of so many repetitions, fewer if they would take longer than
// queryBudget.
const (
	queryRepetitions    = 51
	minQueryRepetitions = 5
	queryBudget         = 1500 * time.Millisecond
	queryTimeout        = time.Minute // of one repetition
)

// queryEngine is a search index that is measured.
type queryEngine struct {
	name  string
	index search.Index
	// put stores and indexes entries; nil: the engine is not measured.
	put func(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error
	// awaitFound returns once what was put can be found.
	awaitFound func(ctx context.Context) error
	// forget drops the answers that the engine keeps, so that every repetition is computed.
	forget func(ctx context.Context) error
	// size returns the bytes on disk.
	size   func(ctx context.Context) (int64, error)
	end    func(ctx context.Context) error
	absent string // what to do to have the engine measured

	took  time.Duration // to put all entries
	bytes int64         // on disk after that
}

// measured reports whether the engine has the entries.
func (e *queryEngine) measured() bool { return e.put != nil }

func nothingToDo(context.Context) error { return nil }

// tenantOf returns the record of a tenant of the query times.
func tenantOf(id audit.TenantID) audit.Tenant {
	settings := audit.DefaultSettings()
	settings.RetentionDays = 0
	return audit.Tenant{ID: id, Name: string(id), Status: audit.TenantActive, Settings: settings, Version: 1}
}

// queriesPage fills every engine with the same entries and asks each the same.
func queriesPage(ctx context.Context, b *bench) (document string, err error) {
	begun := time.Now()
	engines, err := b.queryEngines(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		for _, e := range engines {
			err = errors.Join(err, e.end(context.WithoutCancel(ctx)))
		}
	}()
	sizes := querySizesOf(largest)
	if b.quick {
		sizes = querySizesOf(quickEntries)
	}
	samples, err := fillEngines(ctx, engines, sizes)
	if err != nil {
		return "", err
	}
	m := &queryMeasurement{engines: engines, samples: samples, cursors: cursor.NewSigner([]byte(strings.Repeat("k", 32))), now: time.Now()}
	var lists, counts []queryRow
	for _, q := range listQueries() {
		lists = append(lists, m.row(ctx, q.name, func(e *queryEngine, tenant audit.TenantID) string { return m.list(ctx, e, tenant, q) }))
	}
	for _, q := range countQueries() {
		counts = append(counts, m.row(ctx, q.name, func(e *queryEngine, tenant audit.TenantID) string { return m.count(ctx, e, tenant, q) }))
	}
	if err := errors.Join(ctx.Err(), m.err); err != nil {
		return "", err
	}
	return renderQueries(describeMachine(), begun, time.Since(begun), sizes, engines, lists, counts), nil
}

// fillEngines puts the entries into every engine, and returns an entry of the big and of the
// small tenant that lies in the middle of their time.
func fillEngines(ctx context.Context, engines []*queryEngine, sizes querySizes) (samples map[audit.TenantID]*audit.Entry, err error) {
	entries := newCorpus(5)
	samples = map[audit.TenantID]*audit.Entry{}
	counts := map[audit.TenantID]int{}
	for i := range sizes.all / fillBatch {
		tenant := tenantOfBatch(i, sizes)
		accepted, err := acceptEntries(ctx, tenant, entries.entries(fillBatch))
		if err != nil {
			return nil, err
		}
		counts[tenant] += len(accepted)
		if samples[tenant] == nil || i <= sizes.all/fillBatch/2 {
			samples[tenant] = &accepted[len(accepted)/2]
		}
		if err := putEverywhere(ctx, engines, tenant, accepted); err != nil {
			return nil, err
		}
	}
	if counts[bigTenant] != sizes.big || counts[smallTenant] != sizes.small {
		return nil, fmt.Errorf("the tenants have %d and %d entries, want %d and %d", counts[bigTenant], counts[smallTenant], sizes.big, sizes.small)
	}
	return samples, awaitFoundAll(ctx, engines)
}

func awaitFoundAll(ctx context.Context, engines []*queryEngine) (err error) {
	for _, e := range engines {
		if !e.measured() {
			continue
		}
		if err := e.awaitFound(ctx); err != nil {
			return fmt.Errorf("awaitFound %s: %w", e.name, err)
		}
		if e.bytes, err = e.size(ctx); err != nil {
			return fmt.Errorf("measure the size of %s: %w", e.name, err)
		}
	}
	return nil
}

// tenantOfBatch spreads the batches of the small tenants over the time of all.
func tenantOfBatch(batch int, sizes querySizes) audit.TenantID {
	every := sizes.all / (smallOnes * sizes.small)
	if batch%every != every-1 {
		return bigTenant
	}
	if other := batch / every % smallOnes; other > 0 {
		return audit.TenantID(fmt.Sprintf("other-%d", other))
	}
	return smallTenant
}

// acceptEntries accepts entries as the service does: read, validated, packed and unpacked.
func acceptEntries(ctx context.Context, tenant audit.TenantID, texts [][]byte) ([]audit.Entry, error) {
	var entries []audit.Entry
	var unpackErr error
	into := queue(func(bodies []string) {
		for _, body := range bodies {
			contents, err := envelope.Unpack(body)
			entries, unpackErr = append(entries, contents.Entries...), errors.Join(unpackErr, err)
		}
	})
	accept := &ingest.Service{Standard: into, Priority: into, Now: time.Now, Random: func(b []byte) { _, _ = rand.Read(b) }} // never fails, see crypto/rand
	_, err := accept.Submit(ctx, tenantOf(tenant), ingest.Origin{SubmittedBy: "key:bench"}, texts)
	if err = errors.Join(err, unpackErr); err != nil {
		return nil, err
	}
	if len(entries) != len(texts) {
		return nil, fmt.Errorf("%d of %d entries were accepted", len(entries), len(texts))
	}
	return entries, nil
}

func putEverywhere(ctx context.Context, engines []*queryEngine, tenant audit.TenantID, entries []audit.Entry) error {
	for _, e := range engines {
		if !e.measured() {
			continue
		}
		begun := time.Now()
		if err := e.put(ctx, tenant, entries); err != nil {
			return fmt.Errorf("fill %s: %w", e.name, err)
		}
		e.took += time.Since(begun)
	}
	return nil
}

// queryMeasurement asks the engines.
type queryMeasurement struct {
	engines []*queryEngine
	samples map[audit.TenantID]*audit.Entry
	cursors *cursor.Signer
	now     time.Time
	err     error // the first failure that is none of the engines' answers
}

// queryRow is the line of a query: a cell for each engine and tenant.
type queryRow struct {
	name  string
	cells []string
}

// row asks every engine about both tenants, unless the measurement has failed.
func (m *queryMeasurement) row(ctx context.Context, name string, ask func(*queryEngine, audit.TenantID) string) queryRow {
	row := queryRow{name: name}
	if m.err != nil || ctx.Err() != nil {
		return row
	}
	for _, e := range m.engines {
		for _, tenant := range []audit.TenantID{smallTenant, bigTenant} {
			row.cells = append(row.cells, ask(e, tenant))
		}
	}
	log.Printf("%s: %s", name, strings.Join(row.cells, " | "))
	return row
}

// list measures a page in both orders, the newest first.
func (m *queryMeasurement) list(ctx context.Context, e *queryEngine, tenant audit.TenantID, q namedQuery) string {
	service := &search.Service{Index: e.index, Cursors: m.cursors, Now: func() time.Time { return m.now }}
	query := q.values(m.samples[tenant])
	cells := make([]string, 2)
	for i, order := range []string{"-timestamp", "timestamp"} {
		query.Set(search.ParamSort, order)
		cells[i] = m.time(ctx, e, func(ctx context.Context) error {
			_, err := service.Find(ctx, tenantOf(tenant), access.Scope{}, query)
			return err
		})
	}
	if cells[0] == cells[1] {
		return cells[0]
	}
	return strings.Join(cells, " · ")
}

// count measures statistics.
func (m *queryMeasurement) count(ctx context.Context, e *queryEngine, tenant audit.TenantID, q countQuery) string {
	var filter audit.Filter
	if q.filter != nil {
		filter = q.filter(m.samples[tenant])
	}
	return m.time(ctx, e, func(ctx context.Context) error {
		_, err := e.index.Stats(ctx, tenant, filter, q.request)
		return err
	})
}

// The cells of queries that have no time.
const (
	cellNotAsked = "not asked" // by design
	cellAbsent   = "—"         // the engine is not there
	cellRefused  = "refused"   // the engine says how to narrow the query
	cellTooSlow  = "too slow"  // not within the engine's time
)

// time returns the median time of a call in milliseconds, or why it has none.
func (m *queryMeasurement) time(ctx context.Context, e *queryEngine, ask func(context.Context) error) string {
	if !e.measured() {
		return m.wouldBeAsked(ctx, ask)
	}
	var took []time.Duration
	total := time.Duration(0)
	for i := -1; i < queryRepetitions && (i < minQueryRepetitions || total < queryBudget); i++ {
		if err := e.forget(ctx); err != nil {
			m.err = errors.Join(m.err, err)
			return ""
		}
		begun := time.Now()
		bounded, cancel := context.WithTimeout(ctx, queryTimeout)
		err := ask(bounded)
		cancel()
		if err != nil {
			return m.unanswered(err)
		}
		total += time.Since(begun)
		if i >= 0 { // the first one warms up
			took = append(took, time.Since(begun))
		}
	}
	return shortMillis(median(took))
}

// wouldBeAsked finds out whether an engine that is not there would be asked: one that is not
// says so before it connects.
func (m *queryMeasurement) wouldBeAsked(ctx context.Context, ask func(context.Context) error) string {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if errors.Is(ask(ended), mongostore.ErrNoIndex) {
		return cellNotAsked
	}
	return cellAbsent
}

// unanswered returns the cell of an error, and notes one that is no answer.
func (m *queryMeasurement) unanswered(err error) string {
	var invalid *audit.ValidationError
	var unavailable *audit.UnavailableError
	switch {
	case errors.Is(err, mongostore.ErrNoIndex):
		return cellNotAsked
	case errors.As(err, &invalid):
		return cellRefused
	case errors.As(err, &unavailable), errors.Is(err, context.DeadlineExceeded):
		return cellTooSlow
	}
	m.err = errors.Join(m.err, err)
	return ""
}

// shortMillis prints a duration in milliseconds with two digits, or all digits before the point.
func shortMillis(d time.Duration) string {
	switch ms := millis(d); {
	case ms < 1:
		return fmt.Sprintf("%.2f", ms)
	case ms < 10:
		return fmt.Sprintf("%.1f", ms)
	default:
		return fmt.Sprintf("%.0f", ms)
	}
}
