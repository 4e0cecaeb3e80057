package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// maxDocument is the largest document that MongoDB stores, in bytes.
const maxDocument = 16 << 20

// maxPurge is the most records that one call of a Purge removes.
const maxPurge = 1000

// IsolationFunc returns how a tenant's entries lie; audit.ErrNotFound where
// there is no such tenant. It is asked at every call and should remember.
type IsolationFunc func(ctx context.Context, tenant audit.TenantID) (audit.Isolation, error)

// Entries is the system of record. It implements ingest.Store, search.Reader,
// search.IDLister, stream.Reader and jobs.Purger.
type Entries struct {
	db        *DB
	isolation IsolationFunc
}

// Entries returns the system of record. A tenant's entries go to the partition
// that isolation says; they are found and purged wherever they are.
func (db *DB) Entries(isolation IsolationFunc) *Entries {
	return &Entries{db: db, isolation: isolation}
}

// Append implements ingest.Store. Entries are durable once a majority of the
// replica set has them.
func (s *Entries) Append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (ingest.Appended, error) {
	appended, err := s.append(ctx, tenant, entries)
	if err != nil {
		return ingest.Appended{}, fmt.Errorf("append to %s: %w", tenant, err)
	}
	slices.SortFunc(appended.Rejections, func(a, b audit.Rejection) int { return cmp.Compare(a.Index, b.Index) })
	slices.Sort(appended.Repeated)
	return appended, nil
}

func (s *Entries) append(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) (appended ingest.Appended, err error) {
	if len(entries) == 0 {
		return appended, nil
	}
	isolation, err := s.isolation(ctx, tenant)
	if err != nil {
		return appended, fmt.Errorf("look up the isolation: %w", err)
	}
	batches, unstorable, err := sortOut(tenant, entries)
	if err != nil {
		return appended, err
	}
	appended.Rejections = unstorable
	for _, b := range batches {
		places := b.month.both(tenant, isolation)
		if err := repeat(ctx, func() error { return s.db.store(ctx, b, places) }); err != nil {
			return appended, err
		}
		b.compare(entries, &appended)
	}
	return appended, nil
}

// batch is the entries of one month, each identity once.
type batch struct {
	month   partition // the shared one
	records []*record
}

// record is an identity that is to be stored.
type record struct {
	key    string
	doc    bson.Raw
	made   original // of the entry in doc
	of     []int    // the indexes of the entries with this identity, doc's first
	stored *original
	reason string // why the server refused it for good
}

// original tells whether two entries of one identity are the same, and whether
// they came at the same time.
type original struct {
	digest   audit.Digest
	received int64 // Unix milliseconds
}

func originalOf(e *audit.Entry) original {
	return original{digest: e.Digest, received: e.ReceivedAt.UnixMilli()}
}

// sortOut makes the batches, in the order of their months.
func sortOut(tenant audit.TenantID, entries []audit.Entry) (batches []*batch, rejections []audit.Rejection, err error) {
	byKey := make(map[audit.EntryID]*record, len(entries))
	byMonth := map[partition]*batch{}
	for i := range entries {
		e := &entries[i]
		if e.Tenant != tenant {
			return nil, nil, fmt.Errorf("entry %s is of tenant %s", e.ID, e.Tenant)
		}
		if r := byKey[e.ID]; r != nil {
			r.of = append(r.of, i)
			continue
		}
		r, reason, err := newRecord(e, i)
		switch {
		case err != nil:
			return nil, nil, err
		case reason != "":
			rejections = append(rejections, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: reason})
			continue
		}
		byKey[e.ID] = r
		month := sharedPartition(e.Timestamp)
		if byMonth[month] == nil {
			byMonth[month] = &batch{month: month}
			batches = append(batches, byMonth[month])
		}
		byMonth[month].records = append(byMonth[month].records, r)
	}
	slices.SortFunc(batches, func(a, b *batch) int { return cmp.Compare(a.month.month, b.month.month) })
	return batches, rejections, nil
}

