package runtimehost

import (
	"bytes"
	"io"
)

// maxLine is the longest line that is kept together.
const maxLine = 64 << 10

// lines hands what is written to it on in whole lines, each behind the prefix.
// It is for one writer at a time.
type lines struct {
	prefix string
	to     io.Writer
	rest   []byte
}

// Write never fails: a log that cannot be written must not end the function.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < maxLine {
			return len(p), nil
		}
		if end < 0 || end > maxLine {
			end = maxLine
			l.print(l.rest[:end])
			l.rest = l.rest[end:]
			continue
		}
		l.print(l.rest[:end])
		l.rest = l.rest[end+1:]
	}
}

// flush prints a last line that has no end.
func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.print(l.rest)
		l.rest = nil
	}
}

func (l *lines) print(line []byte) {
	text := make([]byte, 0, len(l.prefix)+len(line)+1)
	text = append(append(append(text, l.prefix...), line...), '\n')
	_, _ = l.to.Write(text) // see Write
}
