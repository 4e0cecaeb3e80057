package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

const (
	countReads  = 15
	maxCountMS  = 10   // of an aggregate that roll-ups answer
	maxCountOne = 0.25 // microseconds for an entry, of any other aggregate over fields
	// countPause is the time between two entries: ten million of them cover four months.
	countPause = time.Second
)

// measureCounts fills one file further and further and counts at each size. The entries have
// fields only, because counts read nothing else.
func measureCounts(ctx context.Context, b *bench) (figures []figure, err error) {
	data := filepath.Join(b.folder, "counts")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }() // it has several GB
	db, err := sqlite.Open(ctx, filepath.Join(data, embedded.File))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sizes := []int{1_000_000, 10_000_000}
	if b.quick {
		sizes = []int{100_000}
	}
	entries := countedEntries{random: rand.New(rand.NewPCG(5, 5)), next: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	for i, size := range sizes {
		begun := time.Now()
		if err := entries.fill(ctx, db, size); err != nil {
			return nil, err
		}
		log.Printf("%s entries after %s", thousands(size), time.Since(begun).Round(time.Second))
		measured, err := countsAt(ctx, db, size, entries.next, i == 0)
		if err != nil {
			return nil, err
		}
		figures = append(figures, measured...)
	}
	return figures, nil
}

// countedEntries makes entries of one tenant.
type countedEntries struct {
	random *rand.Rand
	next   time.Time
	made   int
}

func (c *countedEntries) fill(ctx context.Context, db *sqlite.DB, size int) error {
	for c.made < size {
		entries := make([]audit.Entry, min(fillBatch, size-c.made))
		for i := range entries {
			entries[i] = c.entry()
		}
		appended, err := db.Entries().Append(ctx, benchTenant, entries)
		if err != nil {
			return err
		}
		rejections, err := search.PutEntries(ctx, db.Index(), benchTenant, entries)
		if err := errors.Join(err, allTaken(append(rejections, appended.Rejections...))); err != nil {
			return err
		}
	}
	return nil
}

func (c *countedEntries) entry() audit.Entry {
	c.made++
	c.next = c.next.Add(countPause)
	var random [10]byte
	for i := range random {
		random[i] = byte(c.random.Uint32())
	}
	return audit.Entry{
		ID: audit.NewEntryID(c.next, random), Tenant: benchTenant, Timestamp: c.next, ReceivedAt: c.next,
		UserID: fmt.Sprintf("user-%d", c.random.IntN(1000)), Action: corpusActions[c.random.IntN(len(corpusActions))],
		ResourceType: fmt.Sprintf("type-%d", c.random.IntN(10)), ResourceID: fmt.Sprintf("resource-%d", c.random.IntN(20_000)),
		Severity: audit.Severity(min(c.random.ExpFloat64(), 3)), SubmittedBy: "key:bench",
	}
}

// slowest returns the largest median of several aggregates in milliseconds, and its name.
func slowest(ctx context.Context, db *sqlite.DB, filter audit.Filter, queries []countQuery) (took float64, name string, err error) {
	for _, q := range queries {
		times := make([]time.Duration, countReads)
		for i := range times {
			begun := time.Now()
			if _, err := db.Index().Stats(ctx, benchTenant, filter, q.request); err != nil {
				return 0, "", fmt.Errorf("%s: %w", q.name, err)
			}
			times[i] = time.Since(begun)
		}
		if m := millis(median(times)); m > took {
			took, name = m, q.name
		}
	}
	return took, name, nil
}

// countsAt measures counts of all entries, which end at a time.
func countsAt(ctx context.Context, db *sqlite.DB, size int, end time.Time, first bool) ([]figure, error) {
	rolledUp := []countQuery{
		{name: "total"}, {name: "total and distinct users", request: audit.StatsRequest{Distinct: true}}, by("by action", audit.FieldAction), by("by severity", audit.FieldSeverity), by("by resource type", audit.FieldResourceType),
		by("by action and severity", audit.FieldAction, audit.FieldSeverity), histogram("by hour", time.Hour), histogram("by day", 24*time.Hour),
	}
	scanned := []countQuery{
		by("by user", audit.FieldUserID), by("by user and action", audit.FieldUserID, audit.FieldAction), by("by resource", audit.FieldResourceID),
		by("by submitter", audit.FieldSubmittedBy), histogram("by half hour", time.Hour/2),
	}
	hours := audit.Filter{From: end.Add(-time.Duration(size/2) * countPause).Truncate(time.Hour), To: end.Add(-2 * time.Hour).Truncate(time.Hour)}
	critical := audit.SeverityCritical
	retention := audit.Settings{RetentionDays: 30, RetentionRules: []audit.RetentionRule{{Action: "VIEW", Days: 7}, {Severity: &critical}}}
	var figures []figure
	for _, of := range []struct {
		name    string
		filter  audit.Filter
		queries []countQuery
		how     string
	}{
		{"counts by action, severity, resource type, hour or day, and of distinct users", audit.Filter{}, rolledUp,
			fmt.Sprintf("The slowest of %d aggregates, straight at the embedded index. Median of %d reads. Small entries of one tenant, one a second.", len(rolledUp), countReads)},
		{"… within half of the time, whole hours", hours, rolledUp, ""},
		{"… under retention rules", retention.Visible(audit.Filter{}, end.Add(17*time.Minute)), slices.DeleteFunc(slices.Clone(rolledUp), func(q countQuery) bool { return q.request.Distinct }), ""},
	} {
		took, name, err := slowest(ctx, db, of.filter, of.queries)
		if err != nil {
			return nil, err
		}
		if !first {
			of.how = ""
		}
		figures = append(figures, atMost(fmt.Sprintf("%s, at %s entries: slowest (%s)", of.name, thousands(size), name), "%.1f ms", took, maxCountMS, of.how))
	}
	took, name, err := slowest(ctx, db, audit.Filter{}, scanned)
	if err != nil {
		return nil, err
	}
	how := ""
	if first {
		how = "The slowest of the aggregates by user, by user and action, by resource, by submitter and by half hour."
	}
	return append(figures, atMost(fmt.Sprintf("other counts over fields, at %s entries: slowest (%s) for one entry", thousands(size), name), "%.3f µs",
		took*1000/float64(size), maxCountOne, how)), nil
}