// newRecord returns the record of an entry, or the reason why it cannot be stored.
func newRecord(e *audit.Entry, index int) (r *record, reason string, err error) {
	if !e.ID.Time().Equal(e.Timestamp) {
		return nil, "the id does not name the millisecond of the timestamp", nil
	}
	doc, err := entryDocument(e)
	if err != nil {
		return nil, "", fmt.Errorf("entry %s: %w", e.ID, err)
	}
	if len(doc) > maxDocument {
		return nil, fmt.Sprintf("the entry is larger as a document than the %d bytes that MongoDB stores", maxDocument), nil
	}
	return &record{key: keyOf(e.Tenant, e.ID.String()), doc: doc, made: originalOf(e), of: []int{index}}, "", nil
}

// compare compares every entry with what is stored under its identity.
func (b *batch) compare(entries []audit.Entry, appended *ingest.Appended) {
	for _, r := range b.records {
		for _, i := range r.of {
			e := originalOf(&entries[i])
			switch {
			case r.reason != "":
				appended.Rejections = append(appended.Rejections, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: r.reason})
			case e.digest != r.stored.digest:
				appended.Rejections = append(appended.Rejections, audit.Rejection{
					Index: i, Code: audit.CodeIdentityConflict, Reason: "an entry with different content is stored under this identity",
				})
			case e.received != r.stored.received:
				appended.Repeated = append(appended.Repeated, i)
			}
		}
	}
}

// store puts the batch into the first of the places, but for what is already
// in either of them. After nil each record is refused or has its stored original.
// It may be repeated.
func (db *DB) store(ctx context.Context, b *batch, places [2]partition) error {
	if err := db.ensurePartition(ctx, places[0]); err != nil {
		return err
	}
	if err := db.lookUp(ctx, places[1], b.open()); err != nil {
		return err
	}
	taken, err := db.insert(ctx, places[0], b.open())
	if err != nil || len(taken) == 0 {
		return err
	}
	if err := db.lookUp(ctx, places[0], taken); err != nil {
		return err
	}
	if n := len(b.open()); n > 0 {
		// Their keys were taken, but a majority does not have them yet, or they
		// expired meanwhile.
		return unavailable(fmt.Errorf("%d identities are taken but not confirmed", n))
	}
	return nil
}

// open returns the records that are neither stored nor refused.
func (b *batch) open() []*record {
	var open []*record
	for _, r := range b.records {
		if r.stored == nil && r.reason == "" {
			open = append(open, r)
		}
	}
	return open
}

// lookUp sets the stored original of the records that a majority has in the partition.
func (db *DB) lookUp(ctx context.Context, p partition, records []*record) error {
	if len(records) == 0 {
		return nil
	}
	byKey := make(map[string]*record, len(records))
	keys := make([]string, len(records))
	for i, r := range records {
		byKey[r.key], keys[i] = r, r.key
	}
	return db.confirm(ctx, p.String(), keys, []string{fieldDigest, fieldReceivedAt}, func(key string, doc bson.Raw) error {
		r := byKey[key]
		r.stored = new(original)
		// An entry without the time cannot be told from one that came at another.
		r.stored.received, _ = doc.Lookup(fieldReceivedAt).DateTimeOK()
		return readDigest(doc.Lookup(fieldDigest), &r.stored.digest)
	})
}

// confirm visits those documents with one of the keys that a majority has, with
// nothing but the fields in them.
func (db *DB) confirm(ctx context.Context, name string, keys, fields []string, visit func(key string, doc bson.Raw) error) error {
	collection, err := db.collection(name)
	if err != nil {
		return err
	}
	projection := bson.D{{Key: fieldKey, Value: 1}}
	for _, field := range fields {
		projection = append(projection, bson.E{Key: field, Value: 1})
	}
	cursor, err := collection.Find(ctx, bson.D{{Key: fieldKey, Value: in(keys)}}, options.Find().SetProjection(projection))
	if err != nil {
		return failure(ctx, err)
	}
	return each(ctx, cursor, func(doc bson.Raw) (bool, error) {
		return true, visit(doc.Lookup(fieldKey).StringValue(), doc)
	})
}

