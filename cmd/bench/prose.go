package main

import (
	"strings"
	"unicode/utf8"
)

// proseWidth is the longest line of a document, in columns.
const proseWidth = 100

// item returns an item of a Markdown list, in lines of at most 100 columns.
func item(text string) string { return wrap("- ", "  ", text) }

// paragraph returns a paragraph in such lines, and an empty line.
func paragraph(text string) string { return wrap("", "", text) + "\n" }

// wrap divides a text into lines, which begin with first and others.
func wrap(first, others, text string) string {
	var b strings.Builder
	b.WriteString(first)
	column, words := len(first), 0
	for word := range strings.FieldsSeq(text) {
		length := utf8.RuneCountInString(word)
		switch {
		case words == 0:
		case column+1+length > proseWidth:
			b.WriteString("\n" + others)
			column = len(others)
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += length
		words++
	}
	return b.String() + "\n"
}
