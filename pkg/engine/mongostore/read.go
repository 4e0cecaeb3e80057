package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Entry implements search.Reader. It reads from the primary, which has the newest entries.
func (s *Entries) Entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error) {
	entry, err := s.entry(ctx, tenant, id)
	if err != nil {
		return audit.Entry{}, fmt.Errorf("entry %s of %s: %w", id, tenant, err)
	}
	return entry, nil
}

func (s *Entries) entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID) (audit.Entry, error) {
	doc, err := s.db.entry(ctx, s.isolation, tenant, id)
	if err != nil {
		return audit.Entry{}, err
	}
	return readEntry(doc)
}

// entry returns the document of an entry. The id names the partition.
func (db *DB) entry(ctx context.Context, isolation IsolationFunc, tenant audit.TenantID, id audit.EntryID) (bson.Raw, error) {
	level, err := isolation.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	query := append(bson.D{{Key: fieldKey, Value: keyOfEntry(tenant, id).binary()}}, ofTenant(tenant)...)
	return db.findOne(ctx, partitionOf(tenant, level, id.Time()).String(), indexID, query)
}

// EntriesByID implements stream.Reader. It reads from the primary, which has
// the newest entries.
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
	isolation, err := s.isolation.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	keys := map[partition][]entryKey{}
	for _, id := range ids {
		p := partitionOf(tenant, isolation, id.Time())
		keys[p] = append(keys[p], keyOfEntry(tenant, id))
	}
	entries := make([]audit.Entry, 0, len(ids))
	for p, keys := range keys {
		err := s.db.find(ctx, p.String(), entriesWithKeys(tenant, keys), options.Find().SetHint(indexID), func(doc bson.Raw) (bool, error) {
			entry, err := readEntry(doc)
			entries = append(entries, entry)
			return true, err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return entries, nil
}
