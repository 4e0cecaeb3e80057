package mongostore

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// Quarantine keeps entries that a step refused. It implements quarantine.Store
// and jobs.CountedPurger.
type Quarantine struct{ db *DB }

// Quarantine returns the quarantine.
func (db *DB) Quarantine() *Quarantine { return &Quarantine{db} }

// The fields that only an item has.
const (
	fieldStep          = "step"
	fieldCode          = "code"
	fieldReason        = "reason"
	fieldQuarantinedAt = "quarantined_at"
	fieldEntry         = "entry" // as in a partition, without _id
	fieldEntryType     = fieldEntry + "." + fieldResourceType
	fieldEntryResource = fieldEntry + "." + fieldResourceID
)

func itemDocument(tenant audit.TenantID, item *quarantine.Item) (bson.Raw, error) {
	start, doc := bsoncore.AppendDocumentStart(nil)
	doc = bsoncore.AppendStringElement(doc, fieldKey, keyOf(tenant, item.ID))
	doc = bsoncore.AppendStringElement(doc, fieldTenant, string(tenant))
	doc = bsoncore.AppendStringElement(doc, fieldID, item.ID)
	doc = bsoncore.AppendStringElement(doc, fieldStep, item.Step)
	doc = bsoncore.AppendStringElement(doc, fieldCode, item.Code)
	doc = bsoncore.AppendStringElement(doc, fieldReason, item.Reason)
	doc = bsoncore.AppendTimeElement(doc, fieldQuarantinedAt, item.QuarantinedAt)
	inner, doc := bsoncore.AppendDocumentElementStart(doc, fieldEntry)
	doc, err := bsoncore.AppendDocumentEnd(appendEntry(doc, &item.Entry), inner)
	if err != nil {
		return nil, err
	}
	return bsoncore.AppendDocumentEnd(doc, start)
}

func readItem(doc bson.Raw) (quarantine.Item, error) {
	var item quarantine.Item
	for name, to := range map[string]*string{fieldID: &item.ID, fieldStep: &item.Step, fieldCode: &item.Code, fieldReason: &item.Reason} {
		text, ok := doc.Lookup(name).StringValueOK()
		if !ok {
			return item, fmt.Errorf("field %s %w", name, errStored)
		}
		*to = text
	}
	if err := readDate(doc.Lookup(fieldQuarantinedAt), &item.QuarantinedAt); err != nil {
		return item, fmt.Errorf("field %s %w", fieldQuarantinedAt, err)
	}
	entry, ok := doc.Lookup(fieldEntry).DocumentOK()
	if !ok {
		return item, fmt.Errorf("field %s %w", fieldEntry, errStored)
	}
	var err error
	item.Entry, err = readEntry(entry)
	return item, err
}

// Put implements quarantine.Store.
func (q *Quarantine) Put(ctx context.Context, tenant audit.TenantID, items []quarantine.Item) error {
	if err := q.put(ctx, tenant, items); err != nil {
		return fmt.Errorf("quarantine entries of %s: %w", tenant, err)
	}
	return nil
}

func (q *Quarantine) put(ctx context.Context, tenant audit.TenantID, items []quarantine.Item) error {
	if len(items) == 0 {
		return nil
	}
	if err := q.db.ensureQuarantine(ctx); err != nil {
		return err
	}
	docs := make([]bson.Raw, len(items))
	for i := range items {
		var err error
		if docs[i], err = itemDocument(tenant, &items[i]); err != nil {
			return fmt.Errorf("item %s: %w", items[i].ID, err)
		}
	}
	return retry(ctx, func() error {
		faults, err := q.db.insertMany(ctx, collectionQuarantine, docs)
		if err != nil {
			return err
		}
		var duplicates []string // they stay unchanged
		for i, fault := range faults {
			if !mongo.IsDuplicateKeyError(fault) {
				return fmt.Errorf("item %s: MongoDB refuses it as a document, with the code %d", items[i].ID, fault.Code)
			}
			duplicates = append(duplicates, keyOf(tenant, items[i].ID))
		}
		return q.confirm(ctx, duplicates)
	})
}

// confirm returns an error unless a majority has the items. A key may occur twice in keys.
func (q *Quarantine) confirm(ctx context.Context, keys []string) error {
	missing := make(map[string]bool, len(keys))
	for _, key := range keys {
		missing[key] = true
	}
	if len(missing) == 0 {
		return nil
	}
	err := q.db.confirm(ctx, collectionQuarantine, keys, nil, func(key string, _ bson.Raw) error {
		delete(missing, key)
		return nil
	})
	if err == nil && len(missing) > 0 {
		return unavailable(fmt.Errorf("%d items are stored but not confirmed", len(missing)))
	}
	return err
}

