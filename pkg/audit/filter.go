package audit

import (
	"strings"
	"time"
)

// Filter chooses entries of one tenant. The zero Filter chooses all of them.
type Filter struct {
	From  time.Time // inclusive, whole milliseconds; zero: no lower bound
	To    time.Time // exclusive, whole milliseconds; zero: no upper bound
	Where Expr      // nil: every entry
}

// Expr is a condition on an entry: And, Or, Not, Equals, Text or Time. Every
// index compiles exactly these.
type Expr interface{ expr() }

// And holds where all of its conditions hold; an empty And always does.
type And []Expr

// Or holds where one of its conditions holds; an empty Or never does.
type Or []Expr

// Not holds where its condition does not.
type Not struct{ Expr Expr }

// Equals holds where the field has one of the values, byte for byte. Values are
// in the field's normal form: addresses as netip prints them, severities in
// upper case. A field with several values (Changed, an array in the metadata)
// matches when one of them does.
type Equals struct {
	Field  Field
	Values []string
}

// Text holds where the message contains the words next to one another, in their
// order. Words are as Words gives them. With Prefix the last word is the
// beginning of one.
type Text struct {
	Words  []string
	Prefix bool
}

// Time holds where From ≤ timestamp < To; a zero bound is open.
type Time struct{ From, To time.Time }

func (And) expr()    {}
func (Or) expr()     {}
func (Not) expr()    {}
func (Equals) expr() {}
func (Text) expr()   {}
func (Time) expr()   {}

// Field names what a condition or a grouping looks at: one of the constants
// below or MetadataField of a path.
type Field string

// The fields that can be filtered on and grouped by.
const (
	FieldUserID       Field = "user_id"
	FieldSessionID    Field = "session_id"
	FieldRequestID    Field = "request_id"
	FieldAction       Field = "action"
	FieldResourceType Field = "resource_type"
	FieldResourceID   Field = "resource_id"
	FieldSeverity     Field = "severity"
	FieldIPAddress    Field = "ip_address"
	FieldChanged      Field = "changed"
)

// FilterFields are the fields with a name of their own, in their usual order.
func FilterFields() []Field {
	return []Field{
		FieldUserID, FieldSessionID, FieldRequestID, FieldAction, FieldResourceType, FieldResourceID,
		FieldSeverity, FieldIPAddress, FieldChanged,
	}
}

const metadataPrefix = "metadata."

// MetadataField is the field of the scalar leaves at a dotted path in the metadata.
func MetadataField(path string) Field { return Field(metadataPrefix + path) }

// MetadataPath returns the dotted path of a metadata field; ok is false for any other field.
func (f Field) MetadataPath() (path string, ok bool) {
	return strings.CutPrefix(string(f), metadataPrefix)
}

// Value returns the one value of a field, in the form that conditions compare;
// "" where it is unset, and for changed and the metadata, which can have several.
func (e *Entry) Value(field Field) string {
	switch field {
	case FieldUserID:
		return e.UserID
	case FieldSessionID:
		return e.SessionID
	case FieldRequestID:
		return e.RequestID
	case FieldAction:
		return e.Action
	case FieldResourceType:
		return e.ResourceType
	case FieldResourceID:
		return e.ResourceID
	case FieldSeverity:
		return e.Severity.String()
	case FieldIPAddress:
		if e.IPAddress.IsValid() {
			return e.IPAddress.String()
		}
	}
	return ""
}

// Values returns the values of a field outside the metadata, in the form that
// conditions compare: several of FieldChanged, of another field one where it is set.
func (e *Entry) Values(field Field) []string {
	if field == FieldChanged {
		return e.Changed
	}
	if value := e.Value(field); value != "" {
		return []string{value}
	}
	return nil
}

// All joins conditions, leaving out the nil ones; it returns nil where none is left.
func All(exprs ...Expr) Expr {
	var kept And
	for _, e := range exprs {
		if e != nil {
			kept = append(kept, e)
		}
	}
	switch len(kept) {
	case 0:
		return nil
	case 1:
		return kept[0]
	}
	return kept
}
