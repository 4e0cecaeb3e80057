package words

import "strings"

const (
	escape = 0x1b
	bell   = 0x07
)

// withoutEscapes returns the text with a space in the place of each control sequence of a
// terminal (ECMA-48): a color or a movement of the cursor is no word. A sequence without an end
// loses its first two characters only.
func withoutEscapes(text string) string {
	if strings.IndexByte(text, escape) < 0 {
		return text
	}
	var clean strings.Builder
	for {
		at := strings.IndexByte(text, escape)
		if at < 0 || at+1 >= len(text) {
			clean.WriteString(text)
			return clean.String()
		}
		clean.WriteString(text[:at])
		clean.WriteByte(' ')
		text = text[at+sequenceLength(text[at:]):]
	}
}

// sequenceLength returns the length of the sequence with which the text begins. The text has at
// least two bytes.
func sequenceLength(text string) int {
	switch text[1] {
	case '[':
		return controlSequence(text)
	case ']', 'P', 'X', '^', '_':
		return controlString(text)
	}
	if text[1] >= 0x20 && text[1] < 0x7f {
		return 2
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

// controlString returns the length of a string up to its terminator: ESC \ or, as in xterm, a bell.
func controlString(text string) int {
	for i := 2; i < len(text); i++ {
		if text[i] == bell {
			return i + 1
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
