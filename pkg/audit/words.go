package audit

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxWord is the length of the longest word in full-text search, in bytes. Words cuts
// longer ones.
const MaxWord = 128

// Words splits text into the words of full-text search: runs of letters, marks
// and digits in lower case.
func Words(text string) []string {
	fields := strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	})
	for i, word := range fields {
		word = strings.ToLower(word)
		if len(word) > MaxWord {
			cut := MaxWord
			for !utf8.RuneStart(word[cut]) {
				cut--
			}
			word = word[:cut]
		}
		fields[i] = word
	}
	return fields
}

// Cut returns the beginning of the text up to a limit in bytes, with whole characters only.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
