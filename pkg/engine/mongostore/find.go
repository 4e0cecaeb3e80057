package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// findTimeout bounds a list, so that lists do not slow down the writes to the
// system of record.
const findTimeout = 5 * time.Second

// Index lists entries while the search index is down, as far as MongoDB's own
// indexes can answer. It returns ErrNoIndex for all other requests. It implements
// search.Index. It may read from secondaries, which can be behind. A position's
// Tie is the entry's id in its 36-character form.
type Index struct{ db *DB }

// Index returns the lists of the system of record.
func (db *DB) Index() *Index { return &Index{db} }

// Find implements search.Index. It answers a filter that has a time alone, or
// resource_id, user_id, action or severity with up to 100 values. Such a filter
// may have further conditions on any field except message and metadata.
func (x *Index) Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	page, err := x.find(ctx, tenant, filter, request)
	if err != nil {
		return audit.Page{}, fmt.Errorf("find entries of %s: %w", tenant, err)
	}
	return page, nil
}

// Stats implements search.Index. It always returns ErrNoIndex: counting would read
// every counted entry and slow down the writes to the system of record.
func (x *Index) Stats(_ context.Context, tenant audit.TenantID, _ audit.Filter, _ audit.StatsRequest) (audit.Stats, error) {
	return audit.Stats{}, fmt.Errorf("count entries of %s: %w", tenant, noIndex("only the search index has statistics"))
}

// Contains implements search.Index. Every stored entry is in the lists.
func (x *Index) Contains(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (bool, error) {
	_, err := x.db.entry(ctx, tenant, id, audit.IsolationShared)
	if errors.Is(err, audit.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s of %s: %w", id, tenant, err)
	}
	return true, nil
}

func (x *Index) find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	if request.Limit < 1 || request.Limit > audit.MaxPageLimit {
		return audit.Page{}, audit.Invalid("?limit", "out_of_range", "must be from 1 to %d", audit.MaxPageLimit)
	}
	p, err := newPlan(filter)
	if err != nil {
		return audit.Page{}, err
	}
	r := pageReader{db: x.db, tenant: tenant, plan: p, request: request, descending: (request.Order == audit.NewestFirst) != request.Backwards}
	if err := r.begin(request.From); err != nil {
		return audit.Page{}, err
	}
	if p.empty {
		return audit.Page{}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	if err := r.read(bounded); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return audit.Page{}, noIndex("a list takes longer than %v", findTimeout)
		}
		return audit.Page{}, err
	}
	return r.page(), nil
}

// pageReader reads one page.
type pageReader struct {
	db         *DB
	tenant     audit.TenantID
	plan       plan
	request    audit.PageRequest
	descending bool   // from later to earlier entries
	start      bson.D // the condition on _id that begins the page at its position

	entries []audit.Entry
	bytes   int
	more    bool
	scratch []byte
}

// begin starts the page at the position, without the entry at the position.
func (r *pageReader) begin(from *audit.Position) error {
	if from == nil {
		return nil
	}
	id, err := audit.ParseEntryID(from.Tie)
	if err != nil || !id.Time().Equal(from.Time) {
		return audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
	}
	// Keys are in the order of time, so that MongoDB can start in the index at
	// this time. The condition on _id alone would read all earlier index keys.
	operator := "$gt"
	if r.descending {
		operator = "$lt"
		r.plan.time = intersect(r.plan.time, audit.Time{To: id.Time().Add(time.Millisecond)})
	} else {
		r.plan.time = intersect(r.plan.time, audit.Time{From: id.Time()})
	}
	r.start = bson.D{{Key: fieldKey, Value: bson.D{{Key: operator, Value: keyOf(r.tenant, id.String())}}}}
	return nil
}

// read reads month by month until the page is full.
func (r *pageReader) read(ctx context.Context) error {
	partitions, err := r.db.partitions(ctx, r.tenant)
	if err != nil {
		return err
	}
	if r.descending {
		slices.Reverse(partitions)
	}
	for len(partitions) > 0 && !r.more {
		month := partitions[0].month
		n := 1
		if len(partitions) > 1 && partitions[1].month == month {
			n = 2 // the shared partition and the tenant's own
		}
		if inMonth(r.plan.time, month) {
			if err := r.readMonth(ctx, partitions[:n]); err != nil {
				return err
			}
		}
		partitions = partitions[n:]
	}
	return nil
}

// inMonth reports whether the time range overlaps the month.
func inMonth(t audit.Time, month int) bool {
	return (t.From.IsZero() || sharedPartition(t.From).month <= month) && (t.To.IsZero() || sharedPartition(t.To.Add(-time.Millisecond)).month >= month)
}

