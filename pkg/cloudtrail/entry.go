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
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Entry returns the JSON text of the entry of one record, which Reader returned.
//
//	timestamp        eventTime
//	idempotency_key  eventID; of a record without one a hash of the record
//	action           eventName, other characters than an action's replaced by "_"
//	user_id          the first of userIdentity's arn, userName, principalId, invokedBy, type, accountId; else "unknown"
//	session_id       userIdentity.accessKeyId, which is one for each session of temporary credentials
//	request_id       requestID
//	resource_type    the type of the first of resources, else the service ("s3" of s3.amazonaws.com)
//	resource_id      the ARN of the first of resources, else the best name among requestParameters
//	ip_address       sourceIPAddress where it is an address, else null: unknown
//	user_agent       userAgent where it fits, else null: unknown
//	severity         ERROR where there is an errorCode, else INFO
//	message          what happened, in one sentence
//	metadata         the record, as it is
//
// The same record always gives the same text. What is missing or odd in a
// record is left out of its entry; whether the rest makes an entry is for the
// service to say. The error is of a record that is no JSON object.
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
	out.text("user_id", cut(actor(user), audit.MaxUserID))
	out.optional("session_id", user.text("accessKeyId"), audit.MaxSessionID)
	out.optional("request_id", r.text("requestID"), audit.MaxRequestID)
	out.text("resource_type", cut(resourceType(r), audit.MaxResourceType))
	out.text("resource_id", cut(resourceID(r), audit.MaxResourceID))
	out.orNull("ip_address", address(r.text("sourceIPAddress")))
	out.orNull("user_agent", fitting(r.text("userAgent"), audit.MaxUserAgent))
	out.text("severity", severity(r).String())
	out.text("message", cut(message(r, user), audit.MaxMessage))
	out.value("metadata", record)
	return out.end(), nil
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// text is a member that is a string, "" where it is none.
func (f fields) text(name string) string {
	var s string
	if json.Unmarshal(f[name], &s) != nil {
		return ""
	}
	return s
}

// object is a member that is an object, nil where it is none.
func (f fields) object(name string) fields {
	var o fields
	if json.Unmarshal(f[name], &o) != nil {
		return nil
	}
	return o
}

// first is the first element of a member that is an array of objects, nil where it is none.
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

// action makes an event's name an action: what cannot stand in one becomes "_".
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

// service is "s3" of the event source "s3.amazonaws.com".
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

// resourceNames are the request parameters that name what a call is about, the
// most telling first.
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

// likelyName is the first parameter, by its name, that is called an ARN, an id or a name.
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

// address is the text where it is an IP address; CloudTrail also writes
// "AWS Internal" and the names of services there.
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

// fitting is the text where it is within the limit.
func fitting(text string, limit int) string {
	if len(text) > limit {
		return ""
	}
	return text
}

// cut is the text up to the limit in bytes, whole characters only.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
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
	// The error is of invalid UTF-8, which json.Unmarshal has replaced already.
	w.buf, _ = jsontext.AppendQuote(w.buf, text)
}

// value writes a member as it is spelled; one that is missing is left out.
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

// optional writes a member that is neither empty nor over its limit.
func (w *writer) optional(name, text string, limit int) { w.text(name, fitting(text, limit)) }

// orNull writes null where the text is empty: unknown, not the sender's own.
func (w *writer) orNull(name, text string) {
	w.name(name)
	if text == "" {
		w.buf = append(w.buf, "null"...)
		return
	}
	w.quote(text)
}

func (w *writer) end() []byte { return append(w.buf, '}') }
