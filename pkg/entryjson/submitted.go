package entryjson

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Submitted is an entry as a client sent it, before defaults are set.
type Submitted struct {
	audit.Entry
	// HasTimestamp reports whether the client sent a timestamp.
	HasTimestamp bool
	// HasIPAddress and HasUserAgent report whether the client sent ip_address and
	// user_agent. A null ("unknown") counts as sent, so that it gets no default.
	HasIPAddress, HasUserAgent bool
	// Unreadable says that the text is no JSON object as a whole, so that members are missing.
	Unreadable bool
	// ClaimedTenant is the body's tenant_id. It must equal the authorized tenant.
	ClaimedTenant string
	// Exported is nil unless the entry has states, and members of an entry that a service answered.
	Exported *Exported
}

// clientFields are the fields that a client can send.
var clientFields = strings.Join([]string{
	nameID, nameTenant, nameUserID, nameSessionID, nameRequestID, nameAction, nameResourceType, nameResourceID, nameTimestamp, nameIPAddress,
	nameUserAgent, nameBefore, nameAfter, nameMetadata, nameSeverity, nameMessage, nameIdempotencyKey,
}, ", ")

// ServiceFields returns the members that only the service sets. A client's value is ignored, so
// that a client can send an entry as it got it. Submitted.ChangedPaths has one exception.
func ServiceFields() []string { return slices.Clone(serviceFields) }

var serviceFields = []string{
	nameReceivedAt, nameExpiresAt, nameChanged, nameSubmittedBy, nameRemoved, "status", nameMasked, nameRevealed, nameErased, nameUnreadable,
	nameEncrypted, nameRestoredUntil, "deletable_at",
}

// ParseSubmitted parses one entry that a client sent. The error lists the faults, up to
// the first syntax error. Names that are given twice and text that is not Unicode are no syntax errors. ParseSubmitted does not call audit.Entry.Validate. The result
// has no reference to text. Beside an error it has the members that could be read. Unreadable
// says that text is not a JSON object as a whole.
func ParseSubmitted(text []byte) (Submitted, *audit.ValidationError) {
	text = bytes.TrimSpace(text)
	p := submission{large: len(text) > audit.MaxEntryBytes}
	if p.large && !mayBeAnswered(text) {
		return tooLarge()
	}
	err := readObject(text, p.member)
	if syntactic := new(jsontext.SyntacticError); errors.As(err, &syntactic) {
		if faults := spellingFaults(text); len(faults) > 0 {
			p = submission{faults: faults, large: p.large}
			err = readObject(text, p.member, lenient...)
		}
	}
	if p.large && !p.fits(len(text)) {
		return tooLarge()
	}
	if err != nil {
		p.entry.Unreadable = true
		p.add(syntaxFault(text, err))
	}
	if len(p.faults) > 0 {
		return p.entry, &audit.ValidationError{Fields: p.faults}
	}
	if len(p.entry.Before)+len(p.entry.After) > 0 {
		p.entry.Exported = p.exported
	}
	return p.entry, nil
}

func tooLarge() (Submitted, *audit.ValidationError) {
	return Submitted{Unreadable: true}, audit.Invalid("", "too_large", "must be at most %d bytes of JSON", audit.MaxEntryBytes)
}

// submission collects the fields and faults of one text.
type submission struct {
	entry    Submitted
	exported *Exported
	large    bool // the text has more than audit.MaxEntryBytes
	answered int  // the size of the members that a service can have added, in bytes; only of a large text
	faults   []audit.FieldError
	listed   bool // a fault lists the fields
}

func (p *submission) fault(name, code, format string, args ...any) {
	p.add(audit.FieldError{Pointer: memberPointer(name), Code: code, Detail: fmt.Sprintf(format, args...)})
}

func (p *submission) add(fault audit.FieldError) {
	if len(p.faults) < audit.MaxFaults {
		fault.Pointer = audit.BoundedPointer(fault.Pointer)
		p.faults = append(p.faults, fault)
	}
}

