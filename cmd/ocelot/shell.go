package main

import (
	"regexp"
	"strings"
)

// plainWord matches what no shell changes, zsh with its patterns included.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// shellWord returns the text as one word of a command line for sh, bash, zsh and fish.
func shellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
