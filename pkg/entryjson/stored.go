package entryjson

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// AppendPublic appends the entry as clients get it: the fields that are set, without the digest.
// Of encrypted values it has the places. expiresAt is the entry's end by the tenant's current
// settings; zero: never.
func AppendPublic(dst []byte, e *audit.Entry, expiresAt time.Time) []byte {
	return AppendRevealed(dst, e, PlacesOf(e), expiresAt)
}

// PlacesOf returns the places of an entry whose encrypted values were not asked for.
func PlacesOf(e *audit.Entry) Places { return Places{Masked: maskedPlaces(e.Encrypted)} }

// Places are the JSON pointers of an entry's encrypted values.
type Places struct {
	Masked     []string // a mask stands there
	Revealed   []string // the value itself stands there
	Erased     []string // a mask stands there: the key was destroyed
	Unreadable []string // a mask stands there: what was encrypted was altered
}

// AppendRevealed is AppendPublic of an entry whose encrypted values were asked for.
func AppendRevealed(dst []byte, e *audit.Entry, p Places, expiresAt time.Time) []byte {
	dst = appendFields(dst, e)
	dst = appendTexts(appendTexts(dst, nameMasked, p.Masked), nameRevealed, p.Revealed)
	dst = appendTexts(appendTexts(dst, nameErased, p.Erased), nameUnreadable, p.Unreadable)
	return append(appendTime(dst, nameExpiresAt, expiresAt), '}')
}

// AppendStored appends the entry as queues and stores have it: the fields that are set
// and the digest.
func AppendStored(dst []byte, e *audit.Entry) []byte {
	dst = append(appendEncrypted(appendFields(dst, e), e.Encrypted), `,"`+nameDigest+`":"`...)
	dst = hex.AppendEncode(dst, e.Digest.AppendTo(nil))
	return append(dst, `"}`...)
}

// AppendDocument appends the entry without its id, tenant, timestamp and digest. A store uses
// it that has these beside the text. ParseStored parses it.
func AppendDocument(dst []byte, e *audit.Entry) []byte {
	begin := len(dst)
	dst = appendEncrypted(appendEvent(appendSubject(dst, e), e), e.Encrypted)
	dst[begin] = '{' // instead of the first comma
	return append(dst, '}')
}

// appendFields appends the object without its closing brace.
func appendFields(dst []byte, e *audit.Entry) []byte {
	dst = append(dst, `{"`+nameID+`":"`...)
	dst, _ = e.ID.AppendText(dst) // never fails
	dst = append(dst, '"')
	dst = appendText(dst, nameTenant, string(e.Tenant))
	return appendEvent(appendTime(appendSubject(dst, e), nameTimestamp, e.Timestamp), e)
}

// appendSubject appends who did what to which resource, after a comma. An entry always has an action.
func appendSubject(dst []byte, e *audit.Entry) []byte {
	dst = appendText(dst, nameUserID, e.UserID)
	dst = appendText(dst, nameSessionID, e.SessionID)
	dst = appendText(dst, nameRequestID, e.RequestID)
	dst = appendText(dst, nameAction, e.Action)
	dst = appendText(dst, nameResourceType, e.ResourceType)
	return appendText(dst, nameResourceID, e.ResourceID)
}

// appendEvent appends the fields that follow the timestamp.
func appendEvent(dst []byte, e *audit.Entry) []byte {
	if e.IPAddress.IsValid() {
		dst = append(appendName(dst, nameIPAddress), '"')
		dst = append(e.IPAddress.AppendTo(dst), '"')
	}
	dst = appendText(dst, nameUserAgent, e.UserAgent)
	dst = appendObject(dst, nameBefore, e.Before)
	dst = appendObject(dst, nameAfter, e.After)
	dst = appendObject(dst, nameMetadata, e.Metadata)
	dst = appendText(dst, nameSeverity, e.Severity.String())
	dst = appendText(dst, nameMessage, e.Message)
	dst = appendText(dst, nameIdempotencyKey, e.IdempotencyKey)
	dst = appendTime(dst, nameReceivedAt, e.ReceivedAt)
	dst = appendText(dst, nameSubmittedBy, e.SubmittedBy)
	dst = appendTexts(appendTexts(dst, nameChanged, e.Changed), nameRemoved, e.Removed)
	return appendTime(dst, nameRestoredUntil, e.RestoredUntil)
}

func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(appendName(dst, name), value)
}

func appendObject(dst []byte, name string, value audit.Object) []byte {
	if len(value) == 0 {
		return dst
	}
	return append(appendName(dst, name), value...)
}

func appendTexts(dst []byte, name string, texts []string) []byte {
	if len(texts) == 0 {
		return dst
	}
	return AppendTexts(appendName(dst, name), texts)
}

