package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/quota"
)

// Quotas has the accounts of the tenants' quotas. It implements quota.Leases and jobs.CountedPurger.
// Its clock is the server's, which each update returns. MongoDB removes an account a day after
// its last use.
type Quotas struct{ db *DB }

// Quotas returns the accounts.
func (db *DB) Quotas() *Quotas { return &Quotas{db} }

const (
	fieldFull   = "full_at"    // Unix microseconds: see quota.Account
	fieldLeased = "updated_at" // by the server's clock

	quotaTTL = 24 * time.Hour
)

func quotaIndexes() []mongo.IndexModel {
	return []mongo.IndexModel{{
		Keys: ascending(fieldLeased), Options: options.Index().SetName(indexExpiry).SetExpireAfterSeconds(int32(quotaTTL.Seconds())),
	}}
}

func (db *DB) ensureQuotas(ctx context.Context) error {
	return db.ensure(ctx, collectionQuotas, func(view mongo.IndexView) error { return create(ctx, view, quotaIndexes()) })
}

// Lease implements quota.Leases. It is one update. If the account was full or is used up, it is
// two: the first one could not know.
func (s *Quotas) Lease(ctx context.Context, tenant audit.TenantID, limit quota.Limit, accepted, want int64) (quota.Lease, error) {
	lease, err := s.lease(ctx, tenant, limit, accepted, want)
	if err != nil {
		return quota.Lease{}, fmt.Errorf("lease of %s: %w", tenant, err)
	}
	return lease, nil
}

func (s *Quotas) lease(ctx context.Context, tenant audit.TenantID, limit quota.Limit, accepted, want int64) (quota.Lease, error) {
	if err := s.db.ensureQuotas(ctx); err != nil {
		return quota.Lease{}, err
	}
	charged := limit.Charge(accepted) + limit.Charge(want)
	account, now, err := s.update(ctx, tenant, "$inc", charged)
	if err != nil {
		return quota.Lease{}, err
	}
	before := quota.Account{Full: account.Full - charged}
	after, lease := before.Lease(limit, now, accepted, want)
	switch {
	case before.Full < now: // it was full, and must not save up more
		_, _, err = s.update(ctx, tenant, "$max", after.Full)
	case lease.Granted < want:
		_, _, err = s.update(ctx, tenant, "$inc", after.Full-account.Full)
	}
	return lease, err
}

// update changes the account, and returns it as it is afterwards with the server's time.
func (s *Quotas) update(ctx context.Context, tenant audit.TenantID, operator string, value int64) (a quota.Account, now int64, err error) {
	collection, err := s.db.collection(collectionQuotas)
	if err != nil {
		return a, 0, err
	}
	change := bson.D{
		{Key: operator, Value: bson.D{{Key: fieldFull, Value: value}}},
		{Key: "$currentDate", Value: bson.D{{Key: fieldLeased, Value: true}}},
	}
	doc, err := single(ctx, collection.FindOneAndUpdate(ctx, withKey(string(tenant)), change,
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)))
	if err != nil {
		return a, 0, err
	}
	full, fullOK := doc.Lookup(fieldFull).AsInt64OK()
	at, atOK := doc.Lookup(fieldLeased).TimeOK()
	if !fullOK || !atOK {
		return a, 0, fmt.Errorf("an account %w", errStored)
	}
	return quota.Account{Full: full}, at.UnixMicro(), nil
}

// Purge implements jobs.Purger.
func (s *Quotas) Purge(ctx context.Context, tenant audit.TenantID, limit int) (int, error) {
	n, err := s.db.purgeOne(ctx, collectionQuotas, tenant, limit)
	if err != nil {
		return 0, fmt.Errorf("purge the quota of %s: %w", tenant, err)
	}
	return n, nil
}

// CountRecords implements jobs.Counter.
func (s *Quotas) CountRecords(ctx context.Context, tenant audit.TenantID) (int64, error) {
	return s.db.countWhere(ctx, "quota", collectionQuotas, indexID, tenant, withKey(string(tenant)))
}
