package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // the driver that the embedded engine uses

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
)

const (
	removalBefore = time.Minute           // of the other tenant's requests before the removal begins
	removalPause  = 20 * time.Millisecond // between two entries
	// removalDue is how long after the filling the days are due. The service is started, and the first
	// requests are measured, before that.
	removalDue = removalBefore + 30*time.Second
	// removalPoll is the time between two looks at what is left to remove.
	removalPoll = 500 * time.Millisecond
)

// neighbor is how long the requests of another tenant take.
type neighbor struct {
	accepted, found, listed, matched []time.Duration
}

// measureRemoval has the expired entries of one tenant removed, while another sends and reads.
func measureRemoval(ctx context.Context, b *bench) ([]figure, error) {
	removed := largest
	if b.quick {
		removed /= 10
	}
	data := filepath.Join(b.folder, "removal")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	due, err := fillExpired(ctx, data, 7, removed)
	if err != nil {
		return nil, err
	}
	full, err := folderBytes(data)
	if err != nil {
		return nil, err
	}
	without, with, took, err := b.removeBeside(ctx, data, due)
	if err != nil {
		return nil, err
	}
	emptied, err := folderBytes(data)
	if err != nil {
		return nil, err
	}
	if _, err := fillExpired(ctx, data, 8, removed); err != nil {
		return nil, err
	}
	refilled, err := folderBytes(data)
	if err != nil {
		return nil, err
	}
	return removalFigures(removed, without, with, took, []int64{full, emptied, refilled}), nil
}

func removalFigures(removed int, without, with neighbor, took []time.Duration, sizes []int64) []figure {
	how := fmt.Sprintf("%s entries of one tenant have expired and are due. Another tenant sends a single entry, waits until a search finds it, and reads two pages, again after %s. "+
		"The same requests for %s before the removal, and until the removal ends and the space is given back. p99 of the second ÷ p99 of the first, over the same file. The sender shares the cores.",
		thousands(removed), removalPause, removalBefore)
	p99 := func(durations []time.Duration) float64 { return millis(quantile(durations, 0.99)) }
	var figures []figure
	for i, kind := range []struct {
		name          string
		without, with []time.Duration
	}{
		{"request → accepted, single entry", without.accepted, with.accepted},
		{"request → found", without.found, with.found},
		{"50 newest", without.listed, with.listed},
		{"50 newest with a word", without.matched, with.matched},
	} {
		name := "… " + kind.name + ": p99 ÷ without"
		if i == 0 {
			name = fmt.Sprintf("while %s expired entries of another tenant go: %s: p99 ÷ without", thousands(removed), kind.name)
		} else {
			how = ""
		}
		figures = append(figures,
			atMost(name, "%.2f", p99(kind.with)/p99(kind.without), 2, how),
			noBound("… p50, p99, without: p50, p99", "", "%.1f ms, %.1f ms, %.1f ms, %.1f ms",
				millis(median(kind.with)), p99(kind.with), millis(median(kind.without)), p99(kind.without)))
	}
	const mb = 1e6
	return append(figures,
		noBound("… entries removed a second, all removed after, space given back after", "", "%.0f, %.0f s, %.0f s", float64(removed)/took[0].Seconds(), took[0].Seconds(), took[1].Seconds()),
		noBound("bytes on disk of these entries, after their removal, after as many new ones", "The whole data folder. The service has ended each time.",
			"%.0f MB, %.0f MB, %.0f MB", float64(sizes[0])/mb, float64(sizes[1])/mb, float64(sizes[2])/mb))
}

