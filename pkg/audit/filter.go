package audit

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Filter selects entries of one tenant. The zero Filter selects all of them.
type Filter struct {
	From  time.Time // inclusive, whole milliseconds; zero: no lower bound
	To    time.Time // exclusive, whole milliseconds; zero: no upper bound
	Where Expr      // nil: every entry
	// Unexpired is the condition that Settings.Visible adds; nil: every entry. It is as small
	// as the rules of a tenant. Its conditions do not count towards an index's limits of Where.
	Unexpired Expr
}

// Expr is a condition on an entry: And, Or or Not, or one of the conditions below. Every
// index supports exactly these.
type Expr interface{ expr() }

// And is true if all of its conditions are true. An empty And is true.
type And []Expr

// Or is true if at least one of its conditions is true. An empty Or is false.
type Or []Expr

// Not is true if its condition is false.
type Not struct{ Expr Expr }

// Equals is true if the field has one of the values, byte for byte. Values have the
// field's normal form: addresses as netip prints them, without an IPv4-mapped form,
// severities in upper case, numbers as decimal.Canonical spells them. A field with several
// values (Changed, an array in the metadata) matches if one of them matches.
type Equals struct {
	Field  Field
	Values []string
}

// Text is true if the message contains the words as a phrase: adjacent and in this
// order. Words have the form that words.Split returns. With Prefix, the last word may be
// the beginning of a longer one.
type Text struct {
	Words  []string
	Prefix bool
}

// Time is true if From ≤ timestamp < To. A zero bound is open.
type Time struct{ From, To time.Time }

// Received is true if From ≤ received_at < To. A zero bound is open.
type Received struct{ From, To time.Time }

// MaxPrefix is the length of the longest value of a Prefix, in bytes. It is that of the longest
// resource_id.
const MaxPrefix = MaxResourceID

// Prefix is true if the field has a value that begins with Value, byte for byte. Value has 1 to
// MaxPrefix bytes, which need not be whole characters. Values have the form of Equals.
type Prefix struct {
	Field Field
	Value string
}

// Has is true if the field has a value. A path of the metadata has one if a scalar is there or
// below.
type Has struct{ Field Field }

// Number is true if the path of the metadata has a number with From ≤ key < To, where key is
// that of decimal.Number.Key. An empty bound is open.
type Number struct {
	Field    Field
	From, To string
}

// Network is true if the address of the entry is in the network, which is masked. An IPv4
// network has the IPv4-mapped addresses too.
type Network struct{ Prefix netip.Prefix }

// HasToken is true if the entry has the token, which stands for an encrypted value at a path.
type HasToken struct{ Token ValueToken }

func (And) expr()      {}
func (Or) expr()       {}
func (Not) expr()      {}
func (Equals) expr()   {}
func (Text) expr()     {}
func (Time) expr()     {}
func (Received) expr() {}
func (Prefix) expr()   {}
func (Has) expr()      {}
func (Number) expr()   {}
func (Network) expr()  {}
func (HasToken) expr() {}

// Field names the field of a condition or a grouping: one of the constants below, or
// MetadataField of a path.
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
	FieldSubmittedBy  Field = "submitted_by"
)

// FilterFields returns the fields outside the metadata, in their usual order.
func FilterFields() []Field {
	return []Field{
		FieldUserID, FieldSessionID, FieldRequestID, FieldAction, FieldResourceType, FieldResourceID,
		FieldSeverity, FieldIPAddress, FieldChanged, FieldSubmittedBy,
	}
}

const metadataPrefix = "metadata."

// MetadataField is the field of the scalar leaves at a dotted path in the metadata.
func MetadataField(path string) Field { return Field(metadataPrefix + path) }

// MetadataPath returns the dotted path of a metadata field; ok is false for any other field.
func (f Field) MetadataPath() (path string, ok bool) {
	return strings.CutPrefix(string(f), metadataPrefix)
}

// Value returns the value of a field, in the form that conditions compare. It returns
// "" if the field is unset. It also returns "" for FieldChanged and the metadata, which
// can have several values.
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
			return e.IPAddress.Unmap().String()
		}
	case FieldSubmittedBy:
		return e.SubmittedBy
	}
	return ""
}

// Values returns the values of a field outside the metadata, in the form that
// conditions compare. It returns nil if the field is unset. Only FieldChanged can have
// several.
func (e *Entry) Values(field Field) []string {
	if field == FieldChanged {
		return e.Changed
	}
	return e.AppendValues(nil, field)
}

// AppendValues appends what Values returns.
func (e *Entry) AppendValues(values []string, field Field) []string {
	if field == FieldChanged {
		return append(values, e.Changed...)
	}
	if value := e.Value(field); value != "" {
		return append(values, value)
	}
	return values
}

// HasToken reports whether the entry has the token, as a search index has it.
func (e *Entry) HasToken(token ValueToken) bool {
	return slices.ContainsFunc(e.Encrypted, func(part Encrypted) bool { return slices.Contains(part.IndexTokens(), token) })
}

// All returns the conjunction of the conditions. It ignores nil conditions, and
// returns nil if there is no other.
func All(exprs ...Expr) Expr {
	var parts And
	for _, e := range exprs {
		if e != nil {
			parts = append(parts, e)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return parts
}
