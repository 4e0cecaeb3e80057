package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

// largest is the number of entries that the bounds of pages and memory are for.
const largest = 1_000_000

const (
	pageReads = 300 // of each kind of page, at each size
	fillBatch = 1000
	pageSize  = audit.DefaultPageLimit
)

// pageKind is a page as a client asks for it and as the index is asked for it.
type pageKind struct {
	name   string
	query  url.Values
	filter audit.Filter
}

func pageKinds() []pageKind {
	return []pageKind{
		{name: "50 newest"},
		{
			name: "50 newest of an action and a word in 2 % of the messages", query: url.Values{"action": {audit.ActionView}, "q": {rareWord}},
			filter: audit.Filter{Where: audit.And{
				audit.Equals{Field: audit.FieldAction, Values: []string{audit.ActionView}}, audit.Text{Words: []string{rareWord}},
			}},
		},
	}
}

// measurePages fills one folder further and further and reads pages at each size.
func measurePages(ctx context.Context, b *bench) ([]figure, error) {
	data := filepath.Join(b.folder, "pages")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	sizes := []int{10_000, 100_000, largest}
	if b.quick {
		sizes = sizes[:2]
	}
	entries, filled := newCorpus(4), 0
	var figures []figure
	for _, size := range sizes {
		begun := time.Now()
		measured, err := pagesAtIndex(ctx, data, entries, size-filled, size)
		if err != nil {
			return nil, err
		}
		filled = size
		log.Printf("%s entries after %s", thousands(size), time.Since(begun).Round(time.Second))
		overHTTP, err := b.pagesOverHTTP(ctx, data, size)
		if err != nil {
			return nil, err
		}
		figures = append(append(figures, measured...), overHTTP...)
	}
	return figures, nil
}

// pagesAtIndex adds more entries to the file and measures pages straight at the index.
func pagesAtIndex(ctx context.Context, data string, entries *corpus, more, size int) (figures []figure, err error) {
	db, err := sqlite.Open(ctx, filepath.Join(data, embedded.File))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := fill(ctx, db, entries, more); err != nil {
		return nil, err
	}
	for i, page := range pageKinds() {
		took, err := timeReads(func() error {
			got, err := db.Index().Find(ctx, benchTenant, page.filter, audit.PageRequest{Limit: pageSize, MaxBytes: audit.MaxPageBytes})
			return errors.Join(err, fullPage(len(got.Entries)))
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s at %s entries, index: p50", page.name, thousands(size))
		if i == 0 && size == largest {
			figures = append(figures, atMost(name, "%.2f ms", millis(median(took)), 2, fmt.Sprintf("%d reads straight at the embedded index.", pageReads)))
			continue
		}
		figures = append(figures, noBound(name, "", "%.2f ms", millis(median(took))))
	}
	return figures, nil
}

// fill brings entries the way that the service does: accepted, packed, stored, indexed.
func fill(ctx context.Context, db *sqlite.DB, entries *corpus, n int) error {
	tenant, err := oneTenant{}.Tenant(ctx, benchTenant)
	if err != nil {
		return err
	}
	if err := db.Tenants().Create(ctx, tenant); err != nil && !errors.Is(err, audit.ErrConflict) {
		return err
	}
	var messages []string
	accept := acceptInto(queue(func(bodies []string) { messages = bodies }))
	for range n / fillBatch {
		if _, err := accept.Submit(ctx, tenant, ingest.Origin{}, entries.entries(fillBatch)); err != nil {
			return err
		}
		for _, message := range messages {
			if err := store(ctx, db, message); err != nil {
				return err
			}
		}
	}
	return nil
}

func store(ctx context.Context, db *sqlite.DB, message string) error {
	contents, err := envelope.Unpack(message)
	if err != nil {
		return err
	}
	appended, err := db.Entries().Append(ctx, benchTenant, contents.Entries)
	if err != nil {
		return err
	}
	unindexed, err := search.PutEntries(ctx, db.Index(), benchTenant, contents.Entries)
	if len(appended.Rejections)+len(unindexed)+len(contents.Poison) > 0 {
		return errors.New("an entry was not stored")
	}
	return err
}

func fullPage(entries int) error {
	if entries != pageSize {
		return fmt.Errorf("a page has %d entries, want %d", entries, pageSize)
	}
	return nil
}

// timeReads returns how long each of pageReads calls took, after a few to warm up.
func timeReads(read func() error) ([]time.Duration, error) {
	const warm = 20
	took := make([]time.Duration, 0, pageReads)
	for i := range warm + pageReads {
		begun := time.Now()
		if err := read(); err != nil {
			return nil, err
		}
		if i >= warm {
			took = append(took, time.Since(begun))
		}
	}
	return took, nil
}

// pagesOverHTTP measures the same pages as a client sees them, and at the largest size the memory.
func (b *bench) pagesOverHTTP(ctx context.Context, data string, size int) ([]figure, error) {
	s, err := b.startService(ctx, data)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	var figures []figure
	for _, page := range pageKinds() {
		took, err := timeReads(func() error {
			got, err := s.reader.Search(ctx, page.query)
			return errors.Join(err, fullPage(len(got.Items)))
		})
		if err != nil {
			return nil, err
		}
		how := ""
		if size == largest {
			how = fmt.Sprintf("%d reads over one connection. `ocelot dev` over the same folder.", pageReads)
		}
		figures = append(figures, noBound(fmt.Sprintf("%s at %s entries, HTTP: p50, p99", page.name, thousands(size)), how,
			"%.2f ms, %.2f ms", millis(median(took)), millis(quantile(took, 0.99))))
	}
	if size < largest {
		_, err = s.end()
		return figures, err
	}
	memory, err := s.memoryAfterReads(ctx)
	if err == nil {
		_, err = s.end()
	}
	if err != nil {
		return nil, err
	}
	exported, err := b.exportAll(ctx, data, size)
	return append(append(figures, memory), exported...), err
}

// memoryAfterReads reads in many ways at once, then looks at the service's memory.
func (s *service) memoryAfterReads(ctx context.Context) (figure, error) {
	const name, how = "memory of `ocelot dev` at 1,000,000 entries, highest", "VmHWM of /proc after pages of 50 and 1,000, filters, full text and statistics, four clients at once."
	if runtime.GOOS != "linux" {
		return noBound(name, how, "not measured: needs /proc"), nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for range 4 {
		group.Go(func() error { return s.readMuch(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return figure{}, err
	}
	now, highest, err := residentMB(s.PID())
	if err != nil {
		return figure{}, err
	}
	return atMost(name, "%.0f MB", highest, 500, fmt.Sprintf("%s It was %.0f MB at the end.", how, now)), nil
}

// readMuch pages through 20,000 entries and asks for statistics.
func (s *service) readMuch(ctx context.Context) error {
	query := url.Values{"limit": {strconv.Itoa(audit.MaxPageLimit)}}
	for range 20 {
		page, err := s.reader.Search(ctx, query)
		if err != nil {
			return err
		}
		if page.Next == nil {
			return errors.New("the list ended early")
		}
		query.Set("cursor", *page.Next)
	}
	for _, query := range []url.Values{
		{"q": {rareWord}, "limit": {strconv.Itoa(audit.MaxPageLimit)}},
		{"action": {"DELETE"}, "sort": {"timestamp"}, "limit": {strconv.Itoa(audit.MaxPageLimit)}},
	} {
		if _, err := s.reader.Search(ctx, query); err != nil {
			return err
		}
	}
	_, err := s.reader.Stats(ctx, url.Values{"group_by": {"action,severity"}, "interval": {"1h"}})
	return err
}
