package httpapi

import (
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/attempts"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// noteRefusal reports a request that was refused because of its caller. A tenant that is suspended
// refuses everybody, which says nothing about the caller. err is the request's error, or nil.
func (g *Gate) noteRefusal(req *request, route manifest.Route, err error) {
	if g.Attempts == nil || err == nil {
		return
	}
	p := problemOf(err, route.Permission)
	if p.kind != ProblemForbidden && p.kind != ProblemUnauthenticated {
		return
	}
	a := attempts.Attempt{
		Principal: req.principal, Tenant: req.named, Route: route.Name(), Reason: p.detail,
		RequestID: req.id, IPAddress: remoteIP(req.RemoteAddr), UserAgent: req.UserAgent(),
	}
	if p.kind == ProblemUnauthenticated { // nobody knows who it was
		a.Principal, a.Tenant = access.Principal{}, ""
	}
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		a.Missing = denied.Permission
	}
	g.Attempts.Record(req.Context(), a)
}
