package runtimehost

import (
	"bytes"
	"io"
)

// maxLine is the maximum length of a line, in bytes. A longer line is divided.
const maxLine = 64 << 10

// lines forwards text as whole lines, each with a prefix. It is not safe for concurrent use.
type lines struct {
	prefix string
	to     io.Writer
	rest   []byte
}

// Write never returns an error: a failing log must not end the function.
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

// flush forwards a last line without a line end.
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