func (p *submission) member(r *reader, name string, raw jsontext.Value) {
	e := &p.entry
	if p.large {
		p.count(name, raw)
	}
	switch name {
	case nameID:
		p.parse(r, name, raw, func(s string) (err error) { e.ID, err = audit.ParseEntryID(s); return err })
	case nameTenant:
		p.text(r, name, raw, &e.ClaimedTenant)
	case nameUserID:
		p.text(r, name, raw, &e.UserID)
	case nameSessionID:
		p.text(r, name, raw, &e.SessionID)
	case nameRequestID:
		p.text(r, name, raw, &e.RequestID)
	case nameAction:
		p.text(r, name, raw, &e.Action)
	case nameResourceType:
		p.text(r, name, raw, &e.ResourceType)
	case nameResourceID:
		p.text(r, name, raw, &e.ResourceID)
	case nameTimestamp:
		p.parse(r, name, raw, p.timestamp)
	case nameIPAddress:
		e.HasIPAddress = true
		p.parse(r, name, raw, p.address)
	case nameUserAgent:
		e.HasUserAgent = true
		p.text(r, name, raw, &e.UserAgent)
	case nameBefore:
		p.object(name, raw, &e.Before)
	case nameAfter:
		p.object(name, raw, &e.After)
	case nameMetadata:
		p.object(name, raw, &e.Metadata)
	case nameSeverity:
		p.parse(r, name, raw, func(s string) (err error) { e.Severity, err = audit.ParseSeverity(s); return err })
	case nameMessage:
		p.text(r, name, raw, &e.Message)
	case nameIdempotencyKey:
		p.text(r, name, raw, &e.IdempotencyKey)
	default:
		if slices.Contains(serviceFields, name) {
			p.serviceField(name, raw)
			return
		}
		detail := "is not a field of an entry; put custom data into metadata"
		if !p.listed { // once is enough, and keeps answers short
			p.listed, detail = true, detail+". The fields are "+clientFields
		}
		p.fault(name, "unknown_field", "%s", detail)
	}
}

// text reads a string; null stands for absent.
func (p *submission) text(r *reader, name string, raw jsontext.Value, to *string) {
	switch raw.Kind() {
	case jsontext.KindString:
		*to = r.text(raw)
	case jsontext.KindNull:
	default:
		p.fault(name, "wrong_type", "must be a string")
	}
}

// parse reads a string with its own format. null means absent.
func (p *submission) parse(r *reader, name string, raw jsontext.Value, parse func(string) error) {
	var text string
	faults := len(p.faults)
	p.text(r, name, raw, &text)
	if raw.Kind() == jsontext.KindNull || len(p.faults) > faults {
		return
	}
	if err := parse(text); err != nil {
		var invalid *audit.ValidationError
		if errors.As(err, &invalid) {
			p.faults = append(p.faults, invalid.Fields...)
			return
		}
		p.fault(name, "invalid_"+name, "%s", err)
	}
}

func (p *submission) timestamp(s string) error {
	t, err := audit.ParseTime(s)
	if err != nil {
		return err
	}
	p.entry.Timestamp, p.entry.HasTimestamp = t.Truncate(time.Millisecond), true
	return nil
}

var errAddress = errors.New("must be an IPv4 or IPv6 address without a zone")

func (p *submission) address(s string) error {
	if s == "" {
		return nil
	}
	address, err := netip.ParseAddr(s)
	if err != nil || address.Zone() != "" {
		return errAddress
	}
	p.entry.IPAddress = address
	return nil
}

// object copies the text of an object. null means absent.
func (p *submission) object(name string, raw jsontext.Value, to *audit.Object) {
	switch raw.Kind() {
	case jsontext.KindBeginObject:
		text, levels := compact(make([]byte, 0, len(raw)), raw)
		if levels > audit.MaxDepth-1 { // the entry itself is the first level
			p.add(tooDeep(memberPointer(name)))
			return
		}
		*to = text
	case jsontext.KindNull:
	default:
		p.fault(name, "wrong_type", "must be a JSON object")
	}
}

func memberPointer(name string) string { return string(jsontext.Pointer("").AppendToken(name)) }

