package stream

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// actions are what a client's message can ask for.
var actions = []string{"subscribe", "unsubscribe", "ping"}

// subscribe is a subscribe message.
type subscribe struct {
	filter url.Values
	after  string
}

// parseSubscribe reads a subscribe message. Its filter has the filter parameters
// of a list, each a text or an array of texts.
func parseSubscribe(body []byte) (subscribe, error) {
	var text struct {
		Action string                    `json:"action"`
		Filter map[string]jsontext.Value `json:"filter"`
		After  *string                   `json:"after"`
	}
	if err := strictly(body, &text); err != nil {
		return subscribe{}, err
	}
	message := subscribe{filter: url.Values{}}
	var faults []audit.FieldError
	for _, name := range slices.Sorted(maps.Keys(text.Filter)) {
		values, ok := texts(text.Filter[name])
		if !ok {
			faults = append(faults, audit.Invalid("?"+audit.BoundedName(name), "invalid_type", "must be a text or an array of texts").Fields...)
			continue
		}
		message.filter[name] = values
	}
	var invalid *audit.ValidationError
	if _, err := search.ParseFilter(message.filter); errors.As(err, &invalid) {
		faults = append(faults, invalid.Fields...)
	}
	if len(faults) > 0 {
		return subscribe{}, audit.InvalidFields(inFilter(faults))
	}
	if text.After != nil {
		message.after = *text.After
		if message.after == "" {
			return subscribe{}, errNoCursor
		}
	}
	return message, nil
}

// texts reads a text or an array of texts.
func texts(raw jsontext.Value) ([]string, bool) {
	var one *string
	if err := json.Unmarshal(raw, &one); err == nil && one != nil {
		return []string{*one}, true
	}
	var several []*string
	if err := json.Unmarshal(raw, &several); err != nil || several == nil {
		return nil, false
	}
	values := make([]string, len(several))
	for i, value := range several {
		if value == nil {
			return nil, false
		}
		values[i] = *value
	}
	return values, true
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901

// inFilter points at the members of the message's filter instead of query parameters.
func inFilter(faults []audit.FieldError) []audit.FieldError {
	for i, fault := range faults {
		if name := strings.TrimPrefix(fault.Pointer, "?"); name != "" {
			faults[i].Pointer = "/filter/" + escapePointer.Replace(name)
		} else {
			faults[i].Pointer = "/filter"
		}
	}
	return faults
}

// parseBare checks a message that has nothing but its action.
func parseBare(body []byte) error {
	var text struct {
		Action string `json:"action"`
	}
	return strictly(body, &text)
}

// strictly reads one JSON object without members that are not known or stand twice.
func strictly(body []byte, to any) error {
	err := json.Unmarshal(body, to, json.RejectUnknownMembers(true))
	var wrong *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &wrong):
		return audit.Invalid(audit.BoundedName(string(wrong.JSONPointer)), "unknown_field", "is no member of this message")
	case errors.As(err, &wrong):
		return audit.Invalid(audit.BoundedName(string(wrong.JSONPointer)), "invalid_type", "must not be a JSON %s", wrong.JSONKind)
	}
	return audit.Invalid("", "invalid_json", "must be one JSON object, its members each once")
}

// errNoCursor is about a cursor of something else.
var errNoCursor = audit.Invalid("/after", "invalid_cursor", "must be a cursor that this tenant's stream gave")

// listOf is what the cursors of a tenant's stream are signed for.
func listOf(tenant audit.TenantID) string { return "stream of " + string(tenant) }

// cursor is the text of a position.
func (s *Service) cursor(tenant audit.TenantID, at Position) string {
	payload := binary.AppendVarint(nil, at.Segment)
	return s.Cursors.Sign(listOf(tenant), binary.AppendVarint(payload, int64(at.Within)))
}

// position reads a cursor.
func (s *Service) position(tenant audit.TenantID, text string) (Position, error) {
	payload, err := s.Cursors.Parse(listOf(tenant), text)
	if err != nil {
		return Position{}, errNoCursor
	}
	segment, n := binary.Varint(payload)
	if n <= 0 {
		return Position{}, errNoCursor
	}
	within, n := binary.Varint(payload[n:])
	if n <= 0 {
		return Position{}, errNoCursor
	}
	return Position{Segment: segment, Within: int(within)}, nil
}
