package importers

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

func isGitHub(r fields) bool {
	_, stamped := r.number("@timestamp")
	_, created := r.number("created_at")
	return r.has("action") && (stamped || created && (r.has("actor") || r.has("_document_id")))
}

// gitHubEvent reads an event of the audit log of a GitHub organization or enterprise, exported,
// streamed or listed by the API:
//
//	timestamp        @timestamp, else created_at (milliseconds since 1970)
//	idempotency_key  _document_id
//	action           action
//	user_id          actor, else external_identity_nameid, actor_id, deploy_key_fingerprint
//	session_id       actor_session
//	request_id       request_id
//	resource_type    the category, which is the action up to its first dot
//	resource_id      repo, else the team, user, organization or enterprise that is named
//	ip_address       actor_ip
//	user_agent       user_agent
func gitHubEvent(r fields) event {
	category, _, _ := strings.Cut(r.text("action"), ".")
	actor := r.firstOf("actor", "external_identity_nameid")
	if actor == "" {
		actor = r.scalar("actor_id")
	}
	if actor == "" {
		actor = r.text("deploy_key_fingerprint")
	}
	resource := r.firstOf("repo", "repository", "team", "user", "org", "business")
	if category == "team" {
		resource = r.firstOf("team", "org")
	}
	on := category
	if resource != "" {
		on = resource
	}
	return event{
		time: gitHubTime(r), key: r.text("_document_id"), action: r.text("action"), user: actor,
		session: r.scalar("actor_session"), request: r.text("request_id"), resourceType: category, resourceID: resource,
		address: r.text("actor_ip"), agent: r.text("user_agent"), message: sentence(r.text("action"), on, actor, "", ""),
	}
}

// minMilliseconds tells milliseconds since 1970 from seconds: it is in 1973, and in the year 5138.
const minMilliseconds = 100_000_000_000

func gitHubTime(r fields) json.RawMessage {
	for _, name := range []string{"@timestamp", "created_at"} {
		number, _ := r.number(name)
		n, err := strconv.ParseInt(string(number), 10, 64)
		if err != nil {
			continue
		}
		if n < minMilliseconds {
			n *= 1000
		}
		return json.RawMessage(strconv.Quote(time.UnixMilli(n).UTC().Format("2006-01-02T15:04:05.000Z")))
	}
	return nil
}
