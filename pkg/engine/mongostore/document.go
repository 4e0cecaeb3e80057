package mongostore

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of a document's fields. An entry has the names of the API. Times are
// BSON dates, states and metadata are BSON documents.
const (
	fieldKey            = "_id" // an entryKey, or keyOf the tenant and the id
	fieldID             = "id"
	fieldTenant         = "tenant_id"
	fieldUserID         = "user_id"
	fieldSessionID      = "session_id"
	fieldRequestID      = "request_id"
	fieldAction         = "action"
	fieldResourceType   = "resource_type"
	fieldResourceID     = "resource_id"
	fieldTimestamp      = "timestamp"
	fieldIPAddress      = "ip_address"
	fieldUserAgent      = "user_agent"
	fieldBefore         = "before_state"
	fieldAfter          = "after_state"
	fieldMetadata       = "metadata"
	fieldSeverity       = "severity"
	fieldMessage        = "message"
	fieldIdempotencyKey = "idempotency_key"
	fieldReceivedAt     = "received_at"
	fieldSubmittedBy    = "submitted_by"
	fieldExpiresAt      = "expires_at"   // when MongoDB removes a document that is not an entry
	fieldDeletableAt    = "deletable_at" // when MongoDB removes the entry; an entry is stored without it
	fieldChanged        = "changed"
	fieldRemoved        = "removed"
	fieldRestoredUntil  = "restored_until" // absent: the entry was not restored
	fieldEncrypted      = "encrypted"
	fieldDigest         = "digest"
	fieldQueueMessage   = "queue_message" // audit.MessageID.Tag of the ingest message
	fieldExact          = "exact"         // the text of the objects that BSON cannot represent exactly
)

// keyOf returns the _id of a tenant's document that is not an entry, such as a job. A
// tenant id has no slash, so that no two tenants share a key.
func keyOf(tenant audit.TenantID, id string) string { return string(tenant) + "/" + id }

// entryDocument returns an entry as it is stored.
func entryDocument(e *audit.Entry) (bson.Raw, error) {
	start, doc := bsoncore.AppendDocumentStart(make([]byte, 0, 1024+len(e.Message)+2*(len(e.Before)+len(e.After)+len(e.Metadata))))
	key := keyOfEntry(e.Tenant, e.ID)
	doc = bsoncore.AppendBinaryElement(doc, fieldKey, bson.TypeBinaryGeneric, key[:])
	return bsoncore.AppendDocumentEnd(appendEntry(doc, e), start)
}

// appendEntry appends the elements of an entry. It omits unset fields.
func appendEntry(dst []byte, e *audit.Entry) []byte {
	text := func(name, value string) {
		if value != "" {
			dst = bsoncore.AppendStringElement(dst, name, value)
		}
	}
	date := func(name string, t time.Time) {
		if !t.IsZero() {
			dst = bsoncore.AppendDateTimeElement(dst, name, t.UnixMilli())
		}
	}
	text(fieldID, e.ID.String())
	text(fieldTenant, string(e.Tenant))
	text(fieldUserID, e.UserID)
	text(fieldSessionID, e.SessionID)
	text(fieldRequestID, e.RequestID)
	text(fieldAction, e.Action)
	text(fieldResourceType, e.ResourceType)
	text(fieldResourceID, e.ResourceID)
	date(fieldTimestamp, e.Timestamp)
	if e.IPAddress.IsValid() {
		text(fieldIPAddress, e.IPAddress.String())
	}
	text(fieldUserAgent, e.UserAgent)
	text(fieldSeverity, e.Severity.String())
	text(fieldMessage, e.Message)
	text(fieldIdempotencyKey, e.IdempotencyKey)
	date(fieldReceivedAt, e.ReceivedAt)
	text(fieldSubmittedBy, e.SubmittedBy)
	texts := func(name string, values []string) {
		if len(values) > 0 {
			dst = bsoncore.AppendArrayElement(dst, name, stringArray(values))
		}
	}
	texts(fieldChanged, e.Changed)
	texts(fieldRemoved, e.Removed)
	date(fieldRestoredUntil, e.RestoredUntil)
	dst = appendEncrypted(dst, e.Encrypted)
	dst = bsoncore.AppendBinaryElement(dst, fieldDigest, bson.TypeBinaryGeneric, e.Digest.AppendTo(nil))
	if !e.QueueMessage.IsZero() {
		dst = bsoncore.AppendInt64Element(dst, fieldQueueMessage, e.QueueMessage.Tag())
	}
	return appendObjects(dst, e)
}

func stringArray(values []string) bsoncore.Array {
	array := bsoncore.NewArrayBuilder()
	for _, v := range values {
		array.AppendString(v)
	}
	return array.Build()
}

