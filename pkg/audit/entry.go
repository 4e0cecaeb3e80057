// Package audit is the domain of Ocelot: entries, tenants, filters, pages and
// the errors that everything else speaks of. It imports the standard library only.
package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The limits of an entry. Lengths of text are counted in bytes of UTF-8.
const (
	MaxEntryBytes      = 256 << 10 // one entry as JSON
	MaxDepth           = 64        // levels of nesting, the entry itself being the first
	MaxUserID          = 256
	MaxSessionID       = 256
	MaxRequestID       = 256
	MaxAction          = 128
	MaxResourceType    = 128
	MaxResourceID      = 512
	MaxUserAgent       = 1024
	MaxMessage         = 8 << 10
	MaxIdempotencyKey  = 256
	MaxFutureTimestamp = 24 * time.Hour // how far ahead of the service's clock a timestamp may be
)

// The limits of a bulk, one request with many entries.
const (
	MaxBulkEntries = 1000 // entries: bounds the answer, which has an item for each
	// MaxBulkWire is the size of a bulk as sent, in bytes. A Lambda's event has
	// at most 6 MB, and base64 adds a third to a compressed body.
	MaxBulkWire = 4 << 20
	// MaxBulkUnpacked is the size of a bulk after decompression, in bytes. It
	// bounds the memory that a small compressed body can take.
	MaxBulkUnpacked = 16 << 20
)

// Standard actions. Any other that matches the action pattern is allowed as well.
const (
	ActionCreate = "CREATE"
	ActionUpdate = "UPDATE"
	ActionDelete = "DELETE"
	ActionView   = "VIEW"
)

// Object is the text of one JSON object without insignificant white space, its
// strings and numbers spelled as the client spelled them. An empty Object is absent.
type Object []byte

// MarshalJSON returns the text, or null where the object is absent.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("null"), nil
	}
	return o, nil
}

// Digest is a SHA-256 of what a client sent of an entry, before any default was
// filled in. Two entries of one identity are a retry when their digests are
// equal and a conflict when they are not.
type Digest [32]byte

// Entry is one record of who did what, to which resource, when, from where and what changed.
type Entry struct {
	ID             EntryID
	Tenant         TenantID
	UserID         string
	SessionID      string
	RequestID      string
	Action         string
	ResourceType   string
	ResourceID     string
	Timestamp      time.Time  // UTC, whole milliseconds; its Unix milliseconds are those of ID
	IPAddress      netip.Addr // the zero Addr where unknown; never has a zone
	UserAgent      string
	Before         Object
	After          Object
	Metadata       Object
	Severity       Severity
	Message        string
	IdempotencyKey string
	ReceivedAt     time.Time // UTC, whole milliseconds
	ExpiresAt      time.Time // zero: kept for ever
	Changed        []string  // dotted paths at which Before and After differ, sorted
	Digest         Digest    // never leaves the service
}

// Status is how far an entry has come.
type Status string

// The statuses of an entry, in their order.
const (
	StatusAccepted Status = "accepted"
	StatusStored   Status = "stored"
	StatusIndexed  Status = "indexed"
)

// Severity ranks an entry. The zero value is SeverityInfo, the default.
type Severity uint8

// The severities, in rising order.
const (
	SeverityInfo Severity = iota
	SeverityWarning
	SeverityError
	SeverityCritical
)

var severityNames = [...]string{"INFO", "WARNING", "ERROR", "CRITICAL"}

// Severities returns every severity in rising order.
func Severities() []Severity {
	return []Severity{SeverityInfo, SeverityWarning, SeverityError, SeverityCritical}
}

// ParseSeverity reads a severity's name, which is in upper case.
func ParseSeverity(s string) (Severity, error) {
	if i := slices.Index(severityNames[:], s); i >= 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("must be one of %s", strings.Join(severityNames[:], ", "))
}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText returns the severity's name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a severity's name.
func (s *Severity) UnmarshalText(text []byte) error {
	parsed, err := ParseSeverity(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// ActionPattern is the form of an action.
const ActionPattern = `^[A-Za-z][A-Za-z0-9_.:/-]{0,127}$`

// isAction reports whether s matches ActionPattern. It is asked for every entry,
// and a function's start would have to wait for the pattern to be compiled.
func isAction(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (i == 0 || !isDigit(s[i]) && strings.IndexByte("_.:/-", s[i]) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= MaxAction
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// Validate returns every fault of the fields that a client chose, nil where
// there is none. It does not look into Before, After and Metadata: those are
// checked where they are read (package entryjson). now is the service's clock.
func (e *Entry) Validate(now time.Time) []FieldError {
	var faults []FieldError
	add := func(pointer, code, format string, args ...any) {
		faults = append(faults, FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	text := func(pointer, value string, limit int, required bool) {
		switch {
		case value == "" && required:
			add(pointer, "required", "is required")
		case len(value) > limit:
			add(pointer, "too_long", "must be at most %d bytes", limit)
		case !utf8.ValidString(value):
			add(pointer, "invalid_utf8", "must be valid UTF-8")
		}
	}
	text("/user_id", e.UserID, MaxUserID, true)
	text("/session_id", e.SessionID, MaxSessionID, false)
	text("/request_id", e.RequestID, MaxRequestID, false)
	text("/resource_type", e.ResourceType, MaxResourceType, true)
	text("/resource_id", e.ResourceID, MaxResourceID, false)
	text("/user_agent", e.UserAgent, MaxUserAgent, false)
	text("/message", e.Message, MaxMessage, false)
	text("/idempotency_key", e.IdempotencyKey, MaxIdempotencyKey, false)
	switch {
	case e.Action == "":
		add("/action", "required", "is required")
	case !isAction(e.Action):
		add("/action", "invalid_action", "must match %s", ActionPattern)
	}
	switch {
	case e.Timestamp.After(now.Add(MaxFutureTimestamp)):
		add("/timestamp", "in_future", "must not be more than 24 hours ahead of the service's clock")
	case e.Timestamp.UnixMilli() < 0:
		add("/timestamp", "too_old", "must not be before 1970-01-01T00:00:00Z")
	}
	if e.IPAddress.Zone() != "" {
		add("/ip_address", "invalid_ip", "must be an IPv4 or IPv6 address without a zone")
	}
	return faults
}

// Rejection is one entry of a batch that a step could not take, and why.
type Rejection struct {
	Index  int    // position in the batch
	Code   string // such as "identity_conflict"
	Reason string // one sentence for an administrator, without entry content
}

// The steps that can hold an entry in quarantine.
const (
	StepPersist = "persist"
	StepIndex   = "index"
)

// Rejection codes that more than one step knows.
const (
	CodeIdentityConflict = "identity_conflict"
	CodeUnstorable       = "unstorable"
)
