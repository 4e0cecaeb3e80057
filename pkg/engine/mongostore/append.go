package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
)

// maxDocumentBytes is the largest document that MongoDB stores.
const maxDocumentBytes = 16 << 20

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
	isolation, err := s.isolation.of(ctx, tenant)
	if err != nil {
		return appended, err
	}
	batches, unstorable, err := newBatches(tenant, isolation, entries)
	if err != nil {
		return appended, err
	}
	appended.Rejections = unstorable
	for _, b := range batches {
		if err := retry(ctx, func() error { return s.db.store(ctx, tenant, b) }); err != nil {
			return appended, err
		}
		b.compare(entries, &appended)
	}
	return appended, nil
}

// batch is the entries of one partition, each identity once.
type batch struct {
	partition partition
	records   []*record
}

// record is one identity and what becomes of it.
type record struct {
	key         entryKey
	doc         bson.Raw
	fingerprint fingerprint // of the entry in doc
	indexes     []int       // of the entries with this identity; the first is in doc
	stored      *fingerprint
	rejection   string // why the server rejects the document permanently
}

// fingerprint shows whether two entries of one identity have the same content, and
// whether the same message brought them.
type fingerprint struct {
	digest     audit.Digest
	receivedAt int64 // Unix milliseconds
	message    int64 // the tag of the ingest message; 0: unknown
	restored   bool  // a restore brought the entry back
}

func fingerprintOf(e *audit.Entry) fingerprint {
	return fingerprint{digest: e.Digest, receivedAt: e.ReceivedAt.UnixMilli(), message: e.QueueMessage.Tag(), restored: !e.RestoredUntil.IsZero()}
}

// repeats reports whether a client sent the entry again.
func (f fingerprint) repeats(stored fingerprint) bool {
	return f.receivedAt != stored.receivedAt || f.message != stored.message && f.message != 0 && stored.message != 0
}

