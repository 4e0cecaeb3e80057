// Package words divides text into the words of full-text search. All engines search for these
// words, so that all of them find the same entries.
package words

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// MaxLength is the length of the longest word, in bytes. Split cuts longer ones.
const MaxLength = 128

// Split returns the words of a text: runs of letters, marks and digits, without the control
// sequences of terminals. Words are caseless: they have full case folding and the form NFC
// (Unicode Standard, section 3.13, canonical caseless matching).
//
// Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words. There, each
// letter with its marks is a word of its own. A phrase of them is then found in any place.
func Split(text string) []string {
	text = withoutEscapes(text)
	if isASCII(text) {
		return splitASCII(text)
	}
	text = norm.NFC.String(strings.Map(foldCherokee, fold.String(norm.NFD.String(text))))
	var words []string
	start := -1 // of the word in progress; -1: none
	end := func(at int) {
		if start >= 0 {
			words = append(words, audit.Cut(text[start:at], MaxLength))
			start = -1
		}
	}
	unspaced := false // whether the word in progress is a letter of a script without spaces
	for at, r := range text {
		switch {
		case isUnspaced(r):
			end(at)
			start, unspaced = at, true
		case unicode.IsMark(r) && start >= 0: // belongs to what it follows
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			if unspaced {
				end(at)
			}
			if start < 0 {
				start, unspaced = at, false
			}
		default:
			end(at)
		}
	}
	end(len(text))
	return words
}

var fold = cases.Fold() // has no state

// foldCherokee folds the letters of Cherokee, which fold to capitals. The package cases exchanges
// capitals and small letters instead.
func foldCherokee(r rune) rune {
	switch {
	case r >= 0xAB70 && r <= 0xABBF:
		return r - 0xAB70 + 0x13A0
	case r >= 0x13F8 && r <= 0x13FD:
		return r - 8
	}
	return r
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func splitASCII(text string) []string {
	text = strings.ToLower(text)
	words := make([]string, 0, len(text)/5) // of English, about
	for i := 0; i < len(text); i++ {
		start := i
		for i < len(text) && (text[i] >= 'a' && text[i] <= 'z' || text[i] >= '0' && text[i] <= '9') {
			i++
		}
		if i > start {
			words = append(words, audit.Cut(text[start:i], MaxLength))
		}
	}
	return words
}

// unspaced are the scripts without spaces between words.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

// isUnspaced reports whether the character is a letter of a script without spaces.
func isUnspaced(r rune) bool {
	switch r {
	case 'ー', 'ｰ', 'ﾞ', 'ﾟ': // marks of Katakana and Hiragana that Unicode counts to no script
		return true
	}
	return r >= 0x0E00 && unicode.IsLetter(r) && unicode.In(r, unspaced...)
}
