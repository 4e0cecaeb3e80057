package importers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// event is what a mapping takes from a record. An empty field means that the record does not say.
type event struct {
	time json.RawMessage // a JSON string, RFC 3339
	// key identifies the record among those of its time. Without one, equal records are told
	// apart by their sender.
	key                      string
	action                   string
	user                     string
	session, request         string
	resourceType, resourceID string
	address, agent           string
	severity                 audit.Severity
	message                  string
}

var errNoTime = errors.New("the record does not say when it happened")

// entry returns the JSON text of the entry. Its metadata is the record. Names are shortened to an
// entry's limits. Values that would mean something else if they were shortened are left out.
func (e event) entry(record []byte) ([]byte, error) {
	if len(e.time) == 0 || string(e.time) == "null" {
		return nil, errNoTime
	}
	w := writer{buf: make([]byte, 0, len(record)+1024)}
	w.value("timestamp", e.time)
	w.text("idempotency_key", boundedKey(e.key))
	w.text("action", action(e.action))
	w.text("user_id", audit.Cut(orUnknown(e.user), audit.MaxUserID))
	w.text("session_id", fitting(e.session, audit.MaxSessionID))
	w.text("request_id", fitting(e.request, audit.MaxRequestID))
	w.text("resource_type", audit.Cut(orUnknown(e.resourceType), audit.MaxResourceType))
	w.text("resource_id", audit.Cut(e.resourceID, audit.MaxResourceID))
	w.text("ip_address", address(e.address))
	w.text("user_agent", fitting(e.agent, audit.MaxUserAgent))
	w.text("severity", e.severity.String())
	w.text("message", audit.Cut(e.message, audit.MaxMessage))
	w.value("metadata", record)
	return w.end(), nil
}

const unknown = "unknown"

func orUnknown(text string) string {
	if text == "" {
		return unknown
	}
	return text
}

// boundedKey returns the key, or its hash if it is too long. The key is the record's id, which is
// stored in plain if it is short. So the hash needs no key.
func boundedKey(key string) string {
	if len(key) <= audit.MaxIdempotencyKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// action turns the name of an event into an action. It replaces invalid characters by "_".
func action(name string) string {
	if name == "" {
		return unknown
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

// address returns the text if it is an IP address, else "". Logs also have names of services there.
func address(text string) string {
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		return ""
	}
	return text
}

// fitting returns the text if it is within the limit, else "".
func fitting(text string, limit int) string {
	if len(text) > limit {
		return ""
	}
	return text
}

// sentence is a message such as "StopInstances on ec2 by ada failed with AccessDenied: no".
func sentence(what, on, by, code, reason string) string {
	if what == "" {
		what = "An event"
	}
	s := fmt.Sprintf("%s on %s by %s", what, orUnknown(on), orUnknown(by))
	switch {
	case code != "" && reason != "":
		return s + " failed with " + code + ": " + reason
	case code != "":
		return s + " failed with " + code
	case reason != "":
		return s + ": " + reason
	}
	return s
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// has reports whether every member is there and not null.
func (f fields) has(names ...string) bool {
	for _, name := range names {
		if text := f[name]; len(text) == 0 || string(text) == "null" {
			return false
		}
	}
	return true
}

// text returns a member that is a string, else "".
func (f fields) text(name string) string {
	var s string
	if text := f[name]; len(text) == 0 || text[0] != '"' || json.Unmarshal(text, &s) != nil {
		return ""
	}
	return s
}

// scalar returns a member that is a string or a number as text, else "".
func (f fields) scalar(name string) string {
	if s := f.text(name); s != "" {
		return s
	}
	if n, ok := f.number(name); ok {
		return n.String()
	}
	return ""
}

// number returns a member that is a number.
func (f fields) number(name string) (json.Number, bool) {
	text := f[name]
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return "", false
	}
	return json.Number(text), true
}

// object returns a member that is an object, else nil.
func (f fields) object(name string) fields {
	var o fields
	if text := f[name]; len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &o) != nil {
		return nil
	}
	return o
}

// list returns the elements of a member that is an array, else nil.
func (f fields) list(name string) []json.RawMessage {
	var list []json.RawMessage
	if text := f[name]; len(text) == 0 || text[0] != '[' || json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list
}

// first returns the first element of a member that is an array, as the member "" of the result.
func (f fields) first(name string) fields {
	if list := f.list(name); len(list) > 0 {
		return fields{"": list[0]}
	}
	return nil
}

// firstOf returns the first of the members that is a string with text.
func (f fields) firstOf(names ...string) string {
	for _, name := range names {
		if s := f.text(name); s != "" {
			return s
		}
	}
	return ""
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

// value writes a member unchanged.
func (w *writer) value(name string, text []byte) {
	w.name(name)
	w.buf = append(w.buf, text...)
}

// text writes a member unless it is empty.
func (w *writer) text(name, text string) {
	if text != "" {
		w.name(name)
		w.quote(text)
	}
}

func (w *writer) end() []byte { return append(w.buf, '}') }
