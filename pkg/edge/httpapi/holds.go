package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

const noHold = "The tenant has no legal hold with this id."

// The states of a legal hold.
const (
	holdStarting = "starting"
	holdInForce  = "in_force"
	holdReleased = "released"
)

// HoldStates returns the states of a legal hold.
func HoldStates() []string { return []string{holdStarting, holdInForce, holdReleased} }

func holdState(h *hold.Hold) string {
	switch {
	case !h.ReleasedAt.IsZero():
		return holdReleased
	case !h.InForceAt.IsZero():
		return holdInForce
	}
	return holdStarting
}

// CreateLegalHold answers POST /tenants/{id}/legal-holds with the hold, which a job brings into force.
func CreateLegalHold(gate *Gate, s *hold.Service) http.Handler {
	in := adminBodies()
	return gate.endpoint("create-legal-hold", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		var h hold.Hold
		body.text("matter", &h.Matter)
		body.text("reason", &h.Reason)
		body.texts("user_ids", &h.UserIDs)
		body.time("from", &h.From)
		body.time("to", &h.To)
		body.close()
		if err := body.err(); err != nil {
			return nil, err
		}
		h, err = s.Create(req.Context(), req.principal, req.tenant, h)
		switch {
		case errors.Is(err, hold.ErrTooManyStanding):
			return nil, ProblemConflict.problem(fmt.Sprintf("The tenant has %d legal holds that are not released. Release one.", hold.MaxStanding))
		case errors.Is(err, audit.ErrConflict):
			return nil, ProblemConflict.problem("The tenant is being deleted.")
		case err != nil:
			return nil, explain(err, audit.ErrForbidden, ProblemForbidden, holdRestricted)
		}
		return holdResponse(http.StatusAccepted, &h).set("Location", jobLocation(&jobs.Job{ID: h.ID})), nil
	})
}

const holdRestricted = "A credential that is restricted to resources has no access to legal holds."

// ListLegalHolds answers GET /tenants/{id}/legal-holds: one page of the tenant's holds, the newest
// first.
func ListLegalHolds(gate *Gate, s *hold.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-legal-holds", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]hold.Hold, bool, error) {
			return s.List(req.Context(), req.principal, req.tenant.ID, (*jobs.Position)(after), limit)
		})
		page, err := pageOf(req, cursors, "holds of "+string(req.tenant.ID), limit, read, func(w *writer, h *hold.Hold) string {
			appendHold(w, h)
			return positionText(h.CreatedAt, h.ID)
		})
		return page, explain(err, audit.ErrForbidden, ProblemForbidden, holdRestricted)
	})
}

// GetLegalHold answers GET /tenants/{id}/legal-holds/{hold}.
func GetLegalHold(gate *Gate, s *hold.Service) http.Handler {
	return gate.endpoint("get-legal-hold", func(req *request) (*response, error) {
		h, err := s.Hold(req.Context(), req.principal, req.tenant.ID, req.PathValue("hold"))
		if err != nil {
			err = explain(err, audit.ErrForbidden, ProblemForbidden, holdRestricted)
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noHold)
		}
		return holdResponse(http.StatusOK, &h), nil
	})
}

// ReleaseLegalHold answers DELETE /tenants/{id}/legal-holds/{hold}: what it kept may be removed.
func ReleaseLegalHold(gate *Gate, s *hold.Service) http.Handler {
	return gate.endpoint("release-legal-hold", func(req *request) (*response, error) {
		h, err := s.Release(req.Context(), req.principal, req.tenant, req.PathValue("hold"), req.params.Get(paramReason))
		switch {
		case errors.Is(err, hold.ErrReleased):
			return nil, ProblemConflict.problem("The legal hold is released already.")
		case errors.Is(err, audit.ErrForbidden):
			return nil, ProblemForbidden.problem(holdRestricted)
		case err != nil:
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noHold)
		}
		return holdResponse(http.StatusOK, &h), nil
	})
}

// held explains a *hold.HeldError, and names the matter to callers who may read holds. what says what
// the holds do.
func held(req *request, err error, what string) error {
	var of *hold.HeldError
	if !errors.As(err, &of) {
		return err
	}
	holds := of.For(req.principal, req.tenant.ID)
	if len(holds) == 0 {
		return ProblemConflict.problem(what)
	}
	detail := what + " Its matter is " + strconv.Quote(holds[0].Matter) + "."
	if n := len(holds); n > 1 {
		detail = what + " The matter of one of " + strconv.Itoa(n) + " is " + strconv.Quote(holds[0].Matter) + "."
	}
	return ProblemConflict.problem(detail + " GET /tenants/{id}/legal-holds lists the holds.")
}

func holdResponse(status int, h *hold.Hold) *response {
	w := writer{b: make([]byte, 0, 384)}
	appendHold(&w, h)
	return jsonResponse(status, &w)
}

func appendHold(w *writer, h *hold.Hold) {
	w.open('{')
	w.text("id", h.ID)
	w.text("tenant_id", string(h.Tenant))
	w.word("state", holdState(h))
	w.text("matter", h.Matter)
	w.text("reason", h.Reason)
	w.texts("user_ids", h.UserIDs)
	w.optionalTime("from", h.From)
	w.optionalTime("to", h.To)
	w.text("created_by", h.CreatedBy)
	w.time("created_at", h.CreatedAt)
	w.optionalTime("in_force_at", h.InForceAt)
	if !h.ReleasedAt.IsZero() {
		w.time("released_at", h.ReleasedAt)
		w.text("released_by", h.ReleasedBy)
		w.text("release_reason", h.ReleaseReason)
	}
	w.close('}')
}
