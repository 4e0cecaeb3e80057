package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Jobs keeps jobs, each under its tenant. It implements jobs.Store.
type Jobs struct{ db *DB }

// Jobs returns the jobs.
func (db *DB) Jobs() *Jobs { return &Jobs{db} }

type jobDocument struct {
	Key       string    `bson:"_id"`
	ID        string    `bson:"id"`
	Tenant    string    `bson:"tenant_id"`
	Kind      string    `bson:"kind"`
	State     string    `bson:"state"`
	Progress  float64   `bson:"progress"`
	Count     int64     `bson:"count"`
	CreatedAt time.Time `bson:"created_at"`
	UpdatedAt time.Time `bson:"updated_at"`
	Error     string    `bson:"error,omitempty"`
}

func newJobDocument(j *audit.Job) jobDocument {
	return jobDocument{
		Key: keyOf(j.Tenant, j.ID), ID: j.ID, Tenant: string(j.Tenant), Kind: string(j.Kind), State: string(j.State),
		Progress: j.Progress, Count: j.Count, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, Error: j.Error,
	}
}

// CreateJob implements jobs.Store. Times are kept to the millisecond.
func (s *Jobs) CreateJob(ctx context.Context, job audit.Job) error {
	if err := s.db.insertOne(ctx, collectionJobs, newJobDocument(&job)); err != nil {
		return fmt.Errorf("create job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// UpdateJob implements jobs.Store.
func (s *Jobs) UpdateJob(ctx context.Context, job audit.Job) error {
	doc := newJobDocument(&job)
	if err := s.db.replaceOne(ctx, collectionJobs, withKey(doc.Key), doc); err != nil {
		return fmt.Errorf("update job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// Job implements jobs.Store.
func (s *Jobs) Job(ctx context.Context, tenant audit.TenantID, id string) (audit.Job, error) {
	var doc jobDocument
	raw, err := s.db.read(ctx, collectionJobs, readpref.Primary(), keyOf(tenant, id))
	if err == nil && bson.Unmarshal(raw, &doc) != nil {
		err = fmt.Errorf("the record %w", errStored)
	}
	if err != nil {
		return audit.Job{}, fmt.Errorf("job %s of %s: %w", id, tenant, err)
	}
	return audit.Job{
		ID: doc.ID, Kind: audit.JobKind(doc.Kind), Tenant: audit.TenantID(doc.Tenant), State: audit.JobState(doc.State),
		Progress: doc.Progress, Count: doc.Count, CreatedAt: doc.CreatedAt.UTC(), UpdatedAt: doc.UpdatedAt.UTC(), Error: doc.Error,
	}, nil
}
