package cloudtrail

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Entry returns the JSON text of the entry for one record of a Reader.
//
//	timestamp        eventTime
//	idempotency_key  eventID, or a hash of the record if it has none
//	action           eventName, with "_" for characters that an action cannot have
//	user_id          the first of userIdentity's arn, userName, principalId, invokedBy, type, accountId; else "unknown"
//	session_id       userIdentity.accessKeyId, which is different for each session of temporary credentials
//	request_id       requestID
//	resource_type    the type of the first of resources, else the service ("s3" of s3.amazonaws.com)
//	resource_id      the ARN of the first of resources, else the best name among requestParameters
//	ip_address       sourceIPAddress if it is an address, else null (unknown)
//	user_agent       userAgent if it fits, else null (unknown)
//	severity         ERROR if the record has an errorCode, else INFO
//	message          what happened, in one sentence
//	metadata         the record, as it is
//
// The same record always gives the same text. Entry leaves out missing and invalid values, and
// the service decides whether the rest is a valid entry. It returns an error if the record is
// not a JSON object.
func Entry(record []byte) ([]byte, error) {
	var r fields
	if err := json.Unmarshal(record, &r); err != nil || r == nil {
		return nil, errors.New("the record is no JSON object")
	}
	user := r.object("userIdentity")
	var out writer
	out.value("timestamp", r["eventTime"])
	out.text("idempotency_key", key(r, record))
	out.text("action", action(r.text("eventName")))
	out.text("user_id", audit.Cut(actor(user), audit.MaxUserID))
	out.optional("session_id", user.text("accessKeyId"), audit.MaxSessionID)
	out.optional("request_id", r.text("requestID"), audit.MaxRequestID)
	out.text("resource_type", audit.Cut(resourceType(r), audit.MaxResourceType))
	out.text("resource_id", audit.Cut(resourceID(r), audit.MaxResourceID))
	out.orNull("ip_address", address(r.text("sourceIPAddress")))
	out.orNull("user_agent", fitting(r.text("userAgent"), audit.MaxUserAgent))
	out.text("severity", severity(r).String())
	out.text("message", audit.Cut(message(r, user), audit.MaxMessage))
	out.value("metadata", record)
	return out.end(), nil
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// text returns a member that is a string, else "".
func (f fields) text(name string) string {
	var s string
	if json.Unmarshal(f[name], &s) != nil {
		return ""
	}
	return s
}

// object returns a member that is an object, else nil.
func (f fields) object(name string) fields {
	var o fields
	if json.Unmarshal(f[name], &o) != nil {
		return nil
	}
	return o
}

// first returns the first element of a member that is an array of objects, else nil.
func (f fields) first(name string) fields {
	var list []json.RawMessage
	if json.Unmarshal(f[name], &list) != nil || len(list) == 0 {
		return nil
	}
	return fields{"": list[0]}.object("")
}

func firstOf(f fields, names ...string) string {
	for _, name := range names {
		if s := f.text(name); s != "" {
			return s
		}
	}
	return ""
}

func key(r fields, record []byte) string {
	if id := r.text("eventID"); id != "" && len(id) <= audit.MaxIdempotencyKey {
		return id
	}
	sum := sha256.Sum256(record)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// action turns the name of an event into an action. It replaces invalid characters by "_".
func action(name string) string {
	if name == "" {
		return "unknown"
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("_.:/-", r):
			return r
		}
		return '_'
	}, name)
	if c := mapped[0] | 0x20; c < 'a' || c > 'z' {
		mapped = "event." + mapped
	}
	return mapped[:min(len(mapped), audit.MaxAction)]
}

func actor(user fields) string {
	if name := firstOf(user, "arn", "userName", "principalId", "invokedBy", "type", "accountId"); name != "" {
		return name
	}
	return "unknown"
}

// service returns "s3" for the event source "s3.amazonaws.com".
func service(r fields) string {
	name, _, _ := strings.Cut(r.text("eventSource"), ".")
	if name == "" {
		return "aws"
	}
	return name
}

