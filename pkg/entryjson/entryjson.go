// Package entryjson reads and writes entries as JSON, for clients, queues and stores.
// It preserves the client's spelling of objects and numbers. It refuses text that it
// cannot preserve: invalid UTF-8, lone surrogates and duplicate keys.
package entryjson

import (
	"bytes"
	"errors"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// The names of an entry's fields in JSON text.
const (
	nameID             = "id"
	nameTenant         = "tenant_id"
	nameUserID         = "user_id"
	nameSessionID      = "session_id"
	nameRequestID      = "request_id"
	nameAction         = "action"
	nameResourceType   = "resource_type"
	nameResourceID     = "resource_id"
	nameTimestamp      = "timestamp"
	nameIPAddress      = "ip_address"
	nameUserAgent      = "user_agent"
	nameBefore         = "before_state"
	nameAfter          = "after_state"
	nameMetadata       = "metadata"
	nameSeverity       = "severity"
	nameMessage        = "message"
	nameIdempotencyKey = "idempotency_key"
	nameReceivedAt     = "received_at"
	nameExpiresAt      = "expires_at" // public form only
	nameSubmittedBy    = "submitted_by"
	nameChanged        = "changed"
	nameRemoved        = "removed"
	nameRestoredUntil  = "restored_until"
	nameMasked         = "masked" // public form only, as the next three
	nameRevealed       = "revealed"
	nameErased         = "erased"
	nameUnreadable     = "unreadable"
	nameEncrypted      = "encrypted" // stored form only
	nameDigest         = "digest"    // stored form only
)

// reader reads the members of one JSON object.
type reader struct {
	source  bytes.Buffer
	decoder *jsontext.Decoder
	scratch []byte
}

// readers are reused, because allocating a decoder's buffers costs more than parsing
// a small entry.
var readers = sync.Pool{New: func() any { return &reader{decoder: new(jsontext.Decoder)} }}

// readObject calls member for each member of the JSON object in text, in the order of
// the text. raw is valid only during the call. readObject returns syntax errors.
// member records the faults that it finds itself.
func readObject(text []byte, member func(r *reader, name string, raw jsontext.Value), options ...jsontext.Options) error {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.source = *bytes.NewBuffer(text)
	r.decoder.Reset(&r.source, options...)
	defer func() { r.source = bytes.Buffer{} }()
	switch r.decoder.PeekKind() {
	case jsontext.KindBeginObject:
	case jsontext.KindBeginArray: // whatever follows
		return errNotObject
	default:
		if err := r.decoder.SkipValue(); err != nil {
			return err
		}
		return errNotObject
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for r.decoder.PeekKind() == jsontext.KindString {
		rawName, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		name := r.text(rawName)
		raw, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		member(r, name, raw)
	}
	if _, err := r.decoder.ReadToken(); err != nil { // the closing brace
		return err
	}
	return r.end()
}

var (
	errNotObject = errors.New("must be a JSON object")
	errTrailing  = errors.New("must be one JSON object with nothing after it")
)

// end checks that nothing but white space follows.
func (r *reader) end() error {
	rest := bytes.TrimLeft(r.decoder.UnreadBuffer(), " \t\r\n")
	if len(rest) > 0 || r.source.Len() > 0 {
		return errTrailing
	}
	return nil
}

// fieldNames has the known names, so that reading one allocates nothing.
var fieldNames = func() map[string]string {
	names := map[string]string{}
	for _, n := range []string{
		nameID, nameTenant, nameUserID, nameSessionID, nameRequestID, nameAction, nameResourceType, nameResourceID,
		nameTimestamp, nameIPAddress, nameUserAgent, nameBefore, nameAfter, nameMetadata, nameSeverity, nameMessage,
		nameIdempotencyKey, nameReceivedAt, nameExpiresAt, nameSubmittedBy, nameChanged, nameRemoved, nameRestoredUntil, nameEncrypted, nameDigest,
	} {
		names[n] = n
	}
	return names
}()

// text returns the content of a raw string.
func (r *reader) text(raw jsontext.Value) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], raw) // valid: the decoder checked it, or the fault is known
		inner = r.scratch
	}
	if name, known := fieldNames[string(inner)]; known {
		return name
	}
	return string(inner)
}