// newBatches groups the entries by partition, earliest first. It returns a rejection
// for each entry that cannot be stored.
func newBatches(tenant audit.TenantID, isolation audit.Isolation, entries []audit.Entry) (batches []*batch, rejections []audit.Rejection, err error) {
	byID := make(map[audit.EntryID]*record, len(entries))
	byPartition := map[partition]*batch{}
	for i := range entries {
		e := &entries[i]
		if e.Tenant != tenant {
			return nil, nil, fmt.Errorf("entry %s is of tenant %s", e.ID, e.Tenant)
		}
		if r := byID[e.ID]; r != nil {
			r.indexes = append(r.indexes, i)
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
		byID[e.ID] = r
		p := partitionOf(tenant, isolation, e.Timestamp)
		if byPartition[p] == nil {
			byPartition[p] = &batch{partition: p}
			batches = append(batches, byPartition[p])
		}
		byPartition[p].records = append(byPartition[p].records, r)
	}
	slices.SortFunc(batches, func(a, b *batch) int { return cmp.Compare(a.partition.period, b.partition.period) })
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
	if len(doc) > maxDocumentBytes {
		return nil, fmt.Sprintf("the entry is larger as a document than the %d bytes that MongoDB stores", maxDocumentBytes), nil
	}
	return &record{key: keyOfEntry(e.Tenant, e.ID), doc: doc, fingerprint: fingerprintOf(e), indexes: []int{index}}, "", nil
}

// compare compares every entry with what is stored under its identity.
func (b *batch) compare(entries []audit.Entry, appended *ingest.Appended) {
	for _, r := range b.records {
		for _, i := range r.indexes {
			f := fingerprintOf(&entries[i])
			switch {
			case r.rejection != "":
				appended.Rejections = append(appended.Rejections, audit.Rejection{Index: i, Code: audit.CodeUnstorable, Reason: r.rejection})
			case f.digest != r.stored.digest:
				appended.Rejections = append(appended.Rejections, audit.Rejection{
					Index: i, Code: audit.CodeIdentityConflict, Reason: "an entry with different content is stored under this identity", StoredDigest: r.stored.digest,
				})
			case f.repeats(*r.stored):
				appended.Repeated = append(appended.Repeated, i)
			}
		}
	}
}

// store inserts the records that the partition does not have: one command if all are
// new, and one more if some exist. After nil each record is stored or refused. It may
// be retried. For a partition of a past period it asks afterwards whether it was still open.
func (db *DB) store(ctx context.Context, tenant audit.TenantID, b *batch) error {
	opened, err := db.openPartition(ctx, b.partition)
	if err != nil {
		return err
	}
	if err = db.storePending(ctx, tenant, b); err == nil {
		err = db.confirmOpen(ctx, opened)
	}
	if err != nil && opened.past {
		b.forget()
	}
	return err
}

// storePending is store for a partition that is open.
func (db *DB) storePending(ctx context.Context, tenant audit.TenantID, b *batch) error {
	duplicates, err := db.insert(ctx, b.partition, b.pending())
	if err != nil || len(duplicates) == 0 {
		return err
	}
	if err := db.lookUp(ctx, tenant, b.partition, duplicates); err != nil {
		return err
	}
	if err := db.settle(ctx, tenant, b.partition, duplicates); err != nil {
		return err
	}
	if n := len(b.pending()); n > 0 {
		// The keys exist, but a majority does not have them yet, or they were removed
		// after the insert.
		return unavailable(fmt.Errorf("%d identities are taken but not confirmed", n))
	}
	return nil
}

// settle has restored entries stay that were sent again. If it fails, these are pending again.
func (db *DB) settle(ctx context.Context, tenant audit.TenantID, p partition, records []*record) error {
	var sent []*record
	var keys []entryKey
	for _, r := range records {
		if r.stored != nil && r.stored.restored && !r.fingerprint.restored && r.stored.digest == r.fingerprint.digest {
			sent, keys = append(sent, r), append(keys, r.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	collection, err := db.collection(p.String())
	if err != nil {
		return err
	}
	result, err := endRestore(ctx, collection, entriesWithKeys(tenant, keys))
	if err = failure(ctx, err); err == nil && result.MatchedCount < int64(len(keys)) {
		err = unavailable(fmt.Errorf("%d restored entries were changed or removed meanwhile", int64(len(keys))-result.MatchedCount))
	}
	if err != nil {
		for _, r := range sent {
			r.stored = nil
		}
	}
	return err
}

// pending returns the records that are neither stored nor refused.
func (b *batch) pending() []*record {
	var pending []*record
	for _, r := range b.records {
		if r.stored == nil && r.rejection == "" {
			pending = append(pending, r)
		}
	}
	return pending
}

// forget makes the records pending again that are stored: the partition may have been dropped.
func (b *batch) forget() {
	for _, r := range b.records {
		r.stored = nil
	}
}

// lookUp sets the stored fingerprint of the records that a majority has in the partition.
func (db *DB) lookUp(ctx context.Context, tenant audit.TenantID, p partition, records []*record) error {
	byKey := make(map[entryKey]*record, len(records))
	keys := make([]entryKey, len(records))
	for i, r := range records {
		byKey[r.key], keys[i] = r, r.key
	}
	o := options.Find().SetHint(indexID).SetProjection(ascending(fieldKey, fieldDigest, fieldReceivedAt, fieldQueueMessage, fieldRestoredUntil))
	return db.find(ctx, p.String(), entriesWithKeys(tenant, keys), o, func(doc bson.Raw) (bool, error) {
		key, err := readEntryKey(doc)
		if err != nil {
			return false, err
		}
		stored := new(fingerprint)
		// A document without the time counts as received at another time.
		stored.receivedAt, _ = doc.Lookup(fieldReceivedAt).DateTimeOK()
		stored.message, _ = doc.Lookup(fieldQueueMessage).Int64OK() // 0 without it
		_, stored.restored = doc.Lookup(fieldRestoredUntil).DateTimeOK()
		if err := readDigest(doc.Lookup(fieldDigest), &stored.digest); err != nil {
			return false, err
		}
		byKey[key].stored = stored
		return true, nil
	})
}

// insert inserts the records independently of each other. It marks those that
// were stored or refused, and returns those whose key exists.
func (db *DB) insert(ctx context.Context, p partition, records []*record) (duplicates []*record, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	docs := make([]bson.Raw, len(records))
	for i, r := range records {
		docs[i] = r.doc
	}
	faults, err := db.insertMany(ctx, p.String(), docs)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		switch fault, faulty := faults[i]; {
		case !faulty:
			r.stored = &r.fingerprint
		case mongo.IsDuplicateKeyError(fault):
			duplicates = append(duplicates, r)
		default:
			r.rejection = fmt.Sprintf("MongoDB refuses the entry as a document, with the code %d", fault.Code)
		}
	}
	return duplicates, nil
}
