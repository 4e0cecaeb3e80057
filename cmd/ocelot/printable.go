package main

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// printable returns the text with characters spelled out that could control a terminal or
// hide text, such as \n, \x1b or \u202e. These are control characters, direction marks
// and broken UTF-8.
func printable(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		case hidden(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteString(text[i : i+size])
		}
		i += size
	}
	return b.String()
}

// hidden reports whether a character is not simply shown: controls, formats,
// separators other than the space, and the unassigned ones. Joiners stay, since
// scripts and emoji are written with them.
func hidden(r rune) bool {
	const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
	return !unicode.IsPrint(r) && r != zeroWidthNonJoiner && r != zeroWidthJoiner
}

// fit is printable text cut to the width in columns, its end then an ellipsis. 0 is any width.
func fit(text string, width int) string {
	if width <= 0 || uniseg.StringWidth(text) <= width {
		return text
	}
	var b strings.Builder
	used := 0
	for graphemes := uniseg.NewGraphemes(text); graphemes.Next(); {
		if used+graphemes.Width() > width-1 {
			break
		}
		used += graphemes.Width()
		b.WriteString(graphemes.Str())
	}
	return b.String() + "…"
}

// pad is the text filled up with spaces to the width in columns.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-uniseg.StringWidth(text)))
}
