package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Jobs stores jobs, each under its tenant. It implements jobs.Store.
type Jobs struct{ db *DB }

// Jobs returns the jobs in this file.
func (db *DB) Jobs() *Jobs { return &Jobs{db} }

// maxRemovedJobs is how many old jobs the creation of a job removes.
const maxRemovedJobs = 10

// CreateJob implements jobs.Store. It also removes a few jobs that finished longer than
// jobs.Retention ago.
func (s *Jobs) CreateJob(ctx context.Context, job jobs.Job) error {
	doc, err := json.Marshal(job)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			n, err := b.exec(`INSERT INTO jobs (tenant, id, kind, state, created, resume, finished, generation, doc)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, append([]any{string(job.Tenant), job.ID}, jobColumns(&job, doc)...)...)
			switch {
			case err != nil:
				return err
			case n == 0:
				return unchanged(audit.ErrConflict)
			}
			old := s.db.now().Add(-jobs.Retention)
			_, err = b.exec(`DELETE FROM jobs WHERE (tenant, id) IN (SELECT tenant, id FROM jobs WHERE finished < ? AND (tenant, id) != (?, ?) LIMIT ?)`,
				old.UnixMilli(), string(job.Tenant), job.ID, maxRemovedJobs)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("create job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// jobColumns returns the columns of a job after its key. resume is NULL if the job has no ResumeAt,
// finished if it is not finished.
func jobColumns(job *jobs.Job, doc []byte) []any {
	var resume, finished any
	if !job.ResumeAt.IsZero() {
		resume = job.ResumeAt.UnixMilli()
	}
	if job.State.Finished() {
		finished = job.FinishedAt.UnixMilli()
	}
	return []any{string(job.Kind), string(job.State), job.CreatedAt.UnixMilli(), resume, finished, job.Generation, string(doc)}
}

// UpdateJob implements jobs.Store.
func (s *Jobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	doc, err := json.Marshal(job)
	if err == nil {
		err = s.db.write(ctx, func(b *batch) error {
			n, err := b.exec(`UPDATE jobs SET kind = ?, state = ?, created = ?, resume = ?, finished = ?, generation = ?, doc = ?
				WHERE tenant = ? AND id = ? AND generation = ?`, append(jobColumns(&job, doc), string(job.Tenant), job.ID, generation)...)
			if err != nil || n > 0 {
				return err
			}
			return b.missed(`SELECT count(*) FROM jobs WHERE tenant = ? AND id = ?`, string(job.Tenant), job.ID)
		})
	}
	if err != nil {
		return fmt.Errorf("update job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// PostponeJob implements jobs.Store.
func (s *Jobs) PostponeJob(ctx context.Context, job jobs.Job, resumeAt time.Time) error {
	err := s.db.write(ctx, func(b *batch) error { return b.postpone(&job, resumeAt) })
	if err != nil {
		return fmt.Errorf("postpone job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

func (b *batch) postpone(job *jobs.Job, resumeAt time.Time) error {
	const same = ` FROM jobs WHERE tenant = ? AND id = ?`
	key := []any{string(job.Tenant), job.ID}
	var doc []byte
	found, err := b.found(`SELECT doc`+same+` AND generation = ? AND resume = ?`, append(key, job.Generation, job.ResumeAt.UnixMilli()), []any{&doc})
	if err != nil {
		return err
	}
	if !found {
		return b.missed(`SELECT count(*)`+same, key...)
	}
	var stored jobs.Job
	if err := json.Unmarshal(doc, &stored); err != nil {
		return err
	}
	stored.ResumeAt = resumeAt
	stored.Resent++
	if doc, err = json.Marshal(stored); err != nil {
		return err
	}
	_, err = b.exec(`UPDATE jobs SET resume = ?, doc = ? WHERE tenant = ? AND id = ?`, append([]any{resumeAt.UnixMilli(), string(doc)}, key...)...)
	return err
}

// Job implements jobs.Store.
func (s *Jobs) Job(ctx context.Context, tenant audit.TenantID, id string) (jobs.Job, error) {
	var job jobs.Job
	var doc []byte
	err := s.db.snapshot(ctx, func(c *conn) error {
		return c.row(ctx, `SELECT doc FROM jobs WHERE tenant = ? AND id = ?`, []any{string(tenant), id}, []any{&doc})
	})
	if err == nil {
		err = json.Unmarshal(doc, &job)
	}
	if err != nil {
		return jobs.Job{}, fmt.Errorf("job %s of %s: %w", id, tenant, notFound(err))
	}
	return job, nil
}

// Jobs implements jobs.Store.
func (s *Jobs) Jobs(ctx context.Context, tenant audit.TenantID, filter jobs.Filter, after *jobs.Position, limit int) (list []jobs.Job, more bool, err error) {
	created, id := newestFrom(after)
	kinds, kindsErr := json.Marshal(filter.Kinds) // null, the text of a nil list, has the length 0 too
	states, statesErr := json.Marshal(filter.States)
	if err = errors.Join(kindsErr, statesErr); err == nil {
		list, err = readDocs[jobs.Job](ctx, s.db, `SELECT json_remove(doc, '$.checkpoint') FROM jobs WHERE tenant = ?1 AND (created, id) < (?2, ?3)
			AND (json_array_length(?4) = 0 OR kind IN (SELECT value FROM json_each(?4)))
			AND (json_array_length(?5) = 0 OR state IN (SELECT value FROM json_each(?5)))
			ORDER BY created DESC, id DESC LIMIT ?6`, string(tenant), created, id, string(kinds), string(states), limit+1)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list jobs of %s: %w", tenant, err)
	}
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, nil
}

// OverdueJobs implements jobs.Store.
func (s *Jobs) OverdueJobs(ctx context.Context, at, latest time.Time, limit int) ([]jobs.Job, error) {
	list, err := readDocs[jobs.Job](ctx, s.db, `SELECT json_remove(doc, '$.checkpoint') FROM jobs WHERE resume <= ? OR resume > ? AND finished IS NULL
		ORDER BY finished IS NOT NULL, resume LIMIT ?`, at.UnixMilli(), latest.UnixMilli(), limit)
	if err != nil {
		return nil, fmt.Errorf("list overdue jobs: %w", err)
	}
	return list, nil
}

// newestFrom returns the bound of a list that begins with the newest: what follows is less.
func newestFrom(after *jobs.Position) (created int64, id string) {
	if after == nil {
		return 1 << 62, ""
	}
	return after.CreatedAt.UnixMilli(), after.ID
}

// readDocs returns the JSON documents that a constant query selects.
func readDocs[T any](ctx context.Context, db *DB, query string, args ...any) ([]T, error) {
	var list []T
	var doc []byte
	err := db.snapshot(ctx, func(c *conn) error {
		return c.each(ctx, query, args, []any{&doc}, func() (bool, error) {
			var item T
			err := json.Unmarshal(doc, &item)
			list = append(list, item)
			return true, err
		})
	})
	return list, err
}
