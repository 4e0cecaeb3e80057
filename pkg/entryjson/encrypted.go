package entryjson

import (
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The names of the members of an encrypted element.
const (
	namePaths      = "paths"
	nameKey        = "key"
	nameGeneration = "generation"
	nameData       = "data"
	nameTokens     = "tokens"
)

// encryptedBase64 has one spelling for each data.
var encryptedBase64 = base64.StdEncoding.Strict()

// maskedPlaces returns the places of encrypted values, in the order of their text.
func maskedPlaces(encrypted []audit.Encrypted) (places []string) {
	for i := range encrypted {
		places = append(places, encrypted[i].Paths...)
	}
	slices.Sort(places)
	return places
}

// appendEncrypted appends the encrypted values.
func appendEncrypted(dst []byte, encrypted []audit.Encrypted) []byte {
	if len(encrypted) == 0 {
		return dst
	}
	return AppendEncrypted(appendName(dst, nameEncrypted), encrypted)
}

// AppendEncrypted appends encrypted values as a JSON array, as AppendStored has them in the entry.
func AppendEncrypted(dst []byte, encrypted []audit.Encrypted) []byte {
	dst = append(dst, '[')
	for i := range encrypted {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendElement(dst, &encrypted[i])
	}
	return append(dst, ']')
}

func appendElement(dst []byte, e *audit.Encrypted) []byte {
	begin := len(dst)
	dst = appendTexts(dst, namePaths, e.Paths)
	dst = appendText(dst, nameKey, e.Key)
	dst = strconv.AppendUint(appendName(dst, nameGeneration), uint64(e.Generation), 10)
	dst = append(appendName(dst, nameData), '"')
	dst = append(encryptedBase64.AppendEncode(dst, e.Data), '"')
	if len(e.Tokens) > 0 {
		dst = append(appendName(dst, nameTokens), '[')
		for i, token := range e.Tokens {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(encryptedBase64.AppendEncode(append(dst, '"'), token[:]), '"')
		}
		dst = append(dst, ']')
	}
	dst[begin] = '{' // instead of the first comma
	return append(dst, '}')
}

// ParseEncrypted parses the text of AppendEncrypted. The result has no reference to text.
func ParseEncrypted(text []byte) (encrypted []audit.Encrypted, err error) {
	value := jsontext.Value(text)
	if !value.IsValid() {
		return nil, errStored
	}
	if err := storedEncrypted(value, &encrypted); err != nil {
		return nil, errStored
	}
	return encrypted, nil
}

// storedEncrypted parses what appendEncrypted appended.
func storedEncrypted(raw jsontext.Value, to *[]audit.Encrypted) error {
	if raw.Kind() != jsontext.KindBeginArray {
		return errStored
	}
	text, _ := compact(make([]byte, 0, len(raw)), raw)
	return eachElement(text, func(value []byte) error {
		e, err := storedElement(value)
		*to = append(*to, e)
		return err
	})
}

func storedElement(value []byte) (e audit.Encrypted, err error) {
	if len(value) == 0 || value[0] != '{' {
		return e, errStored
	}
	err = eachMember(value, func(name, value []byte) error {
		switch string(name) {
		case `"` + namePaths + `"`:
			return storedTexts(value, &e.Paths)
		case `"` + nameTokens + `"`:
			return storedTokens(value, &e.Tokens)
		case `"` + nameGeneration + `"`:
			generation, err := strconv.ParseUint(string(value), 10, 32)
			e.Generation = uint32(generation)
			return err
		case `"` + nameKey + `"`:
			text, err := appendUnquoted(nil, value)
			e.Key = string(text)
			return err
		case `"` + nameData + `"`:
			e.Data, err = decodeQuoted(value)
			return err
		}
		return nil
	})
	if err != nil || len(e.Paths) == 0 {
		return e, errStored
	}
	return e, nil
}

func storedTokens(value []byte, to *[]audit.ValueToken) error {
	if len(value) == 0 || value[0] != '[' {
		return errStored
	}
	return eachElement(value, func(value []byte) error {
		b, err := decodeQuoted(value)
		if err != nil || len(b) != len(audit.ValueToken{}) {
			return errStored
		}
		*to = append(*to, audit.ValueToken(b))
		return nil
	})
}

// decodeQuoted decodes base64 in quotes.
func decodeQuoted(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, errStored
	}
	return encryptedBase64.AppendDecode(nil, value[1:len(value)-1])
}
