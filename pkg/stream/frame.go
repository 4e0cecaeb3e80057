package stream

import (
	"fmt"
	"slices"
	"strconv"
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

// text returns the frame as JSON.
func (f frame) text() ([]byte, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("%s frame: %w", f.Type, err)
	}
	return text, nil
}

const (
	entriesBegin  = `{"type":"entries","items":[`
	entriesPlaces = `],"places":[`
	entriesEnd    = `],"cursor":"`
	entriesClose  = `"}`
	// cursorBytes is more than the length of any cursor, in bytes.
	cursorBytes = 120
	// placeBytes is the length of the longest place with its comma, in bytes.
	placeBytes = 20
	// contentBytes is the maximum length of a frame's items and places with their commas, in bytes.
	contentBytes = MaxFrameBytes - len(entriesBegin) - len(entriesPlaces) - len(entriesEnd) - len(entriesClose) - cursorBytes
	// itemBytes is the maximum length of an item, in bytes.
	itemBytes = contentBytes - placeBytes
)

// entriesFrame is the text of a frame of entries.
type entriesFrame struct {
	text     []byte
	last     int64     // the place of its last entry
	received time.Time // when the service received its last entry
}

// frameBuilder is a frame of entries that is being filled.
type frameBuilder struct {
	items, places []byte
	last          int64 // the place of the last entry; 0: there is none
}

// add adds an entry. It reports false if the frame has no room for it.
func (b *frameBuilder) add(item []byte, place int64) bool {
	if len(b.items)+len(",")+len(item)+len(b.places)+placeBytes > contentBytes && b.last > 0 {
		return false
	}
	if b.last > 0 {
		b.items, b.places = append(b.items, ','), append(b.places, ',')
	}
	b.items, b.places, b.last = append(b.items, item...), strconv.AppendInt(b.places, place, 10), place
	return true
}

// frame returns the frame with the cursor behind it.
func (b *frameBuilder) frame(cursor string, received time.Time) entriesFrame {
	size := len(b.items) + len(b.places) + len(cursor) + MaxFrameBytes - contentBytes
	text := append(make([]byte, 0, size), entriesBegin...)
	text = append(append(text, b.items...), entriesPlaces...)
	text = append(append(text, b.places...), entriesEnd...)
	return entriesFrame{text: append(append(text, cursor...), entriesClose...), last: b.last, received: received}
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
	{"changed", func(e *audit.Entry) int { return textsBytes(e.Changed) }, func(e *audit.Entry) { e.Changed = nil }},
	{"removed", func(e *audit.Entry) int { return textsBytes(e.Removed) }, func(e *audit.Entry) { e.Removed = nil }},
	{"masked", maskedBytes, func(e *audit.Entry) { e.Encrypted = nil }},
}

// maskedBytes returns the size of the places of encrypted values.
func maskedBytes(e *audit.Entry) (size int) {
	for i := range e.Encrypted {
		size += textsBytes(e.Encrypted[i].Paths)
	}
	return size
}

func textsBytes(texts []string) (size int) {
	for _, text := range texts {
		size += len(text) + len(`"",`)
	}
	return size
}

// omitLongest clears the longest of the long fields and returns its name.
func omitLongest(e *audit.Entry) string {
	longest := slices.MaxFunc(longFields, func(a, b longField) int { return a.size(e) - b.size(e) })
	longest.clear(e)
	return longest.name
}
