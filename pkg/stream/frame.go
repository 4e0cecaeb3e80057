package stream

import (
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

// frame is a frame without entries.
type frame struct {
	Type   string         `json:"type"`
	Cursor string         `json:"cursor,omitempty"`
	Error  jsontext.Value `json:"error,omitempty"`
}

const (
	entriesBegin = `{"type":"entries","items":[`
	entriesEnd   = `],"cursor":"`
	entriesClose = `"}`
	// cursorBytes is more than the length of any cursor, in bytes.
	cursorBytes = 120
	// itemBytes is the maximum length of a frame's items with their commas, in bytes.
	itemBytes = MaxFrameBytes - len(entriesBegin) - len(entriesEnd) - len(entriesClose) - cursorBytes
)

// batch is a frame of entries that is being filled.
type batch struct {
	items []byte
}

// fits reports whether the item still fits into the batch.
func (b *batch) fits(item []byte) bool {
	return len(b.items) == 0 || len(b.items)+1+len(item) <= itemBytes
}

func (b *batch) add(item []byte) {
	if len(b.items) > 0 {
		b.items = append(b.items, ',')
	}
	b.items = append(b.items, item...)
}

// text returns the frame with its cursor.
func (b *batch) text(cursor string) []byte {
	text := make([]byte, 0, MaxFrameBytes)
	text = append(append(text, entriesBegin...), b.items...)
	return append(append(append(text, entriesEnd...), cursor...), entriesClose...)
}

// itemOf returns the entry's text as clients see it. If the text is too long for a frame,
// it leaves out the longest fields and names them.
func itemOf(e *audit.Entry, expiresAt time.Time) []byte {
	text := entryjson.AppendPublic(nil, e, expiresAt)
	if len(text) <= itemBytes {
		return text
	}
	shorter := *e
	var omitted []string
	for len(text) > itemBytes && len(omitted) < len(longFields) {
		omitted = append(omitted, omitLongest(&shorter))
		text = entryjson.AppendPublic(text[:0], &shorter, expiresAt)
		text = append(text[:len(text)-1], `,"omitted":`...)
		names, err := json.Marshal(omitted)
		if err != nil {
			panic(err) // names always marshal
		}
		text = append(append(text, names...), '}')
	}
	return text
}

// longField is a field that can be longer than a frame. Without these fields every entry fits.
type longField struct {
	name  string
	size  func(e *audit.Entry) int
	clear func(e *audit.Entry)
}

var longFields = []longField{
	{"before_state", func(e *audit.Entry) int { return len(e.Before) }, func(e *audit.Entry) { e.Before = nil }},
	{"after_state", func(e *audit.Entry) int { return len(e.After) }, func(e *audit.Entry) { e.After = nil }},
	{"metadata", func(e *audit.Entry) int { return len(e.Metadata) }, func(e *audit.Entry) { e.Metadata = nil }},
	{"message", func(e *audit.Entry) int { return len(e.Message) }, func(e *audit.Entry) { e.Message = "" }},
	{"changed", changedBytes, func(e *audit.Entry) { e.Changed = nil }},
}

func changedBytes(e *audit.Entry) (size int) {
	for _, path := range e.Changed {
		size += len(path) + len(`"",`)
	}
	return size
}

// omitLongest clears the longest of the long fields and returns its name.
func omitLongest(e *audit.Entry) string {
	longest := slices.MaxFunc(longFields, func(a, b longField) int { return a.size(e) - b.size(e) })
	longest.clear(e)
	return longest.name
}
