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

// findTimeout bounds a list, so that lists do not keep the system of record
// from its writes.
const findTimeout = 5 * time.Second

// Index answers, while the search index is down, the lists that MongoDB's own
// indexes can answer; anything else is an ErrNoIndex. It implements
// search.Index. Lists may be read from secondaries, which can be behind. A
// position's Tie is the entry's id in its 36-character form.
type Index struct{ db *DB }

// Index returns the lists of the system of record.
func (db *DB) Index() *Index { return &Index{db} }

// Find implements search.Index. It answers filters that consist of a time, and
// of at least one of resource_id, user_id, action or severity with up to 100
// values, of which what is left may be narrowed by any condition on fields with
// a name of their own. It does not look into message and metadata.
func (x *Index) Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	page, err := x.find(ctx, tenant, filter, request)
	if err != nil {
		return audit.Page{}, fmt.Errorf("find entries of %s: %w", tenant, err)
	}
	return page, nil
}

// Stats implements search.Index. It answers nothing: to count is to read every
// entry that is counted, which would keep the system of record from its writes.
func (x *Index) Stats(_ context.Context, tenant audit.TenantID, _ audit.Filter, _ audit.StatsRequest) (audit.Stats, error) {
	return audit.Stats{}, fmt.Errorf("count entries of %s: %w", tenant, noIndex("statistics are the search index's"))
}

// Contains implements search.Index: every stored entry is in the lists.
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
	r := pageReader{db: x.db, tenant: tenant, plan: p, request: request, falling: (request.Order == audit.NewestFirst) != request.Backwards}
	if err := r.begin(request.From); err != nil {
		return audit.Page{}, err
	}
	if p.none {
		return audit.Page{}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	if err := r.read(bounded); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return audit.Page{}, noIndex("it takes longer than %v", findTimeout)
		}
		return audit.Page{}, err
	}
	return r.page(), nil
}

// pageReader gathers one page.
type pageReader struct {
	db      *DB
	tenant  audit.TenantID
	plan    plan
	request audit.PageRequest
	falling bool   // from later to earlier entries
	beside  bson.D // the condition on _id that the page's position makes

	entries []audit.Entry
	bytes   int
	more    bool
	scratch []byte
}

// begin has the page lie beside the position.
func (r *pageReader) begin(from *audit.Position) error {
	if from == nil {
		return nil
	}
	id, err := audit.ParseEntryID(from.Tie)
	if err != nil || !id.Time().Equal(from.Time) {
		return audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
	}
	// Keys are in the order of time, so that these are the bounds of the page in
	// the index and not only a condition on each of its entries.
	operator := "$gt"
	if r.falling {
		operator = "$lt"
		r.plan.time = both(r.plan.time, audit.Time{To: id.Time().Add(time.Millisecond)})
	} else {
		r.plan.time = both(r.plan.time, audit.Time{From: id.Time()})
	}
	r.beside = bson.D{{Key: fieldKey, Value: bson.D{{Key: operator, Value: keyOf(r.tenant, id.String())}}}}
	return nil
}

// read goes through the months until the page is full.
func (r *pageReader) read(ctx context.Context) error {
	partitions, err := r.db.partitions(ctx, r.tenant)
	if err != nil {
		return err
	}
	if r.falling {
		slices.Reverse(partitions)
	}
	for len(partitions) > 0 && !r.more {
		month := partitions[0].month
		n := 1
		if len(partitions) > 1 && partitions[1].month == month {
			n = 2 // the shared one and the tenant's own
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

// inMonth reports whether a time has a part in the month.
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
		entry := nearest(runs, r.falling)
		if entry == nil {
			return nil
		}
		r.take(entry)
		// An entry that was stored twice while its tenant's isolation changed is listed once.
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

// take adds the entry, unless the page is full.
func (r *pageReader) take(e *audit.Entry) {
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

// run is the entries of one partition, of which head is the next; nil at the end.
type run struct {
	cursor *mongo.Cursor
	head   *audit.Entry
}

// open begins a run, nil where the partition has no such entries.
func (r *pageReader) open(ctx context.Context, p partition) (*run, error) {
	collection, err := r.db.collectionAt(p.String(), readpref.SecondaryPreferred())
	if err != nil {
		return nil, err
	}
	query := r.plan.query(r.tenant, r.beside...)
	if r.plan.loose {
		types, err := r.resourceTypes(ctx, collection)
		if err != nil || len(types) == 0 {
			return nil, err
		}
		query = append(query, bson.E{Key: fieldResourceType, Value: in(types)})
	}
	direction := 1
	if r.falling {
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

// resourceTypes returns those that come with what the plan's index answers. The
// server steps from one to the next in the index.
func (r *pageReader) resourceTypes(ctx context.Context, collection *mongo.Collection) ([]string, error) {
	var types []string
	query := append(ofTenant(r.tenant), r.plan.equals...)
	if err := collection.Distinct(ctx, fieldResourceType, query).Decode(&types); err != nil {
		return nil, failure(ctx, err)
	}
	if len(types) > maxScans {
		return nil, noIndex("an action comes with more than %d resource types, of which the filter must name some", maxScans)
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

// nearest returns the entry that comes next, nil at the end of all runs.
func nearest(runs []*run, falling bool) *audit.Entry {
	var next *audit.Entry
	for _, s := range runs {
		if s.head == nil {
			continue
		}
		if next == nil || (bytes.Compare(s.head.ID[:], next.ID[:]) < 0) != falling {
			next = s.head
		}
	}
	return next
}
