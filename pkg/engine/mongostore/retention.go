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
	"github.com/ocelot-audit/ocelot/pkg/retention"
)

// Retained implements retention.Store. It reads the primary.
func (s *Entries) Retained(ctx context.Context, tenant audit.TenantID, of retention.Selection, limit int) ([]retention.Entry, error) {
	found, err := s.retained(ctx, tenant, of, min(limit, retention.MaxEntries))
	if err != nil {
		return nil, fmt.Errorf("list entries of %s to retain: %w", tenant, err)
	}
	return found, nil
}

// retained returns entries of the first partition that has any.
func (s *Entries) retained(ctx context.Context, tenant audit.TenantID, of retention.Selection, limit int) ([]retention.Entry, error) {
	skew, err := s.db.skew(ctx)
	if err != nil {
		return nil, err
	}
	t := audit.Time{From: of.From, To: of.To}
	found, err := firstPage(ctx, s, tenant, t, of.After, func(p partition) ([]retention.Entry, error) {
		return s.db.retainedIn(ctx, p, tenant, of, limit)
	})
	for i := range found {
		if !found[i].DeletableAt.IsZero() {
			found[i].DeletableAt = found[i].DeletableAt.Add(-skew)
		}
	}
	return found, err
}

// retainedIn returns the first entries in one partition, with the server's times. The index of the marked entries finds
// these beside any number of others.
func (db *DB) retainedIn(ctx context.Context, p partition, tenant audit.TenantID, of retention.Selection, limit int) ([]retention.Entry, error) {
	if !of.Marked {
		return db.retainedBy(ctx, indexID, p, tenant, of, limit)
	}
	found, err := db.retainedBy(ctx, indexMarked, p, tenant, of, limit)
	var server mongo.ServerError
	if errors.As(err, &server) && server.HasErrorCode(codeBadValue) { // the partition was created without that index
		return db.retainedBy(ctx, indexID, p, tenant, of, limit)
	}
	return found, err
}

// retainedBy is retainedIn by an index.
func (db *DB) retainedBy(ctx context.Context, index string, p partition, tenant audit.TenantID, of retention.Selection, limit int) (found []retention.Entry, err error) {
	query := append(ofTenant(tenant), keysAfter(tenant, audit.Time{From: of.From, To: of.To}, of.After).condition())
	if of.Marked {
		query = append(query, isMarked()...)
	}
	fields := ascending(fieldKey, fieldTimestamp, fieldUserID, fieldAction, fieldSeverity, fieldSubmittedBy, fieldReceivedAt, fieldRestoredUntil, fieldDeletableAt)
	if of.Encrypted {
		fields = append(fields, bson.E{Key: fieldEncrypted, Value: 1})
	}
	o := options.Find().SetHint(index).SetSort(ascending(fieldKey)).SetLimit(int64(limit)).SetBatchSize(int32(limit)).SetProjection(fields)
	err = db.find(ctx, p.String(), query, o, func(doc bson.Raw) (bool, error) {
		e, err := readEntry(doc)
		if err != nil {
			return false, err
		}
		key, err := readEntryKey(doc)
		if err != nil {
			return false, err
		}
		e.ID = key.id()
		at, _ := doc.Lookup(fieldDeletableAt).TimeOK() // absent: zero
		found = append(found, retention.Entry{Entry: e, DeletableAt: at.UTC()})
		return true, nil
	})
	return found, err
}

// Mark implements retention.Store. MongoDB removes an entry about a minute after its time.
func (s *Entries) Mark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, after time.Duration) error {
	if err := s.mark(ctx, tenant, ids, after); err != nil {
		return fmt.Errorf("mark %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// mark marks those of the entries that are not marked and that meet the conditions.
func (s *Entries) mark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, after time.Duration, conditions ...bson.E) error {
	now, _, err := s.db.serverNow(ctx)
	if err != nil {
		return err
	}
	conditions = append(conditions, bson.E{Key: fieldDeletableAt, Value: bson.D{{Key: "$exists", Value: false}}})
	return s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
		_, err := c.UpdateMany(ctx, append(entries, conditions...), set(bson.E{Key: fieldDeletableAt, Value: now.Add(after)}))
		return err
	})
}

