package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/panics"
)

// Committer takes entries the whole way in one transaction: it stores and indexes them and gives
// them their places. It implements ingest.Committer.
type Committer struct{ db *DB }

// Committer returns what takes entries the whole way in this file.
func (db *DB) Committer() *Committer { return &Committer{db} }

const (
	// commitRows is the number of entries from which on an operation of Commit takes no further
	// message: about 40 ms of work. The full-text index gets a segment for each transaction, and the
	// pages of a tenant are written once in each, so larger ones cost less.
	commitRows = 1000
	// preparers is how many loads are prepared at the same time.
	preparers = 2
)

// landing is a load that is ready to be written.
type landing struct {
	number  int64 // of the tenant
	load    ingest.Load
	rows    []landingRow
	refused []audit.Rejection // entries without a row
	failed  error
}

// landingRow is an entry that is ready to be written.
type landingRow struct {
	entryRow
	indexed indexRow
	plain   bool // it has no tokens and cannot be indexed
}

// stretch is a part of a load: whole messages, which become durable together.
type stretch struct {
	load     int
	from, to int // rows
	chunks   []docChunk
	result   ingest.Committed
}

// Commit implements ingest.Committer.
func (c *Committer) Commit(ctx context.Context, loads []ingest.Load) []ingest.Committed {
	landings := make([]landing, len(loads))
	var preparing errgroup.Group
	preparing.SetLimit(preparers)
	for i := range loads {
		preparing.Go(func() error {
			landings[i].failed = panics.Recovered(ctx, func() error { return c.prepare(ctx, &landings[i], loads[i]) })
			return nil
		})
	}
	_ = preparing.Wait() // the errors are in landings
	results := make([]ingest.Committed, len(loads))
	for i := range landings {
		results[i] = ingest.Committed{Appended: ingest.Appended{Rejections: landings[i].refused}, Err: landings[i].failed}
	}
	operations := operationsOf(landings, &c.db.writer.blocks)
	var batching errgroup.Group
	batching.SetLimit(preparers)
	for _, stretches := range operations {
		batching.Go(func() error {
			batchTerms(indexRowsOf(landings, stretches))
			return nil
		})
	}
	_ = batching.Wait() // there are no errors
	for _, stretches := range operations {
		err := c.db.writeTo(ctx, c.db.operationsFor(rowsOf(stretches)), &operation{run: func(b *batch) error { return c.write(b, landings, stretches) }})
		for i := range stretches {
			add(&results[stretches[i].load], &stretches[i].result, err)
		}
	}
	for i := range results {
		if results[i].Err != nil {
			results[i] = ingest.Committed{Err: fmt.Errorf("commit to %s: %w", loads[i].Tenant, results[i].Err)}
		}
		slices.SortFunc(results[i].Rejections, byIndex)
	}
	return results
}

// add adds the result of a part of a load.
func add(to, part *ingest.Committed, err error) {
	to.Err = errors.Join(to.Err, err)
	addAppended(&to.Appended, &part.Appended)
	to.Unindexed = append(to.Unindexed, part.Unindexed...)
}

// prepare does what needs no transaction.
func (c *Committer) prepare(ctx context.Context, l *landing, load ingest.Load) (err error) {
	l.load = load
	if l.number, err = c.db.ensureNumber(ctx, load.Tenant); err != nil {
		return err
	}
	rows, refused, err := newEntryRows(l.number, load.Tenant, load.Entries)
	if err != nil {
		return err
	}
	t := tokenizerFor(l.number)
	defer tokenizers.Put(t)
	l.refused, l.rows = refused, make([]landingRow, len(rows))
	for i, row := range rows {
		indexed, err := t.indexRow(&load.Entries[row.index])
		l.rows[i] = landingRow{entryRow: row, indexed: indexed, plain: err != nil}
	}
	return nil
}

// operationsOf divides what is ready into operations of up to commitRows rows, unless a message
// has more.
func operationsOf(landings []landing, sizer *blockSizer) (operations [][]stretch) {
	var stretches []stretch
	size := 0
	for i := range landings {
		l := &landings[i]
		if l.failed != nil {
			continue
		}
		for from := 0; from < len(l.rows); {
			to := l.endOfMessages(from, max(1, commitRows-size))
			stretches, size = append(stretches, stretch{load: i, from: from, to: to, chunks: l.chunks(sizer, from, to)}), size+to-from
			if from = to; size >= commitRows {
				operations, stretches, size = append(operations, stretches), nil, 0
			}
		}
	}
	if len(stretches) > 0 {
		operations = append(operations, stretches)
	}
	return operations
}

