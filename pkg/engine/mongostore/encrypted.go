package mongostore

import (
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The fields of an element of encrypted values.
const (
	fieldPaths   = "paths"
	fieldKeyName = "key"
	fieldData    = "data"
	fieldTokens  = "tokens"
)

// appendEncrypted appends the encrypted values of an entry.
func appendEncrypted(dst []byte, encrypted []audit.Encrypted) []byte {
	if len(encrypted) == 0 {
		return dst
	}
	array := bsoncore.NewArrayBuilder()
	for i := range encrypted {
		e := &encrypted[i]
		doc := bsoncore.NewDocumentBuilder().
			AppendArray(fieldPaths, stringArray(e.Paths)).
			AppendString(fieldKeyName, e.Key).
			AppendInt64(fieldGeneration, int64(e.Generation)).
			AppendBinary(fieldData, bson.TypeBinaryGeneric, e.Data)
		if len(e.Tokens) > 0 {
			tokens := bsoncore.NewArrayBuilder()
			for _, t := range e.Tokens {
				tokens.AppendBinary(bson.TypeBinaryGeneric, t[:])
			}
			doc.AppendArray(fieldTokens, tokens.Build())
		}
		array.AppendDocument(doc.Build())
	}
	return bsoncore.AppendArrayElement(dst, fieldEncrypted, array.Build())
}

func readEncrypted(value bson.RawValue, to *[]audit.Encrypted) error {
	return eachElement(value, func(v bson.RawValue) error {
		doc, ok := v.DocumentOK()
		if !ok {
			return errStored
		}
		var e audit.Encrypted
		generation, ok := doc.Lookup(fieldGeneration).Int64OK()
		if !ok || generation < 0 || generation > math.MaxUint32 {
			return errStored
		}
		e.Generation = uint32(generation)
		if e.Key, ok = doc.Lookup(fieldKeyName).StringValueOK(); !ok {
			return errStored
		}
		if err := readStrings(doc.Lookup(fieldPaths), &e.Paths); err != nil {
			return err
		}
		_, data, ok := doc.Lookup(fieldData).BinaryOK()
		if !ok {
			return errStored
		}
		e.Data = append(e.Data, data...) // the document's memory is used again
		if tokens, err := doc.LookupErr(fieldTokens); err == nil {
			if err := readTokens(tokens, &e.Tokens); err != nil {
				return err
			}
		}
		*to = append(*to, e)
		return nil
	})
}

func readTokens(value bson.RawValue, to *[]audit.ValueToken) error {
	return eachElement(value, func(v bson.RawValue) error {
		_, data, ok := v.BinaryOK()
		if !ok || len(data) != len(audit.ValueToken{}) {
			return errStored
		}
		*to = append(*to, audit.ValueToken(data))
		return nil
	})
}

// eachElement visits the elements of an array.
func eachElement(value bson.RawValue, visit func(v bson.RawValue) error) error {
	array, ok := value.ArrayOK()
	if !ok {
		return errStored
	}
	values, err := array.Values()
	if err != nil {
		return errStored
	}
	for _, v := range values {
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}
