package importers

import (
	"slices"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func isOkta(r fields) bool { return r.has("uuid", "published", "eventType") }

// oktaEvent reads a LogEvent of Okta's system log:
//
//	timestamp        published
//	idempotency_key  uuid
//	action           eventType
//	user_id          actor.alternateId, else actor.id, actor.displayName
//	session_id       authenticationContext.externalSessionId
//	request_id       transaction.id
//	resource_type    the type of the first of target, else "okta"
//	resource_id      the id of the first of target, else its alternateId, displayName
//	ip_address       client.ipAddress
//	user_agent       client.userAgent.rawUserAgent
//	severity         ERROR if outcome.result is FAILURE or DENY, else by severity
//	message          displayMessage, who, and the outcome's reason
func oktaEvent(r fields) event {
	actor := known(r.object("actor"), "alternateId", "id", "displayName")
	target := r.first("target").object("")
	outcome := r.object("outcome")
	what := r.firstOf("displayMessage", "eventType")
	e := event{
		time: r["published"], key: r.text("uuid"), action: r.text("eventType"), user: actor,
		session: known(r.object("authenticationContext"), "externalSessionId"), request: known(r.object("transaction"), "id"),
		resourceType: known(target, "type"), resourceID: known(target, "id", "alternateId", "displayName"),
		address: r.object("client").text("ipAddress"), agent: r.object("client").object("userAgent").text("rawUserAgent"),
		severity: oktaSeverity(r.text("severity")),
	}
	if e.resourceType == "" {
		e.resourceType = "okta"
	}
	on := known(target, "alternateId", "displayName", "id")
	if on == "" {
		on = "okta"
	}
	var failure string
	if result := outcome.text("result"); slices.Contains([]string{"FAILURE", "DENY"}, result) {
		e.severity, failure = max(e.severity, audit.SeverityError), result
	}
	e.message = sentence(what, on, actor, failure, outcome.text("reason"))
	return e
}

// known returns the first of the members that has a text. Okta writes "unknown" for one that it
// does not know.
func known(f fields, names ...string) string {
	for _, name := range names {
		if s := f.text(name); s != "" && s != unknown {
			return s
		}
	}
	return ""
}

func oktaSeverity(name string) audit.Severity {
	switch name {
	case "WARN":
		return audit.SeverityWarning
	case "ERROR":
		return audit.SeverityError
	}
	return audit.SeverityInfo
}
