package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// IDs implements search.IDLister. It reads in the order of _id from the given id on.
// MongoDB sends only the ids. It reads the primary, as Count does: what compares the store with the index
// must miss no entry that a secondary lacks.
func (s *Entries) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	ids, err := s.ids(ctx, tenant, audit.Time{From: from, To: to}, after, min(limit, search.MaxIDs))
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	return ids, nil
}

// ids returns ids of the first partition that has any.
func (s *Entries) ids(ctx context.Context, tenant audit.TenantID, t audit.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	return firstPage(ctx, s, tenant, t, after, func(p partition) ([]audit.EntryID, error) {
		return s.db.idsIn(ctx, p, tenant, t, after, limit)
	})
}

// firstPage returns what read finds in the first partition that has anything, of those with entries
// from t that come after an id.
func firstPage[T any](ctx context.Context, s *Entries, tenant audit.TenantID, t audit.Time, after audit.EntryID, read func(p partition) ([]T, error)) ([]T, error) {
	isolation, err := s.isolation.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if !after.IsZero() {
		t = intersect(t, audit.Time{From: after.Time()})
	}
	partitions, err := s.db.partitions(ctx, tenant, isolation, t)
	if err != nil {
		return nil, err
	}
	for _, p := range partitions {
		found, err := read(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, nil
}

// idsIn returns the first ids in one partition, up to limit.
func (db *DB) idsIn(ctx context.Context, p partition, tenant audit.TenantID, t audit.Time, after audit.EntryID, limit int) (ids []audit.EntryID, err error) {
	query := append(ofTenant(tenant), keysAfter(tenant, t, after).condition())
	o := options.Find().SetHint(indexID).SetSort(ascending(fieldKey)).
		SetProjection(ascending(fieldKey)).SetLimit(int64(limit)).SetBatchSize(int32(limit))
	err = db.find(ctx, p.String(), query, o, func(doc bson.Raw) (bool, error) {
		key, err := readEntryKey(doc)
		ids = append(ids, key.id())
		return true, err
	})
	return ids, err
}

// Count implements search.IDLister. It counts keys, and reads the primary.
func (s *Entries) Count(ctx context.Context, tenant audit.TenantID, from, to time.Time) (int64, error) {
	n, err := s.count(ctx, tenant, audit.Time{From: from, To: to})
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Entries) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.Count(ctx, tenant, time.Time{}, time.Time{})
}

func (s *Entries) count(ctx context.Context, tenant audit.TenantID, t audit.Time) (total int64, err error) {
	isolation, err := s.isolation.of(ctx, tenant)
	if err != nil {
		return 0, err
	}
	partitions, err := s.db.partitions(ctx, tenant, isolation, t)
	if err != nil {
		return 0, err
	}
	for _, p := range partitions {
		n, err := s.db.countEntries(ctx, p, tenant, t)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p, err)
		}
		total += n
	}
	return total, nil
}

// countEntries counts the tenant's entries in a partition. The index time answers it alone.
// Without that index MongoDB reads the documents, whose keys it finds in the index of _id.
func (db *DB) countEntries(ctx context.Context, p partition, tenant audit.TenantID, t audit.Time) (int64, error) {
	collection, err := db.collection(p.String())
	if err != nil {
		return 0, err
	}
	if db.indexes == IndexesFull {
		n, err := collection.CountDocuments(ctx, append(ofTenant(tenant), timeCondition(fieldTimestamp, t.From, t.To)...), options.Count().SetHint(indexTime))
		var server mongo.ServerError
		if !errors.As(err, &server) || !server.HasErrorCode(codeBadValue) {
			return n, failure(ctx, err)
		} // else the partition was created with fewer indexes
	}
	n, err := collection.CountDocuments(ctx, append(ofTenant(tenant), keysIn(tenant, t).condition()), options.Count().SetHint(indexID))
	return n, failure(ctx, err)
}
