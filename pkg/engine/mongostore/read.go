package mongostore

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

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

// EntriesByID implements search.EntryReader. It asks the primary: jobs decide by it what they remove or bring back,
// and a secondary can still have what was removed.
func (s *Entries) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	entries, err := s.db.entriesByID(ctx, s.isolation, tenant, ids, readpref.Primary())
	if err != nil {
		return nil, fmt.Errorf("%d entries of %s: %w", len(ids), tenant, err)
	}
	return entries, nil
}

// EntriesByID implements arrival.Reader. It asks the servers that answer
// lists. A secondary can be behind, so the primary is asked for the ids that it lacks.
func (x *Index) EntriesByID(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) ([]audit.Entry, error) {
	entries, err := x.db.entriesByID(ctx, x.isolation, tenant, ids, x.db.listsFrom)
	if err != nil {
		return nil, fmt.Errorf("%d listed entries of %s: %w", len(ids), tenant, err)
	}
	return entries, nil
}

// entriesByID asks a server, and the primary for what that does not have.
func (db *DB) entriesByID(ctx context.Context, isolated IsolationFunc, tenant audit.TenantID, ids []audit.EntryID, from *readpref.ReadPref) ([]audit.Entry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	isolation, err := isolated.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	missing := map[partition]map[entryKey]bool{}
	for _, id := range ids {
		p := partitionOf(tenant, isolation, id.Time())
		if missing[p] == nil {
			missing[p] = map[entryKey]bool{}
		}
		missing[p][keyOfEntry(tenant, id)] = true
	}
	entries, err := db.takeEntries(ctx, tenant, from, missing)
	if err != nil || from.Mode() == readpref.PrimaryMode {
		return entries, err
	}
	rest, err := db.takeEntries(ctx, tenant, readpref.Primary(), missing)
	return append(entries, rest...), err
}

// takeEntries returns the entries with these keys that a server has, and removes their keys.
func (db *DB) takeEntries(ctx context.Context, tenant audit.TenantID, from *readpref.ReadPref, missing map[partition]map[entryKey]bool) ([]audit.Entry, error) {
	var entries []audit.Entry
	for p, keys := range missing {
		if len(keys) == 0 {
			continue
		}
		query := entriesWithKeys(tenant, slices.Collect(maps.Keys(keys)))
		err := db.findAt(ctx, p.String(), from, query, options.Find().SetHint(indexID), func(doc bson.Raw) (bool, error) {
			entry, err := readEntry(doc)
			if err == nil {
				entries = append(entries, entry)
				delete(keys, keyOfEntry(tenant, entry.ID))
			}
			return true, err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return entries, nil
}