// List implements quarantine.Store.
func (q *Quarantine) List(ctx context.Context, tenant audit.TenantID, resources []quarantine.Resource, after string, limit int) (items []quarantine.Item, more bool, err error) {
	index, query := indexQuarantineItem, append(ofTenant(tenant), afterKey(tenant, after))
	if len(resources) > 0 {
		if err := q.db.ensureQuarantine(ctx); err != nil { // those of resources are younger than others
			return nil, false, fmt.Errorf("list the quarantine of %s: %w", tenant, err)
		}
		keys, err := q.keys(ctx, tenant, resources, after, limit+1)
		if err != nil {
			return nil, false, fmt.Errorf("list the quarantine of %s: %w", tenant, err)
		}
		index, query = indexID, bson.D{{Key: fieldKey, Value: in(keys)}}
	}
	err = q.db.list(ctx, collectionQuarantine, index, ascending(fieldKey), limit+1, query, func(doc bson.Raw) (bool, error) {
		if more = len(items) == limit; more {
			return false, nil
		}
		item, err := readItem(doc)
		items = append(items, item)
		return true, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list the quarantine of %s: %w", tenant, err)
	}
	return items, more, nil
}

// keys returns the first n keys after the one given of the items of the resources.
func (q *Quarantine) keys(ctx context.Context, tenant audit.TenantID, resources []quarantine.Resource, after string, n int) ([]string, error) {
	return quarantine.FirstIDs(resources, n, func(r quarantine.Resource, n int) (keys []string, err error) {
		index, query := indexQuarantineType, append(ofTenant(tenant), bson.E{Key: fieldEntryType, Value: r.Type})
		if r.ID != "" {
			index, query = indexQuarantineOf, append(query, bson.E{Key: fieldEntryResource, Value: r.ID})
		}
		query = append(query, afterKey(tenant, after))
		o := options.Find().SetSort(ascending(fieldKey)).SetHint(index).SetLimit(int64(n)).SetProjection(ascending(fieldKey))
		err = q.db.find(ctx, collectionQuarantine, query, o, func(doc bson.Raw) (bool, error) {
			keys = append(keys, doc.Lookup(fieldKey).StringValue())
			return true, nil
		})
		return keys, err
	})
}

// afterKey is the condition that an item follows the one with the id.
func afterKey(tenant audit.TenantID, id string) bson.E {
	return bson.E{Key: fieldKey, Value: bson.D{{Key: "$gt", Value: keyOf(tenant, id)}}}
}

// Item implements quarantine.Store.
func (q *Quarantine) Item(ctx context.Context, tenant audit.TenantID, id string) (quarantine.Item, error) {
	var item quarantine.Item
	doc, err := q.db.read(ctx, collectionQuarantine, readpref.Primary(), keyOf(tenant, id))
	if err == nil {
		item, err = readItem(doc)
	}
	if err != nil {
		return quarantine.Item{}, fmt.Errorf("quarantine item %s of %s: %w", id, tenant, err)
	}
	return item, nil
}

// Existing implements quarantine.Store.
func (q *Quarantine) Existing(ctx context.Context, tenant audit.TenantID, ids []string) (existing []string, err error) {
	keys := make([]string, len(ids))
	for i := range ids {
		keys[i] = keyOf(tenant, ids[i])
	}
	err = q.db.confirm(ctx, collectionQuarantine, keys, nil, func(key string, _ bson.Raw) error {
		existing = append(existing, strings.TrimPrefix(key, keyOf(tenant, "")))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for %d quarantine items of %s: %w", len(ids), tenant, err)
	}
	return existing, nil
}

// Replace implements quarantine.Store.
func (q *Quarantine) Replace(ctx context.Context, tenant audit.TenantID, item quarantine.Item, entry audit.Entry) error {
	err := retry(ctx, func() error { return q.replace(ctx, tenant, item, &entry) })
	if err != nil {
		return fmt.Errorf("replace quarantine item %s of %s: %w", item.ID, tenant, err)
	}
	return nil
}

func (q *Quarantine) replace(ctx context.Context, tenant audit.TenantID, item quarantine.Item, entry *audit.Entry) error {
	doc, err := q.db.read(ctx, collectionQuarantine, readpref.Primary(), keyOf(tenant, item.ID))
	if err != nil {
		return err
	}
	stored, err := readItem(doc)
	if err != nil {
		return err
	}
	// An attempt whose answer was lost can have replaced it already.
	if text := appendEntry(nil, &stored.Entry); !bytes.Equal(text, appendEntry(nil, &item.Entry)) && !bytes.Equal(text, appendEntry(nil, entry)) {
		return audit.ErrPrecondition
	}
	item.Entry = *entry
	changed, err := itemDocument(tenant, &item)
	if err != nil {
		return err
	}
	unchanged := bson.E{Key: fieldEntry, Value: bson.D{{Key: "$eq", Value: doc.Lookup(fieldEntry)}}}
	return q.db.replaceCurrent(ctx, collectionQuarantine, keyOf(tenant, item.ID), unchanged, changed)
}

// Delete implements quarantine.Store.
func (q *Quarantine) Delete(ctx context.Context, tenant audit.TenantID, id string) error {
	if err := q.db.deleteOne(ctx, collectionQuarantine, withKey(keyOf(tenant, id))); err != nil {
		return fmt.Errorf("delete quarantine item %s of %s: %w", id, tenant, err)
	}
	return nil
}

// Purge implements jobs.Purger.
func (q *Quarantine) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := q.db.purge(ctx, collectionQuarantine, indexQuarantineItem, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge quarantine of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (q *Quarantine) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return q.db.countRecords(ctx, "quarantine", collectionQuarantine, indexQuarantineItem, tenant)
}
