package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const noErasure = "The tenant has no erasure with this id that the credential may see."

// CreateErasure answers POST /tenants/{id}/erasures with the erasure, which is a job.
func CreateErasure(gate *Gate, s *erasure.Service) http.Handler {
	in := adminBodies()
	return gate.endpoint("create-erasure", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		r := erasure.Request{DelayHours: erasure.DefaultDelay}
		body.text("subject", &r.Subject)
		body.text("reason", &r.Reason)
		body.integer("delay_hours", &r.DelayHours)
		body.close()
		if err := body.err(); err != nil {
			return nil, err
		}
		e, err := s.Create(req.Context(), req.principal, req.tenant, r)
		switch {
		case errors.Is(err, erasure.ErrSelf):
			return nil, ProblemForbidden.problem("Nobody erases themselves: the subject is that of the credential, or created the API key.")
		case errors.Is(err, hold.ErrHeld):
			return nil, held(req, err, "A legal hold covers entries of the subject.")
		case errors.Is(err, erasure.ErrTooManyOpen):
			return nil, ProblemConflict.problem(fmt.Sprintf("The tenant has %d unfinished erasures. Cancel one, or wait until one has finished.", erasure.MaxOpen))
		case errors.Is(err, jobs.ErrTooManyQueued):
			return nil, ProblemConflict.problem(tooManyQueued)
		case err != nil:
			return nil, explain(err, audit.ErrForbidden, ProblemForbidden, "A credential that is restricted to resources cannot erase a subject.")
		}
		return erasureResponse(http.StatusAccepted, &e).set("Location", jobLocation(&e.Job)), nil
	})
}

// ListErasures answers GET /tenants/{id}/erasures: one page of the tenant's erasures, the newest
// first.
func ListErasures(gate *Gate, s *erasure.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-erasures", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]erasure.Erasure, bool, error) {
			return s.List(req.Context(), req.principal, req.tenant.ID, (*jobs.Position)(after), limit)
		})
		return pageOf(req, cursors, "erasures of "+string(req.tenant.ID), limit, read, func(w *writer, e *erasure.Erasure) string {
			appendErasure(w, e)
			return positionText(e.CreatedAt, e.ID)
		})
	})
}

// GetErasure answers GET /tenants/{id}/erasures/{erasure}: how far it is.
func GetErasure(gate *Gate, s *erasure.Service) http.Handler {
	return gate.endpoint("get-erasure", func(req *request) (*response, error) {
		e, err := s.Erasure(req.Context(), req.principal, req.tenant.ID, req.PathValue("erasure"))
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noErasure)
		}
		return erasureResponse(http.StatusOK, &e), nil
	})
}

// CancelErasure answers DELETE /tenants/{id}/erasures/{erasure}: nothing is erased.
func CancelErasure(gate *Gate, s *erasure.Service) http.Handler {
	return gate.endpoint("cancel-erasure", func(req *request) (*response, error) {
		e, err := s.Cancel(req.Context(), req.principal, req.tenant, req.PathValue("erasure"))
		switch {
		case errors.Is(err, jobs.ErrFinished):
			return nil, ProblemConflict.problem("The erasure is finished.")
		case errors.Is(err, jobs.ErrCommitted):
			return nil, ProblemConflict.problem("The erasure has begun and cannot be cancelled any more.")
		case err != nil:
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noErasure)
		}
		return erasureResponse(http.StatusOK, &e), nil
	})
}

func erasureResponse(status int, e *erasure.Erasure) *response {
	w := writer{b: make([]byte, 0, 384)}
	appendErasure(&w, e)
	return jsonResponse(status, &w)
}

func appendErasure(w *writer, e *erasure.Erasure) {
	w.open('{')
	appendJobMembers(w, &e.Job)
	w.text("subject_hmac", e.Subject.String())
	w.time("erases_at", e.ErasesAt)
	w.optionalTime("erased_at", e.ErasedAt)
	if e.ExportsRemoved != nil {
		w.integer("revealed_exports_removed", *e.ExportsRemoved)
	}
	w.close('}')
}
