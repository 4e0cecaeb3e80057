package protect

import (
	"net/netip"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/decimal"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// ValueKind is the type of a value that entries can be found by.
type ValueKind string

// The kinds of values. A number counts by its value: 1 and 1.0 are equal.
const (
	ValueString  ValueKind = "string"
	ValueNumber  ValueKind = "number"
	ValueBoolean ValueKind = "boolean"
)

// tokenInput is what a token is made of.
type tokenInput struct {
	path  string
	kind  ValueKind
	value string
}

// newTokenInput returns nil for a value that entries cannot be found by: an object or an array.
func newTokenInput(path string, text []byte) *tokenInput {
	switch text[0] {
	case '{', '[':
		return nil
	case '"':
		content, err := jsontext.AppendUnquote(nil, text)
		if err != nil {
			return nil
		}
		return &tokenInput{path, ValueString, normalValue(path, string(content))}
	case 't', 'f':
		return &tokenInput{path, ValueBoolean, string(text)}
	}
	return &tokenInput{path, ValueNumber, decimal.Canonical(string(text))}
}

// normalValue returns an address without its mapping to IPv6, so that either spelling finds it.
func normalValue(path, value string) string {
	if path != entryjson.NameIPAddress {
		return value
	}
	address, err := netip.ParseAddr(value)
	if err != nil {
		return value
	}
	return address.Unmap().String()
}

// Token returns what an entry has that was stored with this value at a dotted path. value is a
// string's content, the text of a number, true or false.
func (k *TenantKeys) Token(path string, kind ValueKind, value string) audit.ValueToken {
	switch kind {
	case ValueNumber:
		value = decimal.Canonical(value)
	case ValueString:
		value = normalValue(path, value)
	}
	return k.token(&tokenInput{path, kind, value})
}

func (k *TenantKeys) token(t *tokenInput) audit.ValueToken {
	sum := k.index.sum(t.path, string(t.kind), t.value)
	return audit.ValueToken(sum[:len(audit.ValueToken{})])
}
