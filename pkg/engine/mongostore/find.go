package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// findTimeout bounds a list, so that lists do not slow down the writes to the
// system of record.
const findTimeout = 5 * time.Second

// Index lists entries while the search index is down, as far as MongoDB's own
// indexes can answer. It returns ErrNoIndex for all other requests. It implements
// search.Index and arrival.Reader. It may read from secondaries, which can be behind. A position's
// Tie is the entry's id in its 36-character form.
type Index struct {
	db        *DB
	isolation IsolationFunc
}

// Index returns the lists of the system of record.
func (db *DB) Index(isolation IsolationFunc) *Index { return &Index{db: db, isolation: isolation} }

// Find implements search.Index. It answers a filter that has a time alone, or
// resource_id, user_id, action or severity with up to 100 values. Such a filter may
// have further conditions on any field except message and metadata. With IndexesLean it
// answers action and severity only together with resource_id or user_id.
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
	_, err := x.db.entry(ctx, x.isolation, tenant, id)
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
	p, err := newPlan(filter, x.db.indexes)
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
	if r.isolation, err = x.isolation.of(ctx, tenant); err != nil {
		return audit.Page{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	if err := r.read(bounded); err != nil {
		return audit.Page{}, x.findFailure(ctx, err)
	}
	return r.page(), nil
}

// findFailure returns ErrNoIndex for the failures that mean that MongoDB cannot answer
// the list quickly.
func (x *Index) findFailure(ctx context.Context, err error) error {
	var server mongo.ServerError
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return noIndex("a list takes longer than %v", findTimeout)
	case errors.As(err, &server) && server.HasErrorCode(codeBadValue):
		return noIndex("a partition was created with fewer indexes")
	}
	return err
}

// pageReader reads one page.
type pageReader struct {
	db         *DB
	tenant     audit.TenantID
	isolation  audit.Isolation
	plan       plan
	request    audit.PageRequest
	descending bool // from later to earlier entries
	keys       keyRange

	entries []audit.Entry
	bytes   int
	more    bool
	scratch []byte
}

// begin starts the page at the position, without the entry at the position.
func (r *pageReader) begin(from *audit.Position) error {
	if from == nil {
		r.keys = keysIn(r.tenant, r.plan.time)
		return nil
	}
	id, err := audit.ParseEntryID(from.Tie)
	if err != nil || !id.Time().Equal(from.Time) {
		return audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
	}
	// The time range also decides which partitions the page reads.
	if r.descending {
		r.plan.time = intersect(r.plan.time, audit.Time{To: id.Time().Add(time.Millisecond)})
		r.keys = keysIn(r.tenant, r.plan.time).before(keyOfEntry(r.tenant, id))
		return nil
	}
	r.plan.time = intersect(r.plan.time, audit.Time{From: id.Time()})
	r.keys = keysIn(r.tenant, r.plan.time).after(keyOfEntry(r.tenant, id))
	return nil
}

// read reads partition by partition until the page is full.
func (r *pageReader) read(ctx context.Context) error {
	partitions, err := r.db.partitions(ctx, r.tenant, r.isolation, r.plan.time)
	if err != nil {
		return err
	}
	if r.descending {
		slices.Reverse(partitions)
	}
	for _, p := range partitions {
		if err := r.readPartition(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if r.more {
			return nil
		}
	}
	return nil
}

// readPartition adds the entries of one partition.
func (r *pageReader) readPartition(ctx context.Context, p partition) error {
	query := r.plan.query(r.tenant, r.keys)
	if r.plan.anyResourceType {
		types, err := r.resourceTypes(ctx, p)
		if err != nil || len(types) == 0 {
			return err
		}
		query = append(query, bson.E{Key: fieldResourceType, Value: in(types)})
	}
	direction := 1
	if r.descending {
		direction = -1
	}
	left := r.request.Limit + 1 - len(r.entries)
	o := options.Find().SetHint(r.plan.index).SetLimit(int64(left)).SetBatchSize(int32(left)).SetSort(bson.D{{Key: fieldKey, Value: direction}})
	return r.db.findAt(ctx, p.String(), r.db.listsFrom, query, o, func(doc bson.Raw) (bool, error) {
		entry, err := readEntry(doc)
		if err != nil {
			return false, err
		}
		r.add(&entry)
		return !r.more, nil
	})
}

// resourceTypes returns the resource types of the entries that match plan.equals.
// MongoDB skips in the index from one type to the next.
func (r *pageReader) resourceTypes(ctx context.Context, p partition) ([]string, error) {
	collection, err := r.db.collectionAt(p.String(), r.db.listsFrom)
	if err != nil {
		return nil, err
	}
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