func resourceType(r fields) string {
	if kind := r.first("resources").text("type"); kind != "" {
		return kind
	}
	return service(r)
}

// resourceNames are request parameters that identify a resource, the most specific first.
var resourceNames = []string{
	"resourceArn", "resourceARN", "arn", "aRN", "bucketName", "instanceId", "functionName", "secretId", "keyId", "roleArn", "policyArn",
	"roleName", "userName", "groupName", "policyName", "instanceProfileName", "trailName", "tableName", "queueUrl", "topicArn",
	"logGroupName", "stackName", "clusterName", "dBInstanceIdentifier", "groupId", "vpcId", "subnetId", "volumeId",
	"snapshotId", "imageId", "accessKeyId", "resourceId", "name", "id",
}

func resourceID(r fields) string {
	if arn := firstOf(r.first("resources"), "ARN", "arn"); arn != "" {
		return arn
	}
	parameters := r.object("requestParameters")
	if bucket, object := parameters.text("bucketName"), parameters.text("key"); bucket != "" && object != "" {
		return bucket + "/" + object
	}
	if name := firstOf(parameters, resourceNames...); name != "" {
		return name
	}
	return likelyName(parameters)
}

// likelyName returns the first parameter, in the order of their names, whose name ends in ARN,
// id or name.
func likelyName(parameters fields) string {
	for _, suffix := range []string{"arn", "id", "identifier", "name"} {
		var found []string
		for name := range parameters {
			if strings.HasSuffix(strings.ToLower(name), suffix) && parameters.text(name) != "" {
				found = append(found, name)
			}
		}
		if len(found) > 0 {
			return parameters.text(slices.Min(found))
		}
	}
	return ""
}

// address returns the text if it is an IP address, else "". CloudTrail also writes "AWS
// Internal" and names of services.
func address(text string) string {
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		return ""
	}
	return text
}

func severity(r fields) audit.Severity {
	if r.text("errorCode") != "" {
		return audit.SeverityError
	}
	return audit.SeverityInfo
}

func message(r, user fields) string {
	name := r.text("eventName")
	if name == "" {
		name = "An event"
	}
	sentence := fmt.Sprintf("%s on %s by %s", name, service(r), actor(user))
	code, reason := r.text("errorCode"), r.text("errorMessage")
	switch {
	case code != "" && reason != "":
		return sentence + " failed with " + code + ": " + reason
	case code != "":
		return sentence + " failed with " + code
	case reason != "":
		return sentence + ": " + reason
	}
	return sentence
}

// fitting returns the text if it is within the limit, else "".
func fitting(text string, limit int) string {
	if len(text) > limit {
		return ""
	}
	return text
}

// writer writes one JSON object.
type writer struct{ buf []byte }

func (w *writer) name(name string) {
	separator := byte(',')
	if len(w.buf) == 0 {
		separator = '{'
	}
	w.buf = append(w.buf, separator)
	w.quote(name)
	w.buf = append(w.buf, ':')
}

func (w *writer) quote(text string) {
	// The only possible error is invalid UTF-8, which json.Unmarshal has already replaced.
	w.buf, _ = jsontext.AppendQuote(w.buf, text)
}

// value writes a member unchanged, unless it is missing.
func (w *writer) value(name string, text []byte) {
	if len(text) > 0 {
		w.name(name)
		w.buf = append(w.buf, text...)
	}
}

// text writes a member unless it is empty.
func (w *writer) text(name, text string) {
	if text != "" {
		w.name(name)
		w.quote(text)
	}
}

// optional writes a member unless it is empty or too long.
func (w *writer) optional(name, text string, limit int) { w.text(name, fitting(text, limit)) }

// orNull writes null if the text is empty. Null means unknown, so that the sender's own value
// is not used.
func (w *writer) orNull(name, text string) {
	w.name(name)
	if text == "" {
		w.buf = append(w.buf, "null"...)
		return
	}
	w.quote(text)
}

func (w *writer) end() []byte { return append(w.buf, '}') }
