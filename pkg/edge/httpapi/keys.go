package httpapi

import (
	"net/http"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
)

// ListKeys answers GET /tenants/{id}/api-keys: one page of the tenant's keys, the oldest
// first, without their secrets.
func ListKeys(gate *Gate, s *tenants.Service, cursors *cursor.Signer) http.Handler {
	return gate.endpoint("list-keys", func(req *request) (*response, error) {
		limit, err := req.limit()
		if err != nil {
			return nil, err
		}
		read := byCreation(func(after *position, limit int) ([]tenants.Key, bool, error) {
			return s.Keys.Keys(req.Context(), req.tenant.ID, (*tenants.KeyPosition)(after), limit)
		})
		return pageOf(req, cursors, "keys of "+string(req.tenant.ID), limit, read, func(w *writer, key *tenants.Key) string {
			w.open('{')
			appendKey(w, key)
			w.close('}')
			return positionText(key.CreatedAt, key.ID)
		})
	})
}

// CreateKey answers POST /tenants/{id}/api-keys with the key and, this once, its secret.
func CreateKey(gate *Gate, s *tenants.Service) http.Handler {
	in := adminBodies()
	return gate.endpoint("create-key", func(req *request) (*response, error) {
		body, err := readDocument(in, req)
		if err != nil {
			return nil, err
		}
		key := tenants.Key{Tenant: req.tenant.ID}
		body.text("name", &key.Name)
		body.texts("permissions", &key.Permissions)
		body.texts("resources", &key.Resources)
		body.time("expires_at", &key.ExpiresAt)
		body.close()
		if err := body.err(); err != nil {
			return nil, err
		}
		created, secret, err := s.CreateKey(req.Context(), req.principal, key)
		if err != nil {
			err = explain(err, audit.ErrForbidden, ProblemForbidden, "A key cannot hold a permission, or reach a resource, that its creator does not.")
			return nil, explain(err, audit.ErrConflict, ProblemConflict, "The tenant has as many keys as it can have.")
		}
		w := writer{b: make([]byte, 0, 512)}
		w.open('{')
		appendKey(&w, &created)
		w.text("secret", secret)
		w.close('}')
		return jsonResponse(http.StatusCreated, &w), nil
	})
}

// DeleteKey answers DELETE /tenants/{id}/api-keys/{key}: the key opens nothing any
// more once other processes have forgotten it (at most a minute).
func DeleteKey(gate *Gate, s *tenants.Service) http.Handler {
	return gate.endpoint("delete-key", func(req *request) (*response, error) {
		if err := s.DeleteKey(req.Context(), req.principal, req.tenant.ID, req.PathValue("key")); err != nil {
			return nil, explain(err, audit.ErrNotFound, ProblemNotFound, "The tenant has no key with this id.")
		}
		return &response{status: http.StatusNoContent}, nil
	})
}

// appendKey writes the members of a key, never its hash.
func appendKey(w *writer, k *tenants.Key) {
	w.text("id", k.ID)
	w.text("tenant_id", string(k.Tenant))
	w.text("name", k.Name)
	w.texts("permissions", k.Permissions)
	w.texts("resources", k.Resources)
	w.time("created_at", k.CreatedAt)
	if k.CreatedBy != "" {
		w.text("created_by", k.CreatedBy)
	}
	w.optionalTime("expires_at", k.ExpiresAt)
	w.optionalTime("last_used_at", k.LastUsedAt)
}
