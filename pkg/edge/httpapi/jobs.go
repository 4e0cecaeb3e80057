package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

const noJob = "The tenant has no job with this id that the credential may see."

// ListJobs answers GET /jobs: one page of the jobs that the caller may see, the newest first.
func ListJobs(gate *Gate, s *jobs.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-jobs", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		filter, err := jobFilter(req.params)
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]jobs.Job, bool, error) {
			return s.List(req.Context(), req.principal, req.tenant.ID, filter, (*jobs.Position)(after), limit)
		})
		return pageOf(req, cursors, jobListName(req.tenant.ID, req.params), limit, read, func(w *writer, job *jobs.Job) string {
			appendJob(w, job)
			return positionText(job.CreatedAt, job.ID)
		})
	})
}

// jobListName names the list that a cursor is valid for.
func jobListName(tenant audit.TenantID, params url.Values) string {
	filters := url.Values{"kind": params["kind"], "state": params["state"]}
	return "jobs of " + string(tenant) + "\n" + filters.Encode()
}

// jobFilter reads ?kind= and ?state=.
func jobFilter(params url.Values) (jobs.Filter, error) {
	var filter jobs.Filter
	if text := params.Get("kind"); text != "" {
		if !slices.Contains(JobKinds(), text) {
			return filter, audit.Invalid("?kind", "invalid_choice", "must be a kind of job: %s", strings.Join(JobKinds(), ", "))
		}
		filter.Kinds = append(filter.Kinds, jobs.Kind(text))
	}
	if text := params.Get("state"); text != "" {
		if !slices.Contains(JobStates(), text) {
			return filter, audit.Invalid("?state", "invalid_choice", "must be a state of a job: %s", strings.Join(JobStates(), ", "))
		}
		filter.States = append(filter.States, jobs.State(text))
	}
	return filter, nil
}

// JobKinds returns the kinds of jobs as the API spells them.
func JobKinds() []string {
	var kinds []string
	for _, d := range jobs.Definitions() {
		kinds = append(kinds, string(d.Kind))
	}
	return kinds
}

// JobStates returns the states of jobs as the API spells them.
func JobStates() []string {
	var states []string
	for _, s := range jobs.States() {
		states = append(states, string(s))
	}
	return states
}

// GetJob answers GET /jobs/{id}: the state of one job.
func GetJob(gate *Gate, s *jobs.Service) http.Handler {
	return gate.endpoint("get-job", func(req *request) (*response, error) {
		job, err := s.Job(req.Context(), req.principal, req.tenant.ID, req.PathValue("id"))
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noJob)
		}
		return jobResponse(http.StatusOK, &job), nil
	})
}

// CancelJob answers DELETE /jobs/{id}: no worker continues the job.
func CancelJob(gate *Gate, s *jobs.Service) http.Handler {
	return gate.endpoint("cancel-job", func(req *request) (*response, error) {
		job, err := s.Cancel(req.Context(), req.principal, req.tenant, req.PathValue("id"))
		switch {
		case errors.Is(err, jobs.ErrFinished):
			return nil, ProblemConflict.problem("The job is finished.")
		case errors.Is(err, jobs.ErrNotCancelable):
			return nil, ProblemConflict.problem("A job of this kind cannot be cancelled.")
		case errors.Is(err, jobs.ErrCommitted):
			return nil, ProblemConflict.problem("The job has begun and cannot be cancelled any more.")
		case errors.Is(err, audit.ErrForbidden):
			return nil, ProblemForbidden.problem("The credential does not allow starting or cancelling jobs of this kind.")
		case err != nil:
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noJob)
		}
		return jobResponse(http.StatusOK, &job), nil
	})
}

func jobResponse(status int, job *jobs.Job) *response {
	w := writer{b: make([]byte, 0, 384)}
	appendJob(&w, job)
	return jsonResponse(status, &w)
}

// jobStarted is the response of a request that started a job: where its state can be read.
func jobStarted(job *jobs.Job) *response {
	return jobResponse(http.StatusAccepted, job).set("Location", jobLocation(job))
}

// tooManyQueued explains jobs.ErrTooManyQueued.
var tooManyQueued = fmt.Sprintf("The tenant has %d queued jobs. Wait until one of them has started.", jobs.MaxQueued)

func jobLocation(job *jobs.Job) string { return manifest.BasePath + "/jobs/" + job.ID }

func appendJob(w *writer, j *jobs.Job) {
	w.open('{')
	appendJobMembers(w, j)
	w.close('}')
}

func appendJobMembers(w *writer, j *jobs.Job) {
	w.text("id", j.ID)
	w.word("kind", string(j.Kind))
	w.text("tenant_id", string(j.Tenant))
	w.word("state", string(j.State))
	w.number("progress", j.Progress)
	w.integer("count", j.Count)
	if j.ArchiveCount != nil {
		w.integer("archive_count", *j.ArchiveCount)
	}
	w.text("created_by", j.CreatedBy)
	w.time("created_at", j.CreatedAt)
	w.optionalTime("started_at", j.StartedAt)
	w.optionalTime("finished_at", j.FinishedAt)
	if j.Error != "" {
		w.text("error", j.Error)
	}
	if j.Certificate != (certificate.ID{}) {
		w.text("certificate", certificateLocation(j.Certificate))
	}
}
