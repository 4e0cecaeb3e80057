package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Entry implements search.Reader. Entries do not change, so that it reads from a
// secondary first. It asks the primary for an entry that the secondary lacks.
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

// entry returns the document of an entry. It starts with the partition that the
// isolation selects.
func (db *DB) entry(ctx context.Context, tenant audit.TenantID, id audit.EntryID, isolation audit.Isolation) (bson.Raw, error) {
	for _, from := range []*readpref.ReadPref{readpref.SecondaryPreferred(), readpref.Primary()} {
		for _, p := range sharedPartition(id.Time()).both(tenant, isolation) {
			doc, err := db.read(ctx, p.String(), from, keyOf(tenant, id.String()))
			if !errors.Is(err, audit.ErrNotFound) {
				return doc, err
			}
		}
	}
	return nil, audit.ErrNotFound
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
	isolation, err := s.isolation(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("look up the isolation: %w", err)
	}
	missing := map[partition]map[audit.EntryID]bool{} // by the shared partition of the month
	for _, id := range ids {
		month := sharedPartition(id.Time())
		if missing[month] == nil {
			missing[month] = map[audit.EntryID]bool{}
		}
		missing[month][id] = true
	}
	entries := make([]audit.Entry, 0, len(ids))
	for month, ids := range missing {
		for _, p := range month.both(tenant, isolation) {
			if entries, err = s.db.appendEntries(ctx, entries, p, tenant, ids); err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	return entries, nil
}

// appendEntries appends the missing entries that are in the partition, and
// removes their ids from missing.
func (db *DB) appendEntries(ctx context.Context, entries []audit.Entry, p partition, tenant audit.TenantID, missing map[audit.EntryID]bool) ([]audit.Entry, error) {
	if len(missing) == 0 {
		return entries, nil
	}
	keys := make([]string, 0, len(missing))
	for id := range missing {
		keys = append(keys, keyOf(tenant, id.String()))
	}
	err := db.find(ctx, p.String(), bson.D{{Key: fieldKey, Value: in(keys)}}, options.Find(), func(doc bson.Raw) (bool, error) {
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
