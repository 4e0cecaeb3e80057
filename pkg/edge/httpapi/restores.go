package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/restore"
)

const noRestore = "The tenant has no restore with this id that the credential may see."

// CreateRestore answers POST /tenants/{id}/restores with the restore, which is a job.
func CreateRestore(gate *Gate, s *restore.Service) http.Handler {
	in := adminBodies()
	return gate.endpoint("create-restore", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		r := restore.Request{Days: restore.DefaultDays}
		body.time("from", &r.From)
		body.time("to", &r.To)
		body.integer("days", &r.Days)
		body.boolean("include_cleaned", &r.IncludeCleaned)
		body.close()
		if err := body.err(); err != nil {
			return nil, err
		}
		created, err := s.Create(req.Context(), req.principal, req.tenant, r)
		switch {
		case errors.Is(err, restore.ErrTooManyOpen):
			return nil, ProblemConflict.problem(fmt.Sprintf("The tenant has %d unfinished restores. Cancel one, or wait until one has finished.", restore.MaxOpen))
		case errors.Is(err, jobs.ErrTooManyQueued):
			return nil, ProblemConflict.problem(tooManyQueued)
		case err != nil:
			return nil, explain(err, audit.ErrForbidden, ProblemForbidden, "A credential that is restricted to resources cannot restore entries.")
		}
		return restoreResponse(http.StatusAccepted, &created).set("Location", jobLocation(&created.Job)), nil
	})
}

// ListRestores answers GET /tenants/{id}/restores: one page of the tenant's restores, the newest first.
func ListRestores(gate *Gate, s *restore.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-restores", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]restore.Restore, bool, error) {
			return s.List(req.Context(), req.principal, req.tenant.ID, (*jobs.Position)(after), limit)
		})
		return pageOf(req, cursors, "restores of "+string(req.tenant.ID), limit, read, func(w *writer, r *restore.Restore) string {
			appendRestore(w, r)
			return positionText(r.CreatedAt, r.ID)
		})
	})
}

// GetRestore answers GET /tenants/{id}/restores/{restore}: how far it is.
func GetRestore(gate *Gate, s *restore.Service) http.Handler {
	return gate.endpoint("get-restore", func(req *request) (*response, error) {
		r, err := s.Restore(req.Context(), req.principal, req.tenant.ID, req.PathValue("restore"))
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noRestore)
		}
		return restoreResponse(http.StatusOK, &r), nil
	})
}

// CancelRestore answers DELETE /tenants/{id}/restores/{restore}: no further entry comes back.
func CancelRestore(gate *Gate, s *restore.Service) http.Handler {
	return gate.endpoint("cancel-restore", func(req *request) (*response, error) {
		r, err := s.Cancel(req.Context(), req.principal, req.tenant, req.PathValue("restore"))
		switch {
		case errors.Is(err, jobs.ErrFinished), errors.Is(err, jobs.ErrCommitted):
			return nil, ProblemConflict.problem("The restore is finished.")
		case err != nil:
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noRestore)
		}
		return restoreResponse(http.StatusOK, &r), nil
	})
}

func restoreResponse(status int, r *restore.Restore) *response {
	w := writer{b: make([]byte, 0, 512)}
	appendRestore(&w, r)
	return jsonResponse(status, &w)
}

func appendRestore(w *writer, r *restore.Restore) {
	w.open('{')
	appendJobMembers(w, &r.Job)
	w.time("from", r.From)
	w.time("to", r.To)
	w.integer("days", int64(r.Days))
	w.boolean("include_cleaned", r.IncludeCleaned)
	w.time("restored_until", r.Until)
	w.integer("expired", r.Expired)
	w.integer("cleaned", r.Cleaned)
	w.close('}')
}
