package importers

import (
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

func isGCP(r fields) bool {
	payload := r.object("protoPayload")
	return strings.HasSuffix(payload.text("@type"), "google.cloud.audit.AuditLog") || payload.has("methodName", "serviceName")
}

// gcpEvent reads a LogEntry of Google Cloud Logging whose protoPayload is an AuditLog:
//
//	timestamp        timestamp
//	idempotency_key  logName and insertId
//	action           methodName
//	user_id          authenticationInfo.principalEmail, else principalSubject
//	request_id       operation.id
//	resource_type    resource.type of the LogEntry, else the service ("storage" of storage.googleapis.com)
//	resource_id      resourceName
//	ip_address       requestMetadata.callerIp if it is an address
//	user_agent       requestMetadata.callerSuppliedUserAgent
//	severity         ERROR if status has a code, else by severity
func gcpEvent(r fields) event {
	payload := r.object("protoPayload")
	service, _, _ := strings.Cut(payload.text("serviceName"), ".")
	actor := payload.object("authenticationInfo").firstOf("principalEmail", "principalSubject")
	status := payload.object("status")
	e := event{
		time: r["timestamp"], action: payload.text("methodName"), user: actor, request: r.object("operation").text("id"),
		resourceType: r.object("resource").text("type"), resourceID: payload.text("resourceName"),
		address:  payload.object("requestMetadata").text("callerIp"),
		agent:    payload.object("requestMetadata").text("callerSuppliedUserAgent"),
		severity: gcpSeverity(r.text("severity")),
	}
	if e.resourceType == "" {
		e.resourceType = service
	}
	if id := r.text("insertId"); id != "" {
		// Cloud Logging promises that an insertId is unique within a log and a timestamp only.
		e.key = r.text("logName") + "/" + id
	}
	code := status.scalar("code")
	if code == "0" { // google.rpc.Code OK
		code = ""
	}
	if code != "" {
		e.severity = max(e.severity, audit.SeverityError)
	}
	e.message = sentence(e.action, service, actor, code, status.text("message"))
	return e
}

// gcpSeverity maps a LogSeverity. NOTICE is what the administration of a project has.
func gcpSeverity(name string) audit.Severity {
	switch name {
	case "WARNING":
		return audit.SeverityWarning
	case "ERROR":
		return audit.SeverityError
	case "CRITICAL", "ALERT", "EMERGENCY":
		return audit.SeverityCritical
	}
	return audit.SeverityInfo
}
