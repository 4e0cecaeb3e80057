package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// CleanupLogs answers DELETE /logs/cleanup: a job that removes the entries that the parameters select,
// or a preview of it.
func CleanupLogs(gate *Gate, s *cleanup.Service) http.Handler {
	return gate.endpoint("cleanup-logs", func(req *request) (*response, error) {
		if err := cleanup.CheckValues(req.params); err != nil {
			return nil, err
		}
		dry, err := req.takeFlag(cleanup.ParamDryRun)
		if err != nil {
			return nil, err
		}
		inArchive, err := req.takeFlag(cleanup.ParamArchive)
		if err != nil {
			return nil, err
		}
		if dry {
			preview, err := s.Preview(req.Context(), req.tenant, req.scope, req.params)
			return previewResponse(&preview, inArchive, err)
		}
		job, err := s.Create(req.Context(), req.principal, req.tenant, req.scope, req.params, inArchive)
		if errors.Is(err, cleanup.ErrTooManyOpen) {
			return nil, ProblemConflict.problem(fmt.Sprintf("The tenant has %d unfinished cleanups. Cancel one, or wait until one has finished.", cleanup.MaxOpen))
		}
		if err != nil {
			return nil, explain(err, jobs.ErrTooManyQueued, ProblemConflict, tooManyQueued)
		}
		return jobStarted(&job), nil
	})
}

func previewResponse(p *cleanup.Preview, inArchive bool, err error) (*response, error) {
	if err != nil {
		return nil, err
	}
	w := writer{b: make([]byte, 0, 128)}
	w.open('{')
	w.integer("count", p.Count)
	w.timeOrNull("oldest", p.Oldest)
	w.timeOrNull("newest", p.Newest)
	w.integer("held", p.Held)
	if inArchive {
		w.boolean("archive_counted", false)
	}
	w.close('}')
	return jsonResponse(http.StatusOK, &w), nil
}