// tooDeep is the fault of a member with too many levels.
func tooDeep(pointer string) audit.FieldError {
	return audit.FieldError{
		Pointer: pointer, Code: "too_deep",
		Detail: fmt.Sprintf("must not be nested deeper than %d levels, the entry included", audit.MaxDepth),
	}
}

// syntaxFault describes why text is not JSON, or why its spelling cannot be preserved.
func syntaxFault(text []byte, err error) audit.FieldError {
	var syntactic *jsontext.SyntacticError
	if errors.Is(err, errNotObject) || errors.Is(err, errTrailing) || !errors.As(err, &syntactic) {
		detail := "must be one complete JSON object"
		if errors.Is(err, errNotObject) || errors.Is(err, errTrailing) {
			detail = err.Error()
		}
		return audit.FieldError{Code: "invalid_json", Detail: detail}
	}
	if names := strings.Split(string(syntactic.JSONPointer), "/"); len(names) > audit.MaxDepth { // whatever the fault is there
		return tooDeep("/" + names[1])
	}
	fault := audit.FieldError{
		Pointer: string(syntactic.JSONPointer), Code: "invalid_json",
		Detail: "must be valid JSON, at byte " + strconv.FormatInt(syntactic.ByteOffset, 10),
	}
	at := text[min(max(int(syntactic.ByteOffset), 0), len(text)):]
	switch {
	case errors.Is(syntactic.Err, jsontext.ErrDuplicateName):
		fault.Code, fault.Detail = "duplicate_key", "must not be given twice in the same object"
	case len(at) > 2 && at[0] == '\\' && at[1] == 'u' && strings.IndexByte("dD", at[2]) >= 0:
		fault.Code = "lone_surrogate"
		fault.Detail = "must not hold half of a surrogate pair, at byte " + strconv.FormatInt(syntactic.ByteOffset, 10)
	case !utf8.Valid(text):
		fault.Code, fault.Detail = "invalid_utf8", "must be valid UTF-8, at byte "+strconv.FormatInt(syntactic.ByteOffset, 10)
	}
	return fault
}

// DigestOf returns the digest of the fields that the client sent. Objects count as JSON: neither
// the order of members nor white space matters. Call it after setting
// an idempotency key from a header and before setting any default.
func (s *Submitted) DigestOf() audit.Digest {
	c := canonicals.Get().(*canonical)
	defer c.free()
	c.out = c.out[:0]
	text := func(tag byte, value string) {
		if value != "" {
			c.out = append(appendPart(c.out, tag, len(value)), value...)
		}
	}
	raw := func(tag byte, value []byte) { c.out = append(appendPart(c.out, tag, len(value)), value...) }
	object := func(tag byte, o audit.Object) {
		start := len(c.out)
		c.out = appendPart(c.out, tag, 0)
		c.append(o)
		appendPart(c.out[:start], tag, len(c.out)-start-partHeader)
	}
	text(1, s.UserID)
	text(2, s.SessionID)
	text(3, s.RequestID)
	text(4, s.Action)
	text(5, s.ResourceType)
	text(6, s.ResourceID)
	c.out = binary.BigEndian.AppendUint64(appendPart(c.out, 7, 8), uint64(s.Timestamp.UnixMilli()))
	if s.IPAddress.IsValid() {
		raw(8, s.IPAddress.AsSlice())
	}
	text(9, s.UserAgent)
	object(10, s.Before)
	object(11, s.After)
	object(12, s.Metadata)
	c.out = append(appendPart(c.out, 13, 1), byte(s.Severity))
	text(14, s.Message)
	text(15, s.IdempotencyKey)
	return audit.Digest{Sum: sha256.Sum256(c.out)}
}

// partHeader is the size of what appendPart appends, in bytes.
const partHeader = 1 + 8

// appendPart appends the field and the length of a part of a digest, so that the parts
// of different entries differ.
func appendPart(parts []byte, tag byte, length int) []byte {
	return binary.BigEndian.AppendUint64(append(parts, tag), uint64(length))
}