// MarkRead implements cleanup.Marker. An entry that was sent again has a later time than all that were read before,
// and an entry that was restored again has the time of another restore.
func (s *Entries) MarkRead(ctx context.Context, tenant audit.TenantID, entries []audit.Entry) error {
	received, restored := map[time.Time]bool{}, map[time.Time]bool{}
	for i := range entries {
		received[entries[i].ReceivedAt], restored[entries[i].RestoredUntil] = true, true
	}
	err := s.mark(ctx, tenant, audit.IDsOf(entries), 0,
		bson.E{Key: fieldReceivedAt, Value: oneOf(received)}, bson.E{Key: fieldRestoredUntil, Value: oneOf(restored)})
	if err != nil {
		return fmt.Errorf("mark %d entries of %s: %w", len(entries), tenant, err)
	}
	return nil
}

// oneOf returns the condition that a field has one of the times. The zero time is that of a field that is absent.
func oneOf(times map[time.Time]bool) bson.D {
	values := make(bson.A, 0, len(times))
	for t := range times {
		if t.IsZero() {
			values = append(values, nil)
		} else {
			values = append(values, t)
		}
	}
	return bson.D{{Key: "$in", Value: values}}
}

// Unmark implements retention.Store.
func (s *Entries) Unmark(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	err := s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
		_, err := c.UpdateMany(ctx, entries, bson.D{{Key: "$unset", Value: bson.D{{Key: fieldDeletableAt, Value: ""}}}})
		return err
	})
	if err != nil {
		return fmt.Errorf("unmark %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// KeepRestored implements restore.Store.
func (s *Entries) KeepRestored(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, until time.Time) error {
	earlier := bson.E{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldRestoredUntil, Value: bson.D{{Key: "$exists", Value: false}}}},
		bson.D{{Key: fieldRestoredUntil, Value: bson.D{{Key: "$lt", Value: until}}}},
	}}
	update := append(set(bson.E{Key: fieldRestoredUntil, Value: until}), bson.E{Key: "$unset", Value: bson.D{{Key: fieldDeletableAt, Value: ""}}})
	err := s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
		_, err := c.UpdateMany(ctx, append(entries, earlier), update)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// EndRestore implements retention.Store.
func (s *Entries) EndRestore(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	err := s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
		_, err := endRestore(ctx, c, entries)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the restore of %d entries of %s: %w", len(ids), tenant, err)
	}
	return nil
}

// endRestore sends the command of EndRestore.
func endRestore(ctx context.Context, c *mongo.Collection, entries bson.D) (*mongo.UpdateResult, error) {
	restored := append(entries, bson.E{Key: fieldRestoredUntil, Value: bson.D{{Key: "$exists", Value: true}}})
	return c.UpdateMany(ctx, restored, bson.D{{Key: "$unset", Value: bson.D{{Key: fieldRestoredUntil, Value: ""}, {Key: fieldDeletableAt, Value: ""}}}})
}

// RemoveDue implements retention.Store. If the answer to a command is lost, entries that it removed
// are not counted.
func (s *Entries) RemoveDue(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (removed int, err error) {
	now, _, err := s.db.serverNow(ctx)
	if err == nil {
		due := bson.E{Key: fieldDeletableAt, Value: bson.D{{Key: "$lte", Value: now}}}
		err = s.eachPartition(ctx, tenant, ids, func(c *mongo.Collection, entries bson.D) error {
			result, err := c.DeleteMany(ctx, append(entries, due))
			if err == nil {
				removed += int(result.DeletedCount)
			}
			return err
		})
	}
	if err != nil {
		return removed, fmt.Errorf("remove %d entries of %s: %w", len(ids), tenant, err)
	}
	return removed, nil
}

// eachPartition sends one command to each partition that can have some of the entries. It repeats
// a command whose answer is lost.
func (s *Entries) eachPartition(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID, send func(c *mongo.Collection, entries bson.D) error) error {
	isolation, err := s.isolation.of(ctx, tenant)
	if err != nil {
		return err
	}
	byPartition := map[partition][]entryKey{}
	for _, id := range ids {
		p := partitionOf(tenant, isolation, id.Time())
		byPartition[p] = append(byPartition[p], keyOfEntry(tenant, id))
	}
	for p, keys := range byPartition {
		collection, err := s.db.collection(p.String())
		if err != nil {
			return err
		}
		if err := retry(ctx, func() error { return failure(ctx, send(collection, entriesWithKeys(tenant, keys))) }); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}
