package mongostore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// maxIDs is the most ids that one call returns, which is about a megabyte on the wire.
const maxIDs = 10_000

// IDs implements search.IDLister. MongoDB answers it from the index and reads no
// documents. It may read from a secondary, which can be behind.
func (s *Entries) IDs(ctx context.Context, tenant audit.TenantID, from, to time.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	ids, err := s.db.ids(ctx, tenant, audit.Time{From: from, To: to}, after, min(limit, maxIDs))
	if err != nil {
		return nil, fmt.Errorf("list ids of %s: %w", tenant, err)
	}
	return ids, nil
}

func (db *DB) ids(ctx context.Context, tenant audit.TenantID, t audit.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	partitions, err := db.partitions(ctx, tenant)
	if err != nil {
		return nil, err
	}
	// Keys are in the order of time: MongoDB can start in the index at this time.
	t = intersect(t, audit.Time{From: after.Time()})
	for len(partitions) > 0 {
		month := partitions[0].month
		var found []audit.EntryID
		for len(partitions) > 0 && partitions[0].month == month { // the shared partition and the tenant's own
			if inMonth(t, month) {
				if found, err = db.appendIDs(ctx, found, partitions[0], tenant, t, after, limit); err != nil {
					return nil, fmt.Errorf("%s: %w", partitions[0], err)
				}
			}
			partitions = partitions[1:]
		}
		if len(found) > 0 {
			slices.SortFunc(found, func(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) })
			found = slices.Compact(found) // stored twice while the tenant's isolation changed
			return found[:min(limit, len(found))], nil
		}
	}
	return nil, nil
}

// appendIDs appends the first ids of one partition, up to limit.
func (db *DB) appendIDs(ctx context.Context, ids []audit.EntryID, p partition, tenant audit.TenantID, t audit.Time, after audit.EntryID, limit int) ([]audit.EntryID, error) {
	query := append(ofTenant(tenant), timeCondition(t)...)
	query = append(query, bson.E{Key: fieldKey, Value: bson.D{{Key: "$gt", Value: keyOf(tenant, after.String())}}})
	o := options.Find().SetHint(indexTime).SetSort(ascending(fieldTimestamp, fieldKey)).
		SetProjection(ascending(fieldKey)).SetLimit(int64(limit)).SetBatchSize(int32(limit))
	err := db.findAt(ctx, p.String(), readpref.SecondaryPreferred(), query, o, func(doc bson.Raw) (bool, error) {
		key, _ := doc.Lookup(fieldKey).StringValueOK()
		id, err := audit.ParseEntryID(strings.TrimPrefix(key, keyOf(tenant, "")))
		if err != nil {
			return false, fmt.Errorf("the _id of an entry %w", errStored)
		}
		ids = append(ids, id)
		return true, nil
	})
	return ids, err
}