// insert inserts the records, each on its own: it sets what was inserted or
// refused for good, and returns those whose key was taken.
func (db *DB) insert(ctx context.Context, p partition, records []*record) (taken []*record, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	collection, err := db.collection(p.String())
	if err != nil {
		return nil, err
	}
	docs := make([]bson.Raw, len(records))
	for i, r := range records {
		docs[i] = r.doc
	}
	_, err = collection.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	faults, err := itemFaults(ctx, err)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		switch fault, faulty := faults[i]; {
		case !faulty:
			r.stored = &r.made
		case mongo.IsDuplicateKeyError(fault):
			taken = append(taken, r)
		default:
			r.reason = fmt.Sprintf("MongoDB refuses the entry as a document, with the code %d", fault.Code)
		}
	}
	return taken, nil
}

// itemFaults returns what went wrong with single documents of an InsertMany, by
// their index. The error is about the whole call: any document may be stored.
func itemFaults(ctx context.Context, err error) (map[int]mongo.WriteError, error) {
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || bulk.WriteConcernError != nil {
		return nil, failure(ctx, err)
	}
	faults := make(map[int]mongo.WriteError, len(bulk.WriteErrors))
	for _, e := range bulk.WriteErrors {
		if !mongo.IsDuplicateKeyError(e.WriteError) && !slices.Contains(ofDocument, e.Code) {
			return nil, failure(ctx, err)
		}
		faults[e.Index] = e.WriteError
	}
	return faults, nil
}

// each calls visit for each document of a cursor until it returns false. The
// document is only good during the call.
func each(ctx context.Context, cursor *mongo.Cursor, visit func(doc bson.Raw) (more bool, err error)) (err error) {
	defer func() {
		if closeErr := cursor.Close(ctx); err == nil {
			err = failure(ctx, closeErr)
		}
	}()
	for cursor.Next(ctx) {
		if more, err := visit(cursor.Current); err != nil || !more {
			return err
		}
	}
	return failure(ctx, cursor.Err())
}

// Entry implements search.Reader. Entries do not change, so that one found on a
// secondary is as good as the primary's; only what is missing there is asked
// of the primary.
func (s *Entries) Entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error) {
	entry, err := s.entry(ctx, tenant, id)
	if err != nil {
		return audit.Entry{}, fmt.Errorf("entry %s of %s: %w", id, tenant, err)
	}
	return entry, nil
}

func (s *Entries) entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error) {
	isolation, err := s.isolation(ctx, tenant)
	if err != nil {
		return audit.Entry{}, fmt.Errorf("look up the isolation: %w", err)
	}
	doc, err := s.db.entry(ctx, tenant, id, isolation)
	if err != nil {
		return audit.Entry{}, err
	}
	return readEntry(doc)
}

// entry returns the document of an entry, looking first where the isolation puts it.
func (db *DB) entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID, isolation audit.Isolation) (bson.Raw, error) {
	for _, from := range []*readpref.ReadPref{readpref.SecondaryPreferred(), readpref.Primary()} {
		for _, place := range sharedPartition(id.Time()).both(tenant, isolation) {
			doc, err := db.read(ctx, place.String(), from, keyOf(tenant, id.String()))
			if !errors.Is(err, audit.ErrNotFound) {
				return doc, err
			}
		}
	}
	return nil, audit.ErrNotFound
}

// EntriesByID implements stream.Reader. It reads from the primary, which has
// what was stored a moment ago.
func (s *Entries) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	entries, err := s.entriesByID(ctx, tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("%d entries of %s: %w", len(ids), tenant, err)
	}
	return entries, nil
}

func (s *Entries) entriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	isolation, err := s.isolation(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("look up the isolation: %w", err)
	}
	byMonth := map[partition]map[audit.EntryID]bool{} // what was not found yet
	for _, id := range ids {
		month := sharedPartition(id.Time())
		if byMonth[month] == nil {
			byMonth[month] = map[audit.EntryID]bool{}
		}
		byMonth[month][id] = true
	}
	entries := make([]audit.Entry, 0, len(ids))
	for month, missing := range byMonth {
		for _, place := range month.both(tenant, isolation) {
			if entries, err = s.db.appendEntries(ctx, entries, place, tenant, missing); err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
		}
	}
	return entries, nil
}

