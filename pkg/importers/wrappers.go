package importers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// wrapperNames are the members in which files and messages carry a list of records.
//
//	Records    a log file of CloudTrail
//	Events     the answer of CloudTrail's lookup-events
//	logEvents  a subscription of CloudWatch Logs
//	events     the answer of CloudWatch Logs' filter-log-events; an event hook of Okta
//	items      a Kubernetes EventList; a list of Ocelot
//	entries    the answer of Cloud Logging's entries.list
var wrapperNames = []string{"Records", "Events", "logEvents", "events", "items", "entries"}

func isWrapperName(name string) bool { return slices.Contains(wrapperNames, name) }

// maxWrappers is how deep records may be wrapped in each other.
const maxWrappers = 8

// recordsOf returns the records of one JSON value.
func recordsOf(text []byte, format Format) []Record {
	return unwrap(text, format, 0)
}

// unwrap takes the wrappers off a value: lists, messages that have a record as text, and events
// that carry it.
func unwrap(text []byte, format Format, depth int) []Record {
	if depth > maxWrappers {
		return []Record{{Original: text, Err: fmt.Errorf("is wrapped more than %d times", maxWrappers)}}
	}
	if bytes.HasPrefix(text, []byte("[")) {
		var list []json.RawMessage
		if err := json.Unmarshal(text, &list); err != nil {
			return unreadable(text, format, err)
		}
		return unwrapAll(list, format, depth)
	}
	var r fields
	if err := json.Unmarshal(text, &r); err != nil || r == nil {
		return unreadable(text, format, errors.New("is no JSON object"))
	}
	if format.isForeign() {
		if inner, wrapped := unwrapObject(r, format, depth); wrapped {
			return inner
		}
	}
	record := Record{Original: text}
	record.Entry, record.Err = format.entryOf(text, r)
	return []Record{record}
}

// unreadable returns a value that is no record. The service says what is wrong with an entry.
func unreadable(text []byte, format Format, err error) []Record {
	if format == Auto || !format.isForeign() {
		return []Record{{Original: text, Entry: text}}
	}
	return []Record{{Original: text, Err: err}}
}

func unwrapAll(list []json.RawMessage, format Format, depth int) (records []Record) {
	for _, element := range list {
		records = append(records, unwrap(element, format, depth+1)...)
	}
	return records
}

// unwrapObject returns what an object wraps, if it wraps anything.
func unwrapObject(r fields, format Format, depth int) (records []Record, wrapped bool) {
	switch {
	case isDigest(r):
		return []Record{{Note: "passed over: a digest file of CloudTrail lists files and has no events"}}, true
	case r.text("CloudTrailEvent") != "": // an element of lookup-events
		return unwrapText("CloudTrailEvent", r.text("CloudTrailEvent"), format, depth), true
	case r.has("detail-type") && r.object("detail") != nil: // an event of EventBridge
		return unwrap(r["detail"], format, depth+1), true
	case r.object("awslogs").text("data") != "": // an event of Lambda
		return unwrapPacked(r.object("awslogs").text("data"), format, depth), true
	case r.has("eventTypeVersion") && r.object("data") != nil: // an event hook of Okta
		return unwrap(r["data"], format, depth+1), true
	}
	if text := r.text("message"); text != "" && isLogEvent(r) {
		if strings.HasPrefix(text, controlMessage) {
			return []Record{{Note: "passed over: a control message of CloudWatch Logs has no event"}}, true
		}
		return unwrapText("message", text, format, depth), true
	}
	if r.has("action") { // records of GitHub have lists with such names
		return nil, false
	}
	for _, name := range wrapperNames {
		if list := r.list(name); list != nil && (len(list) == 0 || list[0][0] == '{') {
			return unwrapAll(list, format, depth), true
		}
	}
	return nil, false
}

// isLogEvent reports whether an object is an event of CloudWatch Logs. Its message is one line of a log.
func isLogEvent(r fields) bool {
	_, stamped := r.number("timestamp")
	return stamped && !r.has("action")
}

// controlMessage begins the messages by which CloudWatch Logs tests a subscription.
const controlMessage = "CWL CONTROL MESSAGE"

// unwrapText reads a member whose text is a record.
func unwrapText(name, text string, format Format, depth int) []Record {
	values, err := valuesOf([]byte(text))
	if err != nil || len(values) != 1 || values[0][0] != '{' {
		return []Record{{Original: []byte(text), Err: fmt.Errorf("%s is not one JSON object", name)}}
	}
	return unwrap(compacted(values[0]), format, depth+1)
}

// unwrapPacked reads what a subscription of CloudWatch Logs sends to Lambda: base64 of gzip.
func unwrapPacked(data string, format Format, depth int) []Record {
	failed := func(err error) []Record {
		return []Record{{Err: fmt.Errorf("awslogs.data: %w", err)}}
	}
	text, err := NewText(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)))
	if err != nil {
		return failed(err)
	}
	defer text.Close()
	unpacked, err := io.ReadAll(io.LimitReader(text, MaxRecordBytes+1))
	switch {
	case err != nil:
		return failed(err)
	case len(unpacked) > MaxRecordBytes:
		return failed(ErrRecordTooLarge)
	}
	values, err := valuesOf(unpacked)
	if err != nil {
		return failed(syntaxError(err))
	}
	var records []Record
	for _, value := range values {
		records = append(records, unwrap(compacted(value), format, depth+1)...)
	}
	return records
}
