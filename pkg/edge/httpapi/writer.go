package httpapi

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// writer appends JSON text. It places the commas; names are constants that need
// no escaping.
type writer struct{ b []byte }

// next writes a comma if a value precedes.
func (w *writer) next() {
	if n := len(w.b); n > 0 {
		switch w.b[n-1] {
		case '{', '[', ':':
		default:
			w.b = append(w.b, ',')
		}
	}
}

func (w *writer) open(bracket byte) {
	w.next()
	w.b = append(w.b, bracket)
}

func (w *writer) close(bracket byte) { w.b = append(w.b, bracket) }

func (w *writer) name(name string) {
	w.next()
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// quoted appends a string value. Bytes that are not UTF-8 come out as U+FFFD.
func (w *writer) quoted(value string) {
	w.next()
	w.b, _ = jsontext.AppendQuote(w.b, value) // the error says only that it replaced
}

func (w *writer) text(name, value string) {
	w.name(name)
	w.quoted(value)
}

// word is text of a value that needs no escaping.
func (w *writer) word(name, value string) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = append(w.b, value...)
	w.b = append(w.b, '"')
}

func (w *writer) texts(name string, values []string) {
	w.name(name)
	w.open('[')
	for _, v := range values {
		w.quoted(v)
	}
	w.close(']')
}

func (w *writer) integer(name string, value int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, value, 10)
}

func (w *writer) boolean(name string, value bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, value)
}

// timeFormat is RFC 3339 in UTC with exactly three decimals of seconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

func (w *writer) time(name string, t time.Time) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = t.UTC().AppendFormat(w.b, timeFormat)
	w.b = append(w.b, '"')
}

// localTime writes t with the offset of its zone.
func (w *writer) localTime(name string, t time.Time) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, "2006-01-02T15:04:05.000Z07:00")
	w.b = append(w.b, '"')
}

// optionalTime writes t like time does. It writes nothing if t is zero.
func (w *writer) optionalTime(name string, t time.Time) {
	if !t.IsZero() {
		w.time(name, t)
	}
}

// timeOrNull writes t like time does. It writes null if t is zero.
func (w *writer) timeOrNull(name string, t time.Time) {
	if t.IsZero() {
		w.null(name)
		return
	}
	w.time(name, t)
}

// cursor writes a cursor, or null if it is "".
func (w *writer) cursor(name, cursor string) {
	if cursor == "" {
		w.null(name)
		return
	}
	w.text(name, cursor)
}

func (w *writer) null(name string) {
	w.name(name)
	w.b = append(w.b, "null"...)
}

func (w *writer) number(name string, value float64) {
	w.name(name)
	w.b = strconv.AppendFloat(w.b, value, 'f', -1, 64)
}
