package mongostore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// Jobs keeps jobs, each under its tenant. It implements jobs.Store. MongoDB removes a
// finished job about a minute after its expires_at.
type Jobs struct{ db *DB }

// Jobs returns the jobs.
func (db *DB) Jobs() *Jobs { return &Jobs{db} }

const (
	fieldKind       = "kind"
	fieldState      = "state"
	fieldGeneration = "generation"
	fieldResumeAt   = "resume_at"
	fieldSweepAt    = "sweep_at"
	fieldCheckpoint = "checkpoint"
	fieldResent     = "resent"
)

// jobDocument is the stored form of a job. Its ResumeAt is resume_at while the job is not finished,
// and sweep_at afterwards: of finished jobs, Plan reads those alone that left something. expires_at is
// set once the job is finished.
type jobDocument struct {
	Key          string     `bson:"_id"`
	ID           string     `bson:"id"`
	Tenant       string     `bson:"tenant_id"`
	Kind         string     `bson:"kind"`
	State        string     `bson:"state"`
	Progress     float64    `bson:"progress"`
	Count        int64      `bson:"count"`
	ArchiveCount *int64     `bson:"archive_count,omitempty"`
	CreatedBy    string     `bson:"created_by"`
	CreatedAt    time.Time  `bson:"created_at"`
	StartedAt    *time.Time `bson:"started_at,omitempty"`
	FinishedAt   *time.Time `bson:"finished_at,omitempty"`
	Error        string     `bson:"error,omitempty"`
	Certificate  string     `bson:"certificate,omitempty"`
	Checkpoint   string     `bson:"checkpoint,omitempty"` // JSON
	Generation   int64      `bson:"generation"`
	Committed    bool       `bson:"committed,omitempty"`
	Failing      string     `bson:"failing,omitempty"` // JSON
	ReportID     string     `bson:"report_id,omitempty"`
	Archive      bool       `bson:"archive,omitempty"`
	Failures     int        `bson:"failures,omitempty"`
	ResumeAt     *time.Time `bson:"resume_at,omitempty"`
	Resent       int        `bson:"resent,omitempty"`
	SweepAt      *time.Time `bson:"sweep_at,omitempty"`
	CleanAt      *time.Time `bson:"clean_at,omitempty"`
	Scope        string     `bson:"scope,omitempty"` // JSON
	ExpiresAt    *time.Time `bson:"expires_at,omitempty"`
}

func newJobDocument(j *jobs.Job) (jobDocument, error) {
	doc := jobDocument{
		Key: keyOf(j.Tenant, j.ID), ID: j.ID, Tenant: string(j.Tenant), Kind: string(j.Kind), State: string(j.State),
		Progress: j.Progress, Count: j.Count, ArchiveCount: j.ArchiveCount, CreatedBy: j.CreatedBy, CreatedAt: j.CreatedAt, StartedAt: optional(j.StartedAt),
		FinishedAt: optional(j.FinishedAt), Error: j.Error, Checkpoint: string(j.Checkpoint), Generation: j.Generation, Committed: j.Committed, Archive: j.Archive, Failures: j.Failures, Resent: j.Resent,
		CleanAt: optional(j.CleanAt),
	}
	if j.Certificate != (certificate.ID{}) {
		doc.Certificate = j.Certificate.String()
	}
	if !j.ReportID.IsZero() {
		doc.ReportID = j.ReportID.String()
	}
	if j.State.Finished() {
		doc.ExpiresAt, doc.SweepAt = optional(j.FinishedAt.Add(jobs.Retention)), optional(j.ResumeAt)
	} else {
		doc.ResumeAt = optional(j.ResumeAt)
	}
	var err error
	if doc.Scope, err = optionalJSON(j.Scope); err == nil {
		doc.Failing, err = optionalJSON(j.Failing)
	}
	return doc, err
}

