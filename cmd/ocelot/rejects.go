package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/go-json-experiment/json/jsontext"
)

// rejects is the file of --rejects; nil if there is none.
type rejects struct{ file *os.File }

// newRejects makes the file. It does not overwrite one: that would lose rejected entries.
func newRejects(path string) (*rejects, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--rejects: %w", err)
	}
	return &rejects{file}, nil
}

// keep writes an entry as one line, with the identity that it was sent with. A record that could
// not become an entry is written as it was read.
func (r *rejects) keep(it item) error {
	if r == nil {
		return nil
	}
	line := it.text
	if len(line) == 0 {
		line = it.original
	}
	if len(line) == 0 {
		return nil // too long to be kept
	}
	if bytes.ContainsAny(line, "\n\r") {
		value := jsontext.Value(bytes.Clone(line))
		if value.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) == nil {
			line = value
		}
	}
	if _, err := r.file.Write(append(bytes.Clone(line), '\n')); err != nil {
		return fmt.Errorf("%s: %w", it.place, err)
	}
	return nil
}

func (r *rejects) close() error {
	if r == nil {
		return nil
	}
	return r.file.Close()
}