// AppendTexts appends a JSON array of texts, which must be valid UTF-8.
func AppendTexts(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, text)
	}
	return append(dst, ']')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

// appendString appends text as a JSON string. It is optimized for text without escapes.
func appendString(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			dst, _ = jsontext.AppendQuote(dst, text) // never fails: entries have valid UTF-8
			return dst
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}

// timeLayout always has three digits of milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

func appendTime(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	dst = append(appendName(dst, name), '"')
	dst = t.UTC().AppendFormat(dst, timeLayout)
	return append(dst, '"')
}

// FormatTime returns t in the format of an entry's JSON: RFC 3339, UTC, milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseStored parses the text of AppendStored. It also parses the text of AppendPublic,
// with a zero digest, and that of AppendDocument, without what it lacks. It ignores expires_at and unknown fields, so that it can parse the text
// of an earlier or later version. The result has no reference to text.
func ParseStored(text []byte) (audit.Entry, error) {
	var e audit.Entry
	var fault error
	err := readObject(text, func(r *reader, name string, raw jsontext.Value) {
		if err := storedMember(&e, r, name, raw); err != nil && fault == nil {
			fault = fmt.Errorf("field %s: %w", name, err)
		}
	})
	if err == nil {
		err = fault
	}
	if err != nil {
		return audit.Entry{}, fmt.Errorf("parse stored entry %s: %w", e.ID, withoutContent(err))
	}
	return e, nil
}

// withoutContent removes the entry's text from the error.
func withoutContent(err error) error {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return fmt.Errorf("not valid JSON at byte %d", syntactic.ByteOffset)
	}
	return err
}

var errStored = errors.New("has another type or form than was stored")

func storedMember(e *audit.Entry, r *reader, name string, raw jsontext.Value) error {
	switch name {
	case nameBefore:
		return storedObject(raw, &e.Before)
	case nameAfter:
		return storedObject(raw, &e.After)
	case nameMetadata:
		return storedObject(raw, &e.Metadata)
	case nameChanged:
		return storedTexts(raw, &e.Changed)
	case nameRemoved:
		return storedTexts(raw, &e.Removed)
	case nameEncrypted:
		return storedEncrypted(raw, &e.Encrypted)
	}
	if _, known := fieldNames[name]; !known {
		return nil
	}
	if raw.Kind() != jsontext.KindString {
		return errStored
	}
	return storedText(e, name, r.text(raw))
}

func storedText(e *audit.Entry, name, text string) (err error) {
	switch name {
	case nameID:
		e.ID, err = audit.ParseEntryID(text)
	case nameTenant:
		e.Tenant = audit.TenantID(text)
	case nameUserID:
		e.UserID = text
	case nameSessionID:
		e.SessionID = text
	case nameRequestID:
		e.RequestID = text
	case nameAction:
		e.Action = text
	case nameResourceType:
		e.ResourceType = text
	case nameResourceID:
		e.ResourceID = text
	case nameTimestamp:
		e.Timestamp, err = storedTime(text)
	case nameIPAddress:
		e.IPAddress, err = netip.ParseAddr(text)
	case nameUserAgent:
		e.UserAgent = text
	case nameSeverity:
		e.Severity, err = audit.ParseSeverity(text)
	case nameMessage:
		e.Message = text
	case nameIdempotencyKey:
		e.IdempotencyKey = text
	case nameReceivedAt:
		e.ReceivedAt, err = storedTime(text)
	case nameSubmittedBy:
		e.SubmittedBy = text
	case nameRestoredUntil:
		e.RestoredUntil, err = storedTime(text)
	case nameDigest:
		e.Digest, err = storedDigest(text)
	}
	if err != nil {
		return errStored
	}
	return nil
}

func storedDigest(text string) (audit.Digest, error) {
	b, err := hex.DecodeString(text)
	d, ok := audit.ParseDigest(b)
	if err == nil && !ok {
		err = errStored
	}
	return d, err
}

func storedTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC(), err
}

func storedObject(raw jsontext.Value, to *audit.Object) error {
	if raw.Kind() != jsontext.KindBeginObject {
		return errStored
	}
	*to, _ = compact(make([]byte, 0, len(raw)), raw)
	return nil
}

func storedTexts(raw jsontext.Value, to *[]string) error {
	if raw.Kind() != jsontext.KindBeginArray {
		return errStored
	}
	var scratch []byte
	text, _ := compact(nil, raw)
	return eachElement(text, func(value []byte) (err error) {
		if len(value) == 0 || value[0] != '"' {
			return errStored
		}
		if scratch, err = appendUnquoted(scratch[:0], value); err != nil {
			return errStored
		}
		*to = append(*to, string(scratch))
		return nil
	})
}