// appendEntries adds those of the missing entries that lie in the partition;
// they are missing no longer.
func (db *DB) appendEntries(ctx context.Context, entries []audit.Entry, p partition, tenant audit.TenantID, missing map[audit.EntryID]bool) ([]audit.Entry, error) {
	if len(missing) == 0 {
		return entries, nil
	}
	collection, err := db.collection(p.String())
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(missing))
	for id := range missing {
		keys = append(keys, keyOf(tenant, id.String()))
	}
	cursor, err := collection.Find(ctx, bson.D{{Key: fieldKey, Value: in(keys)}})
	if err != nil {
		return nil, failure(ctx, err)
	}
	err = each(ctx, cursor, func(doc bson.Raw) (bool, error) {
		entry, err := readEntry(doc)
		if err != nil {
			return false, err
		}
		entries = append(entries, entry)
		delete(missing, entry.ID)
		return true, nil
	})
	return entries, err
}

// read returns the document with this _id, audit.ErrNotFound where there is none.
func (db *DB) read(ctx context.Context, name string, from *readpref.ReadPref, key string) (bson.Raw, error) {
	database, err := db.database()
	if err != nil {
		return nil, err
	}
	collection := database.Collection(name, options.Collection().SetReadPreference(from))
	doc, err := collection.FindOne(ctx, bson.D{{Key: fieldKey, Value: key}}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, audit.ErrNotFound
	}
	return doc, failure(ctx, err)
}

// Purge implements jobs.Purger. It drops the tenant's own partitions once
// they are empty.
func (s *Entries) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.purge(ctx, tenant, min(limit, maxPurge))
	if err != nil {
		return 0, fmt.Errorf("purge entries of %s: %w", tenant, err)
	}
	return n, nil
}

func (s *Entries) purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	partitions, err := s.db.partitions(ctx, tenant)
	if err != nil {
		return 0, err
	}
	purged := 0
	for _, p := range partitions {
		n, err := s.db.purge(ctx, p.String(), indexTime, tenant, limit-purged)
		if err != nil {
			return 0, err
		}
		if purged += n; purged >= limit {
			return purged, nil
		}
		if p.tenant == tenant {
			if err := s.db.drop(ctx, p); err != nil {
				return 0, err
			}
		}
	}
	return purged, nil
}

// purge deletes up to limit documents of the tenant, and up to maxPurge, found
// by an index that leads with the tenant.
func (db *DB) purge(ctx context.Context, name, index string, tenant audit.TenantID, limit int) (int, error) {
	if limit = min(limit, maxPurge); limit < 1 {
		return 0, nil // to MongoDB 0 is no limit
	}
	collection, err := db.collection(name)
	if err != nil {
		return 0, err
	}
	found := func() *options.FindOptionsBuilder {
		return options.Find().SetProjection(bson.D{{Key: fieldKey, Value: 1}}).SetLimit(int64(limit))
	}
	mine := bson.D{{Key: fieldTenant, Value: string(tenant)}}
	cursor, err := collection.Find(ctx, mine, found().SetHint(index))
	var server mongo.ServerError
	if errors.As(err, &server) && server.HasErrorCode(codeBadValue) {
		// There is no such index: somebody wrote, after an earlier pass had dropped the
		// collection, what was on its way.
		cursor, err = collection.Find(ctx, mine, found())
	}
	if err != nil {
		return 0, failure(ctx, err)
	}
	var keys bson.A
	err = each(ctx, cursor, func(doc bson.Raw) (bool, error) {
		key, _ := doc.Lookup(fieldKey).StringValueOK()
		keys = append(keys, key)
		return true, nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	_, err = collection.DeleteMany(ctx, bson.D{
		{Key: fieldKey, Value: bson.D{{Key: "$in", Value: keys}}}, {Key: fieldTenant, Value: string(tenant)},
	})
	// Those that another call deleted meanwhile count as well: what is left is
	// what matters.
	return len(keys), failure(ctx, err)
}

// drop removes a tenant's own partition, which is empty but for what is on its
// way to a deleted tenant.
func (db *DB) drop(ctx context.Context, p partition) error {
	collection, err := db.collection(p.String())
	if err != nil {
		return err
	}
	if err := failure(ctx, collection.Drop(ctx)); err != nil {
		return fmt.Errorf("drop %s: %w", p, err)
	}
	db.catalog.forget(p.String())
	return nil
}
