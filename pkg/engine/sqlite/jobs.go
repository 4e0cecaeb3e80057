package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Jobs stores jobs, each under its tenant. It implements jobs.Store.
type Jobs struct{ db *DB }

// Jobs returns the jobs in this file.
func (db *DB) Jobs() *Jobs { return &Jobs{db} }

// CreateJob implements jobs.Store.
func (s *Jobs) CreateJob(ctx context.Context, job audit.Job) error {
	doc, err := json.Marshal(job)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrConflict,
			`INSERT INTO jobs (tenant, id, doc) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, string(job.Tenant), job.ID, string(doc))
	}
	if err != nil {
		return fmt.Errorf("create job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// UpdateJob implements jobs.Store.
func (s *Jobs) UpdateJob(ctx context.Context, job audit.Job) error {
	doc, err := json.Marshal(job)
	if err == nil {
		err = s.db.changeOne(ctx, audit.ErrNotFound,
			`UPDATE jobs SET doc = ? WHERE tenant = ? AND id = ?`, string(doc), string(job.Tenant), job.ID)
	}
	if err != nil {
		return fmt.Errorf("update job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// Job implements jobs.Store.
func (s *Jobs) Job(ctx context.Context, tenant audit.TenantID, id string) (audit.Job, error) {
	var job audit.Job
	var doc []byte
	err := s.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT doc FROM jobs WHERE tenant = ? AND id = ?`, []any{string(tenant), id}, []any{&doc})
	})
	if err == nil {
		err = json.Unmarshal(doc, &job)
	}
	if err != nil {
		return audit.Job{}, fmt.Errorf("job %s of %s: %w", id, tenant, notFound(err))
	}
	return job, nil
}
