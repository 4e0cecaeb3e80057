// Package audit is the domain of Ocelot: entries, tenants, filters, pages and the
// errors that all other packages use. It imports the standard library only.
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
	MaxEntryBytes = 256 << 10 // one entry as JSON
	// MaxObjectBytes is the size of the objects of an entry together, once its secrets are removed and its
	// sensitive fields encrypted. What stands in the place of a short value is longer.
	MaxObjectBytes     = MaxEntryBytes * 3 / 2
	MaxDepth           = 64 // levels of nesting; the entry itself is the first
	MaxUserID          = 256
	MaxSessionID       = 256
	MaxRequestID       = 256
	MaxAction          = 128
	MaxResourceType    = 128
	MaxResourceID      = 512
	MaxUserAgent       = 1024
	MaxMessage         = 8 << 10
	MaxIdempotencyKey  = 256
	MaxFutureTimestamp = 24 * time.Hour // the largest lead of a timestamp over the service's clock
	MaxClockError      = 24 * time.Hour // how far a clock of the service may be off
	// MaxLead is how far the timestamp of a stored entry can be ahead of the right time.
	MaxLead = MaxFutureTimestamp + MaxClockError
)

// The limits of a bulk, one request with many entries.
const (
	MaxBulkEntries = 1000 // bounds the response, which has an item for each entry
	// MaxBulkWire is the size of a bulk as sent, in bytes. A Lambda's event has
	// at most 6 MB, and base64 adds a third to a compressed body.
	MaxBulkWire = 4 << 20
	// MaxBulkUnpacked is the size of a bulk after decompression, in bytes. It
	// bounds the memory that a small compressed body can take.
	MaxBulkUnpacked = 16 << 20
)

// Standard actions. Any other action that matches ActionPattern is allowed too.
const (
	ActionCreate = "CREATE"
	ActionUpdate = "UPDATE"
	ActionDelete = "DELETE"
	ActionView   = "VIEW"
)

// Object is the text of one JSON object without insignificant white space. Strings
// and numbers have the client's spelling. An empty Object means that there is none.
type Object []byte

// MarshalJSON returns the text, or null if the Object is empty.
func (o Object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("null"), nil
	}
	return o, nil
}

// Digest stands for the fields that a client sent, without secrets, before values are encrypted and
// defaults are set. Two entries with the same identity and equal digests are a retry. With different
// digests they are a conflict, unless their kinds differ: see protect.TenantKeys.
type Digest struct {
	Kind DigestKind
	Sum  [32]byte
}

// DigestKind says how a digest is made.
type DigestKind uint8

// The kinds of digests.
const (
	DigestPlain DigestKind = iota // SHA-256 of the content
	// DigestKeyed is an HMAC of the SHA-256, under a key of the tenant, so that nobody can test a guess
	// of an encrypted value against it.
	DigestKeyed
)

// AppendTo appends the kind and the sum.
func (d Digest) AppendTo(dst []byte) []byte { return append(append(dst, byte(d.Kind)), d.Sum[:]...) }

// ParseDigest parses what AppendTo appended. It returns false for anything else. The sum alone is a
// plain digest: earlier versions stored it so.
func ParseDigest(b []byte) (d Digest, ok bool) {
	if len(b) == len(d.Sum) {
		return Digest{Sum: [32]byte(b)}, true
	}
	if len(b) != 1+len(d.Sum) || b[0] > byte(DigestKeyed) {
		return Digest{}, false
	}
	d.Kind = DigestKind(b[0])
	copy(d.Sum[:], b[1:])
	return d, true
}

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
	Timestamp      time.Time  // UTC, whole milliseconds, the same as in ID
	IPAddress      netip.Addr // the zero Addr: unknown; never has a zone
	UserAgent      string
	Before         Object
	After          Object
	Metadata       Object
	Severity       Severity
	Message        string
	IdempotencyKey string
	ReceivedAt     time.Time // UTC, whole milliseconds
	// SubmittedBy is the credential that the entry came with: SubmittedByService, or what
	// access.Principal.SubmittedBy returns. UserID is who acted, as the client says.
	SubmittedBy string
	Changed     []string // dotted paths at which Before and After differed as they were sent, sorted
	// Removed are the JSON pointers of the places from which a secret was removed, in the order of the
	// entry. If there are very many, it has only the top-level fields that they are in.
	Removed []string
	// RestoredUntil is set if the entry was brought back from the archive: when it leaves again. It has
	// whole milliseconds.
	RestoredUntil time.Time
	// Encrypted are the values in whose places masks stand.
	Encrypted []Encrypted
	Digest    Digest // never leaves the service
	// QueueMessage is the ingest message that brings the entry to its store. Only its Tag is
	// stored, and it is not read back: it is zero everywhere else.
	QueueMessage MessageID
}

// SubmittedByService is the SubmittedBy of the service's own entries.
const SubmittedByService = "service"

// Status is the last step that an entry has completed.
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

// ParseSeverity parses a severity's name in upper case.
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

// UnmarshalText parses a severity's name.
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

// isAction reports whether s matches ActionPattern. It does not use package regexp,
// because compiling the pattern would slow down the start of every function.
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

// Validate returns every fault in the fields that a client sets, or nil if there is
// none. It does not check Before, After and Metadata: package entryjson checks them
// when it parses an entry. now is the service's time.
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

// Rejection says why a step refused one entry of a batch.
type Rejection struct {
	Index  int    // position in the batch
	Code   string // such as "identity_conflict"
	Reason string // one sentence for an administrator, without entry content
	// StoredDigest is that of the stored entry, if the code is CodeIdentityConflict.
	StoredDigest Digest
}

// The steps that can put an entry into quarantine.
const (
	StepPersist = "persist"
	StepIndex   = "index"
)

// Codes of a Rejection that more than one step uses.
const (
	CodeIdentityConflict = "identity_conflict"
	CodeUnstorable       = "unstorable"
)
