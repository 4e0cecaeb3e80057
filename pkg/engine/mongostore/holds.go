package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Holds keeps legal holds, each under its tenant. It implements hold.Store and jobs.CountedPurger.
type Holds struct{ db *DB }

// Holds returns the legal holds.
func (db *DB) Holds() *Holds { return &Holds{db} }

const fieldReleasedAt = "released_at"

// holdDocument is the stored form of a hold.
type holdDocument struct {
	Key           string     `bson:"_id"`
	ID            string     `bson:"id"`
	Tenant        string     `bson:"tenant_id"`
	Matter        string     `bson:"matter"`
	Reason        string     `bson:"reason"`
	UserIDs       []string   `bson:"user_ids,omitempty"`
	From          *time.Time `bson:"from,omitempty"`
	To            *time.Time `bson:"to,omitempty"`
	CreatedBy     string     `bson:"created_by"`
	CreatedAt     time.Time  `bson:"created_at"`
	InForceAt     *time.Time `bson:"in_force_at,omitempty"`
	ReleasedAt    *time.Time `bson:"released_at,omitempty"`
	ReleasedBy    string     `bson:"released_by,omitempty"`
	ReleaseReason string     `bson:"release_reason,omitempty"`
	Version       int64      `bson:"version"`
}

func newHoldDocument(h *hold.Hold) holdDocument {
	return holdDocument{
		Key: keyOf(h.Tenant, h.ID), ID: h.ID, Tenant: string(h.Tenant), Matter: h.Matter, Reason: h.Reason, UserIDs: h.UserIDs,
		From: optional(h.From), To: optional(h.To), CreatedBy: h.CreatedBy, CreatedAt: h.CreatedAt, InForceAt: optional(h.InForceAt),
		ReleasedAt: optional(h.ReleasedAt), ReleasedBy: h.ReleasedBy, ReleaseReason: h.ReleaseReason, Version: h.Version,
	}
}

func readHold(raw bson.Raw) (hold.Hold, error) {
	var doc holdDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return hold.Hold{}, fmt.Errorf("a hold %w", errStored)
	}
	return hold.Hold{
		ID: doc.ID, Tenant: audit.TenantID(doc.Tenant), Matter: doc.Matter, Reason: doc.Reason, UserIDs: doc.UserIDs,
		From: required(doc.From), To: required(doc.To), CreatedBy: doc.CreatedBy, CreatedAt: doc.CreatedAt.UTC(), InForceAt: required(doc.InForceAt),
		ReleasedAt: required(doc.ReleasedAt), ReleasedBy: doc.ReleasedBy, ReleaseReason: doc.ReleaseReason, Version: doc.Version,
	}, nil
}

// CreateHold implements hold.Store.
func (s *Holds) CreateHold(ctx context.Context, h hold.Hold) error {
	err := s.db.ensureHolds(ctx)
	if err == nil {
		err = s.db.insertOne(ctx, collectionHolds, newHoldDocument(&h))
	}
	if err != nil {
		return fmt.Errorf("create hold %s of %s: %w", h.ID, h.Tenant, err)
	}
	return nil
}

// UpdateHold implements hold.Store.
func (s *Holds) UpdateHold(ctx context.Context, h hold.Hold) error {
	doc := newHoldDocument(&h)
	if err := s.db.replaceCurrent(ctx, collectionHolds, doc.Key, bson.E{Key: fieldVersion, Value: h.Version - 1}, doc); err != nil {
		return fmt.Errorf("update hold %s of %s: %w", h.ID, h.Tenant, err)
	}
	return nil
}

// Hold implements hold.Store.
func (s *Holds) Hold(ctx context.Context, tenant audit.TenantID, id string) (h hold.Hold, err error) {
	raw, err := s.db.read(ctx, collectionHolds, readpref.Primary(), keyOf(tenant, id))
	if err == nil {
		h, err = readHold(raw)
	}
	if err != nil {
		return hold.Hold{}, fmt.Errorf("hold %s of %s: %w", id, tenant, err)
	}
	return h, nil
}

// Holds implements hold.Store.
func (s *Holds) Holds(ctx context.Context, tenant audit.TenantID, after *jobs.Position, limit int) (list []hold.Hold, more bool, err error) {
	query := ofTenant(tenant)
	if after != nil {
		query = append(query, olderThan(after)...)
	}
	err = s.each(ctx, query, limit+1, func(h hold.Hold) bool {
		if more = len(list) == limit; !more {
			list = append(list, h)
		}
		return !more
	})
	if err != nil {
		return nil, false, fmt.Errorf("list holds of %s: %w", tenant, err)
	}
	return list, more, nil
}

// Standing implements hold.Store.
func (s *Holds) Standing(ctx context.Context, tenant audit.TenantID) (standing hold.Standing, err error) {
	query := append(ofTenant(tenant), bson.E{Key: fieldReleasedAt, Value: bson.D{{Key: "$exists", Value: false}}})
	err = s.each(ctx, query, 0, func(h hold.Hold) bool {
		standing = append(standing, h)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list standing holds of %s: %w", tenant, err)
	}
	return standing, nil
}

// each calls add for up to limit holds, the newest first, until add returns false. Limit 0 is none.
func (s *Holds) each(ctx context.Context, query bson.D, limit int, add func(h hold.Hold) bool) error {
	if err := s.db.ensureHolds(ctx); err != nil { // an older database does not have them
		return err
	}
	return s.db.list(ctx, collectionHolds, indexCreated, newestFirst(), limit, query, func(doc bson.Raw) (bool, error) {
		h, err := readHold(doc)
		if err != nil {
			return false, err
		}
		return add(h), nil
	})
}

// Purge implements jobs.Purger.
func (s *Holds) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purge(ctx, collectionHolds, indexCreated, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge holds of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Holds) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countRecords(ctx, "holds", collectionHolds, indexCreated, tenant)
}
