package mongostore

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Objects are stored as BSON, so that people can query them, and reads return the
// exact text that was appended. The text is converted to BSON and back. If the
// result differs, the text is stored next to the BSON, and reads return the text.
// Examples are numbers such as 1.0, -0, 1e3 or with twenty digits, unnecessary
// escapes, white space, and the members that toBSON omits.

// maxNesting is the deepest nesting of an object that is stored as BSON. MongoDB
// allows 100 levels, including those of its own document.
const maxNesting = 90

var errNotBSON = errors.New("mongostore: no BSON for this text")

// toBSON appends the BSON document that is closest to a JSON object. Numbers that
// are not 64-bit integers become doubles. Numbers that overflow a double become
// null. It omits members whose name is empty, begins with a dollar, or has a dot
// or a NUL, because not every server stores them. It fails if text is not a JSON
// object or is nested deeper than maxNesting.
func toBSON(dst []byte, text audit.Object) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if d.PeekKind() != jsontext.KindBeginObject {
		return nil, errNotBSON
	}
	return appendObject(dst, d)
}

// appendObject appends the document of the next value of d, which is an object.
func appendObject(dst []byte, d *jsontext.Decoder) ([]byte, error) {
	if _, err := d.ReadToken(); err != nil || d.StackDepth() > maxNesting {
		return nil, errNotBSON
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	for d.PeekKind() != jsontext.KindEndObject {
		token, err := d.ReadToken()
		if err != nil {
			return nil, errNotBSON
		}
		name := token.String()
		if isOmitted(name) {
			err = d.SkipValue()
		} else {
			dst, err = appendValue(dst, name, d)
		}
		if err != nil {
			return nil, errNotBSON
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errNotBSON
	}
	return bsoncore.AppendDocumentEnd(dst, start)
}

func isOmitted(name string) bool {
	return name == "" || name[0] == '$' || strings.ContainsAny(name, ".\x00")
}

// appendValue appends the element of the next value of d.
func appendValue(dst []byte, name string, d *jsontext.Decoder) ([]byte, error) {
	switch d.PeekKind() {
	case jsontext.KindBeginObject:
		return appendObject(bsoncore.AppendHeader(dst, bsoncore.TypeEmbeddedDocument, name), d)
	case jsontext.KindBeginArray:
		return appendArray(bsoncore.AppendHeader(dst, bsoncore.TypeArray, name), d)
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, errNotBSON
	}
	switch token.Kind() {
	case jsontext.KindNull:
		return bsoncore.AppendNullElement(dst, name), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return bsoncore.AppendBooleanElement(dst, name, token.Bool()), nil
	case jsontext.KindString:
		return bsoncore.AppendStringElement(dst, name, token.String()), nil
	case jsontext.KindNumber:
		return appendNumber(dst, name, token.String()), nil
	}
	return nil, errNotBSON
}

func appendArray(dst []byte, d *jsontext.Decoder) ([]byte, error) {
	if _, err := d.ReadToken(); err != nil || d.StackDepth() > maxNesting {
		return nil, errNotBSON
	}
	start, dst := bsoncore.AppendArrayStart(dst)
	for i := 0; d.PeekKind() != jsontext.KindEndArray; i++ {
		var err error
		if dst, err = appendValue(dst, strconv.Itoa(i), d); err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errNotBSON
	}
	return bsoncore.AppendArrayEnd(dst, start)
}

func appendNumber(dst []byte, name, text string) []byte {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if int64(int32(n)) == n {
			return bsoncore.AppendInt32Element(dst, name, int32(n))
		}
		return bsoncore.AppendInt64Element(dst, name, n)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return bsoncore.AppendNullElement(dst, name)
	}
	return bsoncore.AppendDoubleElement(dst, name, f)
}

// fromBSON appends the JSON text of a document that toBSON made.
func fromBSON(dst []byte, doc bson.Raw) ([]byte, error) {
	elements, err := doc.Elements()
	if err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	for i, element := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = jsontext.AppendQuote(dst, element.Key()); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		if dst, err = fromBSONValue(dst, element.Value()); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func fromBSONValue(dst []byte, value bson.RawValue) ([]byte, error) {
	switch value.Type {
	case bson.TypeEmbeddedDocument:
		return fromBSON(dst, value.Document())
	case bson.TypeArray:
		return fromBSONArray(dst, value.Array())
	case bson.TypeString:
		return jsontext.AppendQuote(dst, value.StringValue())
	case bson.TypeInt32:
		return strconv.AppendInt(dst, int64(value.Int32()), 10), nil
	case bson.TypeInt64:
		return strconv.AppendInt(dst, value.Int64(), 10), nil
	case bson.TypeDouble:
		return append(dst, jsontext.Float(value.Double()).String()...), nil
	case bson.TypeBoolean:
		return strconv.AppendBool(dst, value.Boolean()), nil
	case bson.TypeNull:
		return append(dst, "null"...), nil
	}
	return nil, errStored
}

func fromBSONArray(dst []byte, array bson.RawArray) ([]byte, error) {
	values, err := array.Values()
	if err != nil {
		return nil, err
	}
	dst = append(dst, '[')
	for i, value := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = fromBSONValue(dst, value); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// convert returns the BSON of an object, and whether BSON represents the text
// exactly. It returns nil if BSON cannot represent the object.
func convert(text audit.Object) (doc bson.Raw, exact bool) {
	doc, err := toBSON(make([]byte, 0, len(text)+len(text)/2+16), text)
	if err != nil {
		return nil, false
	}
	back, err := fromBSON(make([]byte, 0, len(text)+16), doc)
	return doc, err == nil && bytes.Equal(back, text)
}