// appendObjects appends states and metadata, and the text of the objects that
// BSON cannot represent exactly.
func appendObjects(dst []byte, e *audit.Entry) []byte {
	texts := bsoncore.NewDocumentBuilder()
	inexact := false
	object := func(name string, text audit.Object) {
		if len(text) == 0 {
			return
		}
		doc, exact := convert(text)
		if doc != nil {
			dst = bsoncore.AppendDocumentElement(dst, name, doc)
		}
		if !exact {
			texts.AppendString(name, string(text))
			inexact = true
		}
	}
	object(fieldBefore, e.Before)
	object(fieldAfter, e.After)
	object(fieldMetadata, e.Metadata)
	if inexact {
		dst = bsoncore.AppendDocumentElement(dst, fieldExact, texts.Build())
	}
	return dst
}

var errStored = errors.New("has another type or form than was stored")

// readEntry reads what appendEntry wrote. It ignores unknown fields, so that an
// older version can read what a newer one wrote.
func readEntry(doc bson.Raw) (audit.Entry, error) {
	var e audit.Entry
	elements, err := doc.Elements()
	if err != nil {
		return e, fmt.Errorf("read a stored entry: %w", err)
	}
	for _, element := range elements {
		if err := readField(&e, element.Key(), element.Value()); err != nil {
			return audit.Entry{}, fmt.Errorf("read stored entry %s: field %s: %w", e.ID, element.Key(), err)
		}
	}
	if texts, ok := doc.Lookup(fieldExact).DocumentOK(); ok {
		e.Before = exactText(texts, fieldBefore, e.Before)
		e.After = exactText(texts, fieldAfter, e.After)
		e.Metadata = exactText(texts, fieldMetadata, e.Metadata)
	}
	return e, nil
}

// exactText returns the stored text of an object. It returns the object if no text is stored.
func exactText(texts bson.Raw, name string, object audit.Object) audit.Object {
	if text, ok := texts.Lookup(name).StringValueOK(); ok {
		return audit.Object(text)
	}
	return object
}

func readField(e *audit.Entry, name string, value bson.RawValue) error {
	switch name {
	case fieldTimestamp:
		return readDate(value, &e.Timestamp)
	case fieldReceivedAt:
		return readDate(value, &e.ReceivedAt)
	case fieldRestoredUntil:
		return readDate(value, &e.RestoredUntil)
	case fieldBefore:
		return readObject(value, &e.Before)
	case fieldAfter:
		return readObject(value, &e.After)
	case fieldMetadata:
		return readObject(value, &e.Metadata)
	case fieldChanged:
		return readStrings(value, &e.Changed)
	case fieldRemoved:
		return readStrings(value, &e.Removed)
	case fieldEncrypted:
		return readEncrypted(value, &e.Encrypted)
	case fieldDigest:
		return readDigest(value, &e.Digest)
	}
	text, ok := value.StringValueOK()
	if !ok {
		return nil // the field is unknown
	}
	return readText(e, name, text)
}

func readText(e *audit.Entry, name, text string) (err error) {
	switch name {
	case fieldID:
		err = e.ID.UnmarshalText([]byte(text))
	case fieldTenant:
		e.Tenant = audit.TenantID(text)
	case fieldUserID:
		e.UserID = text
	case fieldSessionID:
		e.SessionID = text
	case fieldRequestID:
		e.RequestID = text
	case fieldAction:
		e.Action = text
	case fieldResourceType:
		e.ResourceType = text
	case fieldResourceID:
		e.ResourceID = text
	case fieldIPAddress:
		e.IPAddress, err = netip.ParseAddr(text)
	case fieldUserAgent:
		e.UserAgent = text
	case fieldSeverity:
		err = e.Severity.UnmarshalText([]byte(text))
	case fieldMessage:
		e.Message = text
	case fieldIdempotencyKey:
		e.IdempotencyKey = text
	case fieldSubmittedBy:
		e.SubmittedBy = text
	}
	if err != nil {
		return errStored
	}
	return nil
}

func readDate(value bson.RawValue, to *time.Time) error {
	millis, ok := value.DateTimeOK()
	if !ok {
		return errStored
	}
	*to = time.UnixMilli(millis).UTC()
	return nil
}

func readObject(value bson.RawValue, to *audit.Object) error {
	doc, ok := value.DocumentOK()
	if !ok {
		return errStored
	}
	text, err := fromBSON(make([]byte, 0, len(doc)), doc)
	if err != nil {
		return errStored
	}
	*to = text
	return nil
}

func readStrings(value bson.RawValue, to *[]string) error {
	return eachElement(value, func(v bson.RawValue) error {
		text, ok := v.StringValueOK()
		if !ok {
			return errStored
		}
		*to = append(*to, text)
		return nil
	})
}

func readDigest(value bson.RawValue, to *audit.Digest) error {
	_, data, ok := value.BinaryOK()
	if !ok {
		return errStored
	}
	if *to, ok = audit.ParseDigest(data); !ok {
		return errStored
	}
	return nil
}
