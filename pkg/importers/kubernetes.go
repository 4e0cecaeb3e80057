package importers

import (
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The items of an EventList have no kind of their own.
func isKubernetes(r fields) bool { return r.has("auditID", "stage", "verb") }

// kubernetesEvent reads an Event of audit.k8s.io/v1. A request has an event for each stage that the
// cluster's policy logs, and each is an entry.
//
//	timestamp        requestReceivedTimestamp, else stageTimestamp
//	idempotency_key  auditID and stage
//	action           verb
//	user_id          user.username: who is authenticated, not who is impersonated
//	request_id       auditID, which all stages share
//	resource_type    objectRef.resource and its subresource ("pods/exec"), else "url"
//	resource_id      namespace and name of objectRef, else requestURI
//	ip_address       the first of sourceIPs, where the request says that it comes from
//	user_agent       userAgent
//	severity         CRITICAL in the stage Panic, ERROR if responseStatus.code is 400 or more, else INFO
func kubernetesEvent(r fields) event {
	ref := r.object("objectRef")
	user := r.object("user").text("username")
	status := r.object("responseStatus")
	e := event{
		time: r["requestReceivedTimestamp"], action: r.text("verb"), user: user, request: r.text("auditID"),
		resourceType: "url", resourceID: r.text("requestURI"), address: r.first("sourceIPs").text(""), agent: r.text("userAgent"),
	}
	if !r.has("requestReceivedTimestamp") {
		e.time = r["stageTimestamp"]
	}
	if id := r.text("auditID"); id != "" {
		e.key = id + "/" + r.text("stage")
	}
	if ref.text("resource") != "" {
		e.resourceType, e.resourceID = joined(ref, "resource", "subresource"), joined(ref, "namespace", "name")
	}
	var failure string
	number, _ := status.number("code")
	if code, err := strconv.Atoi(string(number)); err == nil && code >= 400 {
		e.severity, failure = audit.SeverityError, strings.TrimSpace(string(number)+" "+status.text("reason"))
	}
	if r.text("stage") == "Panic" {
		e.severity = audit.SeverityCritical
	}
	on := strings.TrimSpace(e.resourceType + " " + e.resourceID)
	e.message = sentence(e.action, on, user, failure, status.text("message")) + " (" + r.text("stage") + ")"
	return e
}

// joined returns the members that have a text, with a slash between them.
func joined(f fields, names ...string) string {
	var parts []string
	for _, name := range names {
		if s := f.text(name); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "/")
}
