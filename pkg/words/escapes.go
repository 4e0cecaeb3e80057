package words

import "strings"

const (
	escape = 0x1b
	bell   = 0x07
	// controls begins, in UTF-8, each character from U+0080 to U+009F.
	controls = 0xc2
	// introducer is the second byte of U+009B, which has the effect of ESC [.
	introducer = 0x9b
	// maxControlString is the length of the longest control string, in bytes: a title of a window or
	// a link. It bounds the search for an end that does not come.
	maxControlString = 4 << 10
)

// withoutEscapes returns the text with a space in the place of each control sequence of a
// terminal (ECMA-48): a color or a movement of the cursor is no word. A sequence without an end
// loses its beginning only.
//
// Of the controls from U+0080 to U+009F only U+009B begins a longer sequence. Text that was encoded
// in UTF-8 twice has such controls in the place of quotes and dashes. If they began strings, the
// words between two quotes would not be found.
func withoutEscapes(text string) string {
	at := nextEscape(text)
	if at < 0 {
		return text
	}
	var clean strings.Builder
	for ; at >= 0; at = nextEscape(text) {
		clean.WriteString(text[:at])
		clean.WriteByte(' ')
		text = text[at+sequenceLength(text[at:]):]
	}
	clean.WriteString(text)
	return clean.String()
}

// nextEscape returns where the next sequence begins, -1 if there is none. An escape at the end of
// the text begins none.
func nextEscape(text string) int {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == escape || text[i] == controls && text[i+1] < 0xa0 {
			return i
		}
	}
	return -1
}

// sequenceLength returns the length of the sequence with which the text begins. The text has at
// least two bytes.
func sequenceLength(text string) int {
	switch {
	case text[0] == controls && text[1] != introducer:
		return 2
	case text[0] == controls || text[1] == '[':
		return controlSequence(text)
	case strings.IndexByte("]PX^_", text[1]) >= 0:
		return controlString(text)
	}
	return escapeSequence(text)
}

// escapeSequence returns the length of ESC, intermediate bytes, a final byte.
func escapeSequence(text string) int {
	i := 1
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x2f {
		i++
	}
	if i < len(text) && text[i] >= 0x30 && text[i] <= 0x7e {
		return i + 1
	}
	return 1
}

// controlSequence returns the length of ESC [, parameters, intermediate bytes, a final byte.
func controlSequence(text string) int {
	i := 2
	for i < len(text) && text[i] >= 0x30 && text[i] <= 0x3f {
		i++
	}
	for i < len(text) && text[i] >= 0x20 && text[i] <= 0x2f {
		i++
	}
	if i < len(text) && text[i] >= 0x40 && text[i] <= 0x7e {
		return i + 1
	}
	return 2
}

// controlString returns the length of a string up to its terminator: ESC \, U+009C or, as in xterm,
// a bell. An escape ends the search, so that strings without an end are each read once.
func controlString(text string) int {
	text = text[:min(len(text), maxControlString)]
	for i := 2; i < len(text); i++ {
		if text[i] == bell {
			return i + 1
		}
		if text[i] == controls && i+1 < len(text) && text[i+1] == 0x9c {
			return i + 2
		}
		if text[i] == escape {
			if i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
			return 2
		}
	}
	return 2
}
