package httpapi

import (
	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// The parameters that ask for encrypted values.
const (
	paramReveal = "reveal"
	paramReason = "reason"
)

// revealing is whether a request asks for encrypted values, and why.
type revealing struct {
	wanted bool
	reason string
}

// revealByQuery reads the parameters of a query string.
func (req *request) revealByQuery() (revealing, error) {
	var r revealing
	switch text := req.params.Get(paramReveal); {
	case text == "true":
		r.wanted = true
	case req.params.Has(paramReveal) && text != "false":
		return r, audit.Invalid("?"+paramReveal, "invalid_choice", "must be true or false")
	}
	r.reason = req.params.Get(paramReason)
	return r, r.check(req, "?"+paramReason, req.params.Has(paramReason))
}

// revealByBody reads the members of a JSON object, and takes them out of it.
func (req *request) revealByBody(body *document) (revealing, error) {
	var r revealing
	_, hasReason := body.members[paramReason]
	body.boolean(paramReveal, &r.wanted)
	body.text(paramReason, &r.reason)
	if err := body.err(); err != nil {
		return r, err
	}
	return r, r.check(req, "/"+paramReason, hasReason)
}

// check returns an error unless the caller may have what it asks for.
func (r revealing) check(req *request, reason string, hasReason bool) error {
	switch {
	case !r.wanted && hasReason:
		return audit.Invalid(reason, "not_asked", "must be left out unless reveal is true")
	case !r.wanted:
		return nil
	}
	if !req.principal.Has(req.tenant.ID, access.LogsReveal) {
		return &access.DeniedError{Tenant: req.tenant.ID, Permission: access.LogsReveal}
	}
	if invalid := protect.CheckReason(reason, r.reason); invalid != nil {
		return invalid
	}
	return nil
}

// reveal returns the entries with their values. The reveal is recorded then.
func (req *request) reveal(r *protect.Revealer, reason string, entries []audit.Entry) ([]protect.Revealed, error) {
	return r.Reveal(req.Context(), req.tenant, req.principal.Subject, reason, entries)
}

// appendRevealed writes an entry whose encrypted values were asked for.
func appendRevealed(w *writer, tenant *audit.Tenant, e *protect.Revealed) {
	w.b = entryjson.AppendRevealed(w.b, &e.Entry, e.Places, tenant.Settings.ExpiryOf(&e.Entry))
}