// endOfMessages returns the end of the message that has the n-th row after from, or its last one.
func (l *landing) endOfMessages(from, n int) int {
	to := min(from+n, len(l.rows))
	for to < len(l.rows) && l.messageOf(to) == l.messageOf(to-1) {
		to++
	}
	return to
}

func (l *landing) messageOf(row int) audit.MessageID {
	return l.load.Entries[l.rows[row].index].QueueMessage
}

func (l *landing) chunks(sizer *blockSizer, from, to int) []docChunk {
	rows := make([]*entryRow, to-from)
	for i := range rows {
		rows[i] = &l.rows[from+i].entryRow
	}
	return sizer.chunks(rows)
}

func rowsOf(stretches []stretch) (n int) {
	for i := range stretches {
		n += stretches[i].to - stretches[i].from
	}
	return n
}

// indexRowsOf returns the rows of stretches that can be indexed.
func indexRowsOf(landings []landing, stretches []stretch) (rows []*indexRow) {
	for i := range stretches {
		s := &stretches[i]
		for j := s.from; j < s.to; j++ {
			if row := &landings[s.load].rows[j]; !row.plain {
				rows = append(rows, &row.indexed)
			}
		}
	}
	return rows
}

// write stores, indexes and places what the stretches have.
func (c *Committer) write(b *batch, landings []landing, stretches []stretch) error {
	for i := range stretches {
		s := &stretches[i]
		s.result = ingest.Committed{} // the operation may be run again
		l := &landings[s.load]
		next := s.from
		for i := range s.chunks {
			rows := l.rows[next : next+len(s.chunks[i].rows)]
			err := b.writeChunk(&s.chunks[i], func(entries []*entryRow) error { return b.land(rows, entries, &s.result) })
			if err != nil {
				return err
			}
			next += len(rows)
		}
		if err := c.place(b, l, s); err != nil {
			return err
		}
	}
	return nil
}

// land stores and indexes the rows of a chunk, which has the entries. An entry that was stored before may
// not be indexed yet.
func (b *batch) land(rows []landingRow, entries []*entryRow, result *ingest.Committed) error {
	if err := b.appendEntries(entries, &result.Appended); err != nil {
		return err
	}
	stored := make([]*indexRow, 0, len(rows))
	for i := range rows {
		switch row := &rows[i]; {
		case !row.fresh:
		case row.plain:
			result.Unindexed = append(result.Unindexed, unindexable(row.index))
		case row.stored:
			row.indexed.key = row.key
			stored = append(stored, &row.indexed)
		default:
			if err := b.insertIndexRow(row.tenant, &row.indexed); err != nil {
				return err
			}
		}
	}
	return b.insertIndexRows(rows[0].tenant, stored)
}

// place gives the fresh entries of a stretch their places.
func (c *Committer) place(b *batch, l *landing, s *stretch) error {
	fresh := l.fresh(s)
	if len(fresh) == 0 {
		return nil
	}
	log := &ownLog{batch: b, number: l.number}
	_, err := arrival.Assign(context.Background(), log, l.load.Tenant, envelope.ArrivalsOf(fresh), c.db.now)
	return err
}

// fresh returns the fresh entries of a stretch. They are copied only if they do not follow each other.
func (l *landing) fresh(s *stretch) []audit.Entry {
	rows := slices.DeleteFunc(pointersTo(l.rows[s.from:s.to]), func(row *landingRow) bool { return !row.fresh })
	if len(rows) == 0 {
		return nil
	}
	first, end := rows[0].index, rows[len(rows)-1].index+1
	if end-first == len(rows) {
		return l.load.Entries[first:end]
	}
	entries := make([]audit.Entry, len(rows))
	for i, row := range rows {
		entries[i] = l.load.Entries[row.index]
	}
	return entries
}

// ownLog is a tenant's arrival log within a transaction. It implements arrival.Appender.
type ownLog struct {
	*batch
	number int64
}

// Head implements arrival.Appender.
func (l *ownLog) Head(ctx context.Context, _ audit.TenantID) (arrival.Head, error) {
	if head, known := l.writer.recall.heads[l.number]; known {
		return head, nil
	}
	return l.arrivalHead(ctx, l.number)
}

// Append implements arrival.Appender.
func (l *ownLog) Append(_ context.Context, _ audit.TenantID, s arrival.Segment) error {
	return l.appendArrivals(l.number, &s)
}

// Placed implements arrival.Appender.
func (l *ownLog) Placed(ctx context.Context, _ audit.TenantID, messages []audit.MessageID) ([]audit.MessageID, error) {
	return l.placedMessages(ctx, l.number, messages)
}

// Repaired implements arrival.Appender.
func (l *ownLog) Repaired(ctx context.Context, _ audit.TenantID, ids []audit.EntryID) ([]audit.EntryID, error) {
	return l.repairedIDs(ctx, l.number, ids)
}