// optionalJSON returns the JSON form of a value, and an empty string for nil.
func optionalJSON[T any](value *T) (string, error) {
	if value == nil {
		return "", nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func readJob(raw bson.Raw) (jobs.Job, error) {
	var doc jobDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return jobs.Job{}, fmt.Errorf("the record %w", errStored)
	}
	job := jobs.Job{
		ID: doc.ID, Kind: jobs.Kind(doc.Kind), Tenant: audit.TenantID(doc.Tenant), State: jobs.State(doc.State),
		Progress: doc.Progress, Count: doc.Count, ArchiveCount: doc.ArchiveCount, CreatedBy: doc.CreatedBy, CreatedAt: doc.CreatedAt.UTC(),
		StartedAt: required(doc.StartedAt), FinishedAt: required(doc.FinishedAt), Error: doc.Error,
		Generation: doc.Generation, Committed: doc.Committed, Archive: doc.Archive, Failures: doc.Failures, ResumeAt: required(doc.ResumeAt), Resent: doc.Resent,
		CleanAt: required(doc.CleanAt),
	}
	if doc.SweepAt != nil {
		job.ResumeAt = required(doc.SweepAt)
	}
	if doc.Scope != "" {
		if err := json.Unmarshal([]byte(doc.Scope), &job.Scope); err != nil {
			return jobs.Job{}, fmt.Errorf("the scope in the record %w", errStored)
		}
	}
	if doc.Failing != "" {
		if err := json.Unmarshal([]byte(doc.Failing), &job.Failing); err != nil {
			return jobs.Job{}, fmt.Errorf("the failure in the record %w", errStored)
		}
	}
	if doc.ReportID != "" {
		var err error
		if job.ReportID, err = audit.ParseEntryID(doc.ReportID); err != nil {
			return jobs.Job{}, fmt.Errorf("the id of the report %w", errStored)
		}
	}
	if doc.Checkpoint != "" {
		job.Checkpoint = json.RawMessage(doc.Checkpoint)
	}
	if doc.Certificate != "" {
		var err error
		if job.Certificate, err = certificate.ParseID(doc.Certificate); err != nil {
			return jobs.Job{}, fmt.Errorf("the certificate %w", errStored)
		}
	}
	return job, nil
}

// CreateJob implements jobs.Store. Times are kept to the millisecond.
func (s *Jobs) CreateJob(ctx context.Context, job jobs.Job) error {
	doc, err := newJobDocument(&job)
	if err == nil {
		err = s.db.ensureJobs(ctx)
	}
	if err == nil {
		err = s.db.insertOne(ctx, collectionJobs, doc)
	}
	if err != nil {
		return fmt.Errorf("create job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// UpdateJob implements jobs.Store.
func (s *Jobs) UpdateJob(ctx context.Context, job jobs.Job, generation int64) error {
	doc, err := newJobDocument(&job)
	if err == nil {
		err = s.db.replaceCurrent(ctx, collectionJobs, doc.Key, bson.E{Key: fieldGeneration, Value: generation}, doc)
	}
	if err != nil {
		return fmt.Errorf("update job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// PostponeJob implements jobs.Store.
func (s *Jobs) PostponeJob(ctx context.Context, job jobs.Job, resumeAt time.Time) error {
	field := fieldResumeAt
	if job.State.Finished() {
		field = fieldSweepAt
	}
	key := keyOf(job.Tenant, job.ID)
	same := append(withKey(key), bson.E{Key: fieldGeneration, Value: job.Generation}, bson.E{Key: field, Value: job.ResumeAt})
	err := s.db.updateOne(ctx, collectionJobs, same, bson.D{
		{Key: "$set", Value: bson.D{{Key: field, Value: resumeAt}}}, {Key: "$inc", Value: bson.D{{Key: fieldResent, Value: 1}}},
	})
	if err = s.db.missed(ctx, collectionJobs, key, err); err != nil {
		return fmt.Errorf("postpone job %s of %s: %w", job.ID, job.Tenant, err)
	}
	return nil
}

// Job implements jobs.Store.
func (s *Jobs) Job(ctx context.Context, tenant audit.TenantID, id string) (jobs.Job, error) {
	var job jobs.Job
	raw, err := s.db.read(ctx, collectionJobs, readpref.Primary(), keyOf(tenant, id))
	if err == nil {
		job, err = readJob(raw)
	}
	if err != nil {
		return jobs.Job{}, fmt.Errorf("job %s of %s: %w", id, tenant, err)
	}
	return job, nil
}

// Jobs implements jobs.Store.
func (s *Jobs) Jobs(ctx context.Context, tenant audit.TenantID, filter jobs.Filter, after *jobs.Position, limit int) (list []jobs.Job, more bool, err error) {
	query := ofTenant(tenant)
	if after != nil {
		query = append(query, olderThan(after)...)
	}
	if len(filter.Kinds) > 0 {
		query = append(query, bson.E{Key: fieldKind, Value: bson.D{{Key: "$in", Value: filter.Kinds}}})
	}
	if len(filter.States) > 0 {
		query = append(query, bson.E{Key: fieldState, Value: bson.D{{Key: "$in", Value: filter.States}}})
	}
	err = s.list(ctx, indexCreated, newestFirst(), limit+1, query, func(doc bson.Raw) (bool, error) {
		if more = len(list) == limit; more {
			return false, nil
		}
		job, err := readJob(doc)
		list = append(list, job)
		return true, err
	})
	if err != nil {
		return nil, false, fmt.Errorf("list jobs of %s: %w", tenant, err)
	}
	return list, more, nil
}

// list is that of DB, without the checkpoints.
func (s *Jobs) list(ctx context.Context, index string, order bson.D, limit int, query bson.D, visit visitFunc) error {
	o := options.Find().SetSort(order).SetHint(index).SetLimit(int64(limit)).SetProjection(bson.D{{Key: fieldCheckpoint, Value: 0}})
	return s.db.find(ctx, collectionJobs, query, o, visit)
}

// newestFirst is the order of indexCreated.
func newestFirst() bson.D { return bson.D{{Key: fieldCreatedAt, Value: -1}, {Key: fieldID, Value: -1}} }

// olderThan selects what comes after a place in that order.
func olderThan(after *jobs.Position) bson.D {
	return bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldCreatedAt, Value: bson.D{{Key: "$lt", Value: after.CreatedAt}}}},
		bson.D{{Key: fieldCreatedAt, Value: after.CreatedAt}, {Key: fieldID, Value: bson.D{{Key: "$lt", Value: after.ID}}}},
	}}, {Key: fieldCreatedAt, Value: bson.D{{Key: "$lte", Value: after.CreatedAt}}}}
}

// OverdueJobs implements jobs.Store.
func (s *Jobs) OverdueJobs(ctx context.Context, at, latest time.Time, limit int) (list []jobs.Job, err error) {
	query := bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldResumeAt, Value: bson.D{{Key: "$lte", Value: at}}}},
		bson.D{{Key: fieldResumeAt, Value: bson.D{{Key: "$gt", Value: latest}}}},
	}}}
	add := func(doc bson.Raw) (bool, error) {
		job, err := readJob(doc)
		list = append(list, job)
		return true, err
	}
	if err = s.db.ensureJobs(ctx); err != nil { // they are named below
		return nil, fmt.Errorf("list overdue jobs: %w", err)
	}
	err = s.list(ctx, indexJobsOverdue, ascending(fieldResumeAt), limit, query, add)
	if left := limit - len(list); err == nil && left > 0 {
		due := bson.D{{Key: fieldSweepAt, Value: bson.D{{Key: "$lte", Value: at}}}}
		err = s.list(ctx, indexJobsSweep, ascending(fieldSweepAt), left, due, add)
	}
	if err != nil {
		return nil, fmt.Errorf("list overdue jobs: %w", err)
	}
	return list, nil
}
