package stream

import (
	"errors"
	"net/url"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// actions are the actions of clients' messages.
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
	if err := decodeStrict(body, &text, "action, filter, after"); err != nil {
		return subscribe{}, err
	}
	filter, err := search.ParseFilterIn(text.Filter, "/filter")
	if err != nil {
		return subscribe{}, err
	}
	message := subscribe{filter: filter}
	if text.After != nil {
		message.after = *text.After
		if message.after == "" {
			return subscribe{}, audit.Invalid("/after", "invalid_cursor", "must not be empty; leave it out to begin with new entries")
		}
	}
	return message, nil
}

// parseBare checks a message that has only an action.
func parseBare(body []byte) error {
	var text struct {
		Action string `json:"action"`
	}
	return decodeStrict(body, &text, "action")
}

// decodeStrict reads one JSON object with the known members. Unknown and repeated ones are errors.
func decodeStrict(body []byte, to any, known string) error {
	err := json.Unmarshal(body, to, json.RejectUnknownMembers(true))
	var wrong *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &wrong):
		return audit.Invalid(string(wrong.JSONPointer), "unknown_field", "is not a member of this message, which has %s", known)
	case errors.As(err, &wrong) && wrong.GoType != nil && wrong.GoType.Kind() == reflect.String:
		return audit.Invalid(string(wrong.JSONPointer), "wrong_type", "must be a JSON string")
	case errors.As(err, &wrong):
		return audit.Invalid(string(wrong.JSONPointer), "wrong_type", "must be a JSON object")
	}
	return audit.Invalid("", "invalid_json", "must be one JSON object, its members each once")
}

// errNoCursor means that a text is not a cursor of the tenant's log.
var errNoCursor = audit.Invalid("/after", "invalid_cursor", "must be a cursor that this tenant's stream or feed gave")

// cursor returns the cursor after a place.
func (s *Service) cursor(tenant audit.TenantID, place int64) string {
	return arrival.Cursor(s.Cursors, tenant, place)
}