// fillExpired stores entries that have expired, and whose time to be removed has come. It returns when
// the days are due.
func fillExpired(ctx context.Context, data string, seed uint64, n int) (due time.Time, err error) {
	hourAgo := func() time.Time { return time.Now().Add(-time.Hour) }
	db, err := sqlite.Open(ctx, filepath.Join(data, embedded.File), sqlite.WithClock(hourAgo))
	if err != nil {
		return due, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tenant, err := oneTenant{}.Tenant(ctx, benchTenant)
	if err != nil {
		return due, err
	}
	tenant.Settings.RetentionDays = 1
	if err := db.Tenants().Create(ctx, tenant); err != nil && !errors.Is(err, audit.ErrConflict) {
		return due, err
	}
	tenant.Settings.RetentionDays = 0 // else none is accepted
	entries, begun := newCorpus(seed), time.Now()
	first := entries.next
	var messages []string
	accept := acceptInto(queue(func(bodies []string) { messages = bodies }))
	for range n / fillBatch {
		if _, err := accept.Submit(ctx, tenant, ingest.Origin{}, entries.entries(fillBatch)); err != nil {
			return due, err
		}
		for _, message := range messages {
			if err := commit(ctx, db, message); err != nil {
				return due, err
			}
		}
	}
	log.Printf("%s entries after %s", thousands(n), time.Since(begun).Round(time.Second))
	if err := markAll(ctx, db, retention.Selection{From: first, To: entries.next}); err != nil {
		return due, err
	}
	var receipts []activity.Receipt
	for day := first; day.Before(entries.next.Add(24 * time.Hour)); day = day.Add(24 * time.Hour) {
		receipts = append(receipts, activity.ReceiptOf(&audit.Entry{Timestamp: day, ReceivedAt: begun}))
	}
	due = time.Now().Add(removalDue)
	return due, db.Activity().Touch(ctx, benchTenant, receipts, due)
}

// commit takes the entries of a message the whole way.
func commit(ctx context.Context, db *sqlite.DB, message string) error {
	contents, err := envelope.Unpack(message)
	if err != nil {
		return err
	}
	for i := range contents.Entries {
		contents.Entries[i].QueueMessage = contents.ID
	}
	result := db.Committer().Commit(ctx, []ingest.Load{{Tenant: benchTenant, Entries: contents.Entries}})[0]
	if len(result.Rejections)+len(result.Unindexed)+len(contents.Poison) > 0 {
		return errors.New("an entry was not stored")
	}
	return result.Err
}

// markAll lets entries be removed at once.
func markAll(ctx context.Context, db *sqlite.DB, of retention.Selection) error {
	for {
		found, err := db.Entries().Retained(ctx, benchTenant, of, retention.MaxEntries)
		if err != nil || len(found) == 0 {
			return err
		}
		ids := make([]audit.EntryID, len(found))
		for i := range found {
			ids[i] = found[i].ID
		}
		if err := db.Entries().Mark(ctx, benchTenant, ids, 0); err != nil {
			return err
		}
		of.After = ids[len(ids)-1]
	}
}

// removeBeside runs the service over the folder. It measures another tenant's requests before the
// removal and during it, and how long it took until all entries and their space were gone.
func (b *bench) removeBeside(ctx context.Context, data string, due time.Time) (without, with neighbor, took []time.Duration, err error) {
	s, err := b.startService(ctx, data)
	if err != nil {
		return without, with, nil, err
	}
	defer func() { _ = s.abandon() }() // does nothing after end
	if err := s.CreateTenant(ctx, quietTenant); err != nil {
		return without, with, nil, err
	}
	quiet, err := s.callerOf(quietTenant)
	if err != nil {
		return without, with, nil, err
	}
	entries := newCorpus(9)
	if err := quiet.post(ctx, "/logs/bulk", entries.bulkOf(fillBatch)); err != nil { // for its pages
		return without, with, nil, err
	}
	if err := quiet.awaitCount(ctx, fillBatch); err != nil {
		return without, with, nil, err
	}
	first, cancel := context.WithTimeout(ctx, removalBefore)
	defer cancel()
	if without, err = quiet.measureUntil(ctx, entries, first.Done()); err != nil {
		return without, with, nil, err
	}
	if err := pauseFor(ctx, time.Until(due)); err != nil {
		return without, with, nil, err
	}
	begun, ended := time.Now(), make(chan struct{})
	var removing error
	go func() {
		defer close(ended)
		took, removing = s.awaitRemoval(ctx, begun)
	}()
	with, err = quiet.measureUntil(ctx, entries, ended)
	<-ended
	if err = errors.Join(err, removing); err != nil {
		return without, with, nil, err
	}
	_, err = s.end()
	return without, with, took, err
}

// awaitRemoval starts retention, again when its time was too short, and waits for its end. It returns
// how long that took, and how long it took until the space was given back.
func (s *service) awaitRemoval(ctx context.Context, begun time.Time) (took []time.Duration, err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(s.data, embedded.File))+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var removed time.Duration
	for {
		var left bool
		var tasks int
		if err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deletable), (SELECT count(*) FROM messages WHERE queue = 'jobs')`).Scan(&left, &tasks); err != nil {
			return nil, err
		}
		switch {
		case !left && removed == 0:
			removed = time.Since(begun)
			log.Printf("removed after %s", removed.Round(time.Second))
		case !left && tasks == 0:
			return []time.Duration{removed, time.Since(begun)}, nil
		case tasks == 0:
			if err := s.Invoke(ctx, "retain-logs"); err != nil {
				return nil, err
			}
		}
		if err := pauseFor(ctx, removalPoll); err != nil {
			return nil, err
		}
	}
}

// measureUntil sends single entries and reads pages, one after the other, until done is closed.
func (s *caller) measureUntil(ctx context.Context, entries *corpus, done <-chan struct{}) (n neighbor, err error) {
	pages := []struct {
		query url.Values
		took  *[]time.Duration
	}{
		{url.Values{"limit": {strconv.Itoa(pageSize)}}, &n.listed},
		{url.Values{"limit": {strconv.Itoa(pageSize)}, "q": {rareWord}}, &n.matched},
	}
	for {
		select {
		case <-done:
			return n, nil
		default:
		}
		begun, request := time.Now(), "removal-"+entries.hex(16)
		if err := s.post(ctx, "/logs", entries.entryOf(request)); err != nil {
			return n, err
		}
		n.accepted = append(n.accepted, time.Since(begun))
		if err := s.awaitFound(ctx, request); err != nil {
			return n, err
		}
		n.found = append(n.found, time.Since(begun))
		for _, page := range pages {
			begun := time.Now()
			if _, err := s.reader.Search(ctx, page.query); err != nil {
				return n, err
			}
			*page.took = append(*page.took, time.Since(begun))
		}
		if err := pauseFor(ctx, removalPause); err != nil {
			return n, err
		}
	}
}