// readMonth merges the partitions of a month.
func (r *pageReader) readMonth(ctx context.Context, partitions []partition) (err error) {
	var runs []*run
	defer func() {
		for _, s := range runs {
			if closeErr := s.cursor.Close(ctx); err == nil {
				err = failure(ctx, closeErr)
			}
		}
	}()
	for _, p := range partitions {
		s, err := r.open(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if s != nil {
			runs = append(runs, s)
		}
	}
	for !r.more {
		entry := nextEntry(runs, r.descending)
		if entry == nil {
			return nil
		}
		r.add(entry)
		// An entry that is stored twice, because its tenant's isolation changed, is listed once.
		for _, s := range runs {
			if s.head != nil && s.head.ID == entry.ID {
				if err := s.advance(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// add adds the entry, or sets more if the page is full.
func (r *pageReader) add(e *audit.Entry) {
	r.scratch = entryjson.AppendStored(r.scratch[:0], e)
	full := len(r.entries) == r.request.Limit
	tooLarge := r.request.MaxBytes > 0 && len(r.entries) > 0 && r.bytes+len(r.scratch) > r.request.MaxBytes
	if full || tooLarge {
		r.more = true
		return
	}
	r.entries = append(r.entries, *e)
	r.bytes += len(r.scratch)
}

func (r *pageReader) page() audit.Page {
	if r.request.Backwards {
		slices.Reverse(r.entries)
	}
	page := audit.Page{Entries: r.entries, More: r.more}
	if n := len(r.entries); n > 0 {
		page.First, page.Last = positionOf(&r.entries[0]), positionOf(&r.entries[n-1])
	}
	return page
}

func positionOf(e *audit.Entry) *audit.Position {
	return &audit.Position{Time: e.Timestamp, Tie: e.ID.String()}
}

// run reads the entries of one partition in order. The next is head, which is nil at the end.
type run struct {
	cursor *mongo.Cursor
	head   *audit.Entry
}

// open begins a run. It may return nil if the partition has no entries of the page.
func (r *pageReader) open(ctx context.Context, p partition) (*run, error) {
	collection, err := r.db.collectionAt(p.String(), readpref.SecondaryPreferred())
	if err != nil {
		return nil, err
	}
	query := r.plan.query(r.tenant, r.start...)
	if r.plan.anyResourceType {
		types, err := r.resourceTypes(ctx, collection)
		if err != nil || len(types) == 0 {
			return nil, err
		}
		query = append(query, bson.E{Key: fieldResourceType, Value: in(types)})
	}
	direction := 1
	if r.descending {
		direction = -1
	}
	left := r.request.Limit + 1 - len(r.entries)
	cursor, err := collection.Find(ctx, query, options.Find().SetHint(r.plan.index).SetLimit(int64(left)).SetBatchSize(int32(left)).
		SetSort(bson.D{{Key: fieldTimestamp, Value: direction}, {Key: fieldKey, Value: direction}}))
	if err != nil {
		return nil, failure(ctx, err)
	}
	s := &run{cursor: cursor}
	if err := s.advance(ctx); err != nil {
		return nil, errors.Join(err, failure(ctx, cursor.Close(ctx)))
	}
	return s, nil
}

// resourceTypes returns the resource types of the entries that match plan.equals.
// MongoDB skips in the index from one type to the next.
func (r *pageReader) resourceTypes(ctx context.Context, collection *mongo.Collection) ([]string, error) {
	var types []string
	query := append(ofTenant(r.tenant), r.plan.equals...)
	if err := collection.Distinct(ctx, fieldResourceType, query).Decode(&types); err != nil {
		return nil, failure(ctx, err)
	}
	if len(types) > maxScans {
		return nil, noIndex("an action has more than %d resource types, and the filter names no resource type", maxScans)
	}
	return types, nil
}

func (s *run) advance(ctx context.Context) error {
	s.head = nil
	if !s.cursor.Next(ctx) {
		return failure(ctx, s.cursor.Err())
	}
	entry, err := readEntry(s.cursor.Current)
	s.head = &entry
	return err
}

// nextEntry returns the first entry of all runs, in order. It returns nil at the end of all runs.
func nextEntry(runs []*run, descending bool) *audit.Entry {
	var next *audit.Entry
	for _, s := range runs {
		if s.head == nil {
			continue
		}
		if next == nil || (bytes.Compare(s.head.ID[:], next.ID[:]) < 0) != descending {
			next = s.head
		}
	}
	return next
}
