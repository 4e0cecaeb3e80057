package audit

import (
	"errors"
	"strings"
)

// CutQuoted reads the text in quotes that text begins with, as queries have it: a backslash before a quote or
// a backslash stands for that character, and before any other character it is itself. ok is false if the
// quote is not closed.
func CutQuoted(text string) (value, rest string, ok bool) {
	var unquoted strings.Builder
	for i := 1; i < len(text); i++ {
		c := text[i]
		if c == '"' {
			return unquoted.String(), text[i+1:], true
		}
		if c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\') {
			i++
			c = text[i]
		}
		unquoted.WriteByte(c)
	}
	return "", "", false
}

// SplitFields divides a list of fields at its commas. In quotes a part of a name can have any characters,
// or none: metadata."a,b". It does not look whether there are such fields.
func SplitFields(list string) ([]Field, error) {
	var fields []Field
	for rest, more := list, true; more; {
		var name strings.Builder
		emptyName := false
		for {
			end := strings.IndexAny(rest, `,"`)
			if end < 0 {
				end = len(rest)
			}
			name.WriteString(rest[:end])
			if rest = rest[end:]; !strings.HasPrefix(rest, `"`) {
				break
			}
			value, after, ok := CutQuoted(rest)
			if !ok {
				return nil, errors.New("has a quote that is not closed")
			}
			emptyName = emptyName || value == "" && name.String() == metadataPrefix
			name.WriteString(value)
			rest = after
		}
		field := Field(name.String())
		if field == metadataPrefix && !emptyName {
			return nil, errors.New(`lacks a path after metadata.; an empty name is written metadata.""`)
		}
		if emptyName && strings.HasPrefix(string(field), metadataPrefix+".") {
			return nil, errors.New("has a path below an empty name; leave the empty name out, as the paths of entries do")
		}
		fields = append(fields, field)
		rest, more = strings.CutPrefix(rest, ",")
	}
	return fields, nil
}
