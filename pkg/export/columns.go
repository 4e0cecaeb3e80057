package export

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// isText reports whether a path is UTF-8 without control characters, which would break the header
// line of a file.
func isText(path string) bool {
	return utf8.ValidString(path) && !strings.ContainsFunc(path, unicode.IsControl)
}

// cell is a column's value of one entry, as JSON text. It is nil if the entry has none.
type cell struct {
	name  string
	value jsontext.Value
}

// cells reads the values of entries.
type cells struct {
	settings *audit.Settings
	columns  []string // nil: what the entry has
	millis   bool     // times are milliseconds since 1970

	text    []byte // of the current entry
	source  bytes.Buffer
	decoder jsontext.Decoder
	members []cell // of the current entry
	row     []cell
}

// of returns the values of an entry in the order of the columns. They are valid until the next
// call.
func (c *cells) of(e *audit.Entry, p entryjson.Places) ([]cell, error) {
	public := *e
	if !c.asks(entryjson.NameTenant) {
		public.Tenant = "" // all entries of an export are of one tenant
	}
	c.text = entryjson.AppendRevealed(c.text[:0], &public, p, c.settings.ExpiryOf(e))
	if err := c.readMembers(); err != nil {
		return nil, err
	}
	if c.columns == nil {
		return c.members, nil
	}
	c.row = c.row[:0]
	for _, column := range c.columns {
		value, err := lookup(c.members, column)
		if err != nil {
			return nil, err
		}
		c.row = append(c.row, cell{name: column, value: value})
	}
	return c.row, nil
}

func (c *cells) asks(column string) bool { return slices.Contains(c.columns, column) }

// readMembers reads the members of the entry's text.
func (c *cells) readMembers() error {
	c.source = *bytes.NewBuffer(c.text)
	c.decoder.Reset(&c.source)
	c.members = c.members[:0]
	return eachMember(&c.decoder, func(name string, value jsontext.Value) {
		end := int(c.decoder.InputOffset())
		c.members = append(c.members, cell{name: name, value: c.spell(name, c.text[end-len(value):end])})
	})
}

// timeFields are the members that are times.
var timeFields = []string{entryjson.NameTimestamp, entryjson.NameReceivedAt, entryjson.NameRestoredUntil, entryjson.NameExpiresAt}

// spell returns a member's value with times as the export spells them.
func (c *cells) spell(name string, value jsontext.Value) jsontext.Value {
	if !c.millis || !slices.Contains(timeFields, name) {
		return value
	}
	at, err := time.Parse(`"`+time.RFC3339+`"`, string(value))
	if err != nil {
		return value
	}
	return jsontext.Value(strconv.FormatInt(at.UnixMilli(), 10))
}

// lookup returns the value of a member, or of a path below it. Member names may have dots: of
// several values that the path can mean, it returns the first.
func lookup(members []cell, path string) (jsontext.Value, error) {
	for _, m := range members {
		if m.name == path {
			return m.value, nil
		}
		rest, below := cutName(path, m.name)
		if !below || m.value.Kind() != jsontext.KindBeginObject {
			continue
		}
		inner, err := membersOf(m.value)
		if err != nil {
			return nil, err
		}
		if value, err := lookup(inner, rest); err != nil || value != nil {
			return value, err
		}
	}
	return nil, nil
}

// cutName returns what a path has below a member. It is called for each column and member of an entry, and allocates
// nothing.
func cutName(path, name string) (rest string, below bool) {
	if len(path) <= len(name) || path[len(name)] != '.' || path[:len(name)] != name {
		return "", false
	}
	return path[len(name)+1:], true
}

// membersOf returns the members of an object.
func membersOf(object jsontext.Value) ([]cell, error) {
	var members []cell
	err := eachMember(jsontext.NewDecoder(bytes.NewBuffer(object)), func(name string, value jsontext.Value) {
		members = append(members, cell{name: name, value: value.Clone()})
	})
	return members, err
}

// eachMember visits the members of the object that the decoder has next. The value is valid only
// during the call.
func eachMember(d *jsontext.Decoder, visit func(name string, value jsontext.Value)) error {
	if _, err := d.ReadToken(); err != nil { // the brace
		return err
	}
	for d.PeekKind() == jsontext.KindString {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String() // before the next call, which ends the token
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		visit(name, value)
	}
	return nil
}
