package httpapi

import (
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
)

// ListQuarantine answers GET /logs/quarantine: one page of the entries that a
// step refused, each with the reason. A page ends before audit.MaxPageBytes. Neither its
// length nor its cursors tell of items outside the caller's scope.
func ListQuarantine(gate *Gate, s *quarantine.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-quarantine", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		resources := make([]quarantine.Resource, len(req.scope.Resources))
		for i, r := range req.scope.Resources {
			resources[i] = quarantine.Resource(r)
		}
		read := func(after string, limit int) ([]quarantine.Item, bool, error) {
			return s.List(req.Context(), req.tenant.ID, resources, after, limit)
		}
		return pageOf(req, cursors, "quarantine of "+string(req.tenant.ID), limit, read, func(w *writer, item *quarantine.Item) string {
			if req.scope.Allows(&item.Entry) && !s.IsExpired(&req.tenant, item) {
				appendItem(w, &req.tenant, item)
			}
			return item.ID
		})
	})
}

func appendItem(w *writer, tenant *audit.Tenant, item *quarantine.Item) {
	w.open('{')
	w.text("id", item.ID)
	w.word("step", item.Step)
	w.text("code", item.Code)
	w.text("reason", item.Reason)
	w.time("quarantined_at", item.QuarantinedAt)
	w.optionalTime("expires_at", tenant.Settings.ExpiryOf(&item.Entry))
	w.name("entry")
	appendEntry(w, tenant, &item.Entry)
	w.close('}')
}

// RetryQuarantine answers POST /logs/quarantine/{id}/retry: the entry goes
// through its step again.
func RetryQuarantine(gate *Gate, s *quarantine.Service) http.Handler {
	return gate.endpoint("retry-quarantine", func(req *request) (*response, error) {
		id := req.PathValue("id")
		err := inScope(req, s, id)
		if err == nil {
			err = s.Retry(req.Context(), req.principal, req.tenant, id)
		}
		if err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, noItem)
		}
		w := writer{b: make([]byte, 0, 96)}
		w.open('{')
		w.text("id", id)
		w.word("status", string(audit.StatusAccepted))
		w.close('}')
		return jsonResponse(http.StatusAccepted, &w), nil
	})
}

// DeleteQuarantine answers DELETE /logs/quarantine/{id}: the entry is discarded, unless a legal hold covers it.
func DeleteQuarantine(gate *Gate, s *quarantine.Service) http.Handler {
	return gate.endpoint("delete-quarantine", func(req *request) (*response, error) {
		id := req.PathValue("id")
		err := inScope(req, s, id)
		if err == nil {
			err = s.Delete(req.Context(), req.principal, req.tenant, id)
		}
		if err != nil {
			return nil, held(req, explain(err, audit.ErrNotFound, ProblemNotFound, noItem), "A legal hold covers the entry.")
		}
		return &response{status: http.StatusNoContent}, nil
	})
}

const noItem = "The tenant has no entry in quarantine with this id."

// inScope checks that the caller's scope includes the item. It returns
// audit.ErrNotFound if the scope excludes it or if none exists.
func inScope(req *request, s *quarantine.Service, id string) error {
	if req.scope.Expr() == nil {
		return nil
	}
	item, err := s.Store.Item(req.Context(), req.tenant.ID, id)
	if err == nil && !req.scope.Allows(&item.Entry) {
		err = audit.ErrNotFound
	}
	return err
}
