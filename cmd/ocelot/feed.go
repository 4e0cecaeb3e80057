package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ocelot-audit/ocelot/pkg/importers"
)

// maxText is the longest text that is sent as one entry, in bytes. It is well
// over the limit of an entry, so that the service says what is wrong, and well
// under the limit of a request.
const maxText = 1 << 20

const stdinName = "-"

// item is one record of the input.
type item struct {
	place string // "file:line"
	text  []byte // the entry, without line breaks
	// original is the record as it was read, for --rejects.
	original []byte
	// reason is why the entry cannot be sent, "" if it can.
	reason string
	// note is why the record or file is passed over, "" if it is not.
	note string
	// passed is the number of files that the note is about, if it is about several.
	passed int
}

// feed reads records from files, one file after the other.
type feed struct {
	arguments []string
	stdin     io.Reader
	format    importers.Format
	// identify gives an identity to entries that have none. After an error, nothing more is read.
	identify func(entry []byte) ([]byte, error)
	// progress gets the number of bytes read since the last call.
	progress func(n int)

	// Two arguments can name the same file, which is read once.
	seen map[uint64]bool
	seed maphash.Seed
}

// all returns the records of every input. After an error it skips the rest of
// that input and continues with the next one.
func (f *feed) all(ctx context.Context) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		f.seen, f.seed = map[uint64]bool{}, maphash.MakeSeed()
		more := func(it item, err error) bool { return ctx.Err() == nil && yield(it, err) }
		if len(f.arguments) == 0 {
			f.one(stdinName, more)
			return
		}
		for _, argument := range f.arguments {
			if !f.argument(argument, more) {
				return
			}
		}
	}
}

// argument reads what an argument names: standard input, a file, or a folder.
func (f *feed) argument(argument string, yield func(item, error) bool) bool {
	if argument == stdinName {
		return f.one(stdinName, yield)
	}
	info, err := os.Stat(argument)
	if err != nil {
		return yield(item{}, err)
	}
	if info.IsDir() {
		return f.folder(argument, yield)
	}
	return f.file(argument, yield)
}

// logEndings are the endings of the files of a folder that are read, before .gz or .zst.
var logEndings = []string{".json", ".jsonl", ".ndjson", ".log"}

// isLog reports whether a file of a folder is read: by its name, such as a.json.gz, or because its
// text begins like JSON, whatever its name is. A file that cannot be read is one, so that its fault is
// reported.
func isLog(path string) bool {
	name := path
	for _, packed := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	return slices.ContainsFunc(logEndings, func(ending string) bool { return strings.HasSuffix(name, ending) }) || beginsLikeJSON(path)
}

// beginsLikeJSON reports whether the unpacked text of a file begins with { or [.
func beginsLikeJSON(path string) bool {
	const blanks = 4 << 10 // white space that may stand before them, in bytes
	file, err := os.Open(path)
	if err != nil {
		return true
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := importers.NewText(file)
	if err != nil {
		return true
	}
	defer text.Close()
	start, err := io.ReadAll(io.LimitReader(text, blanks))
	if start = bytes.TrimLeft(start, " \t\r\n"); len(start) > 0 {
		return start[0] == '{' || start[0] == '['
	}
	return err != nil
}

// folder reads the files below a folder in the order of their names. It passes over files that are
// no logs. A folder without any is an error.
func (f *feed) folder(folder string, yield func(item, error) bool) bool {
	taken, passed, more := 0, 0, true
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			more = yield(item{}, err)
		case entry.IsDir():
		case !entry.Type().IsRegular() || !isLog(path):
			passed++
		default:
			taken++
			more = f.file(path, yield)
		}
		if !more {
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case !more:
		return false
	case err != nil:
		return yield(item{}, err)
	case passed > 0 && !yield(item{place: folder, passed: passed, note: fmt.Sprintf("%d files passed over: their names do not end in %s, with or without .gz or .zst, and they do not begin with { or [",
		passed, strings.Join(logEndings, ", "))}, nil):
		return false
	case taken == 0:
		return yield(item{}, fmt.Errorf("%s: has no file of records", folder))
	}
	return true
}

// file reads a file unless it was read before.
func (f *feed) file(path string, yield func(item, error) bool) bool {
	if len(f.arguments) > 1 {
		whole, err := filepath.EvalSymlinks(path)
		if err == nil {
			whole, err = filepath.Abs(whole)
		}
		if err != nil {
			return yield(item{}, err)
		}
		id := maphash.String(f.seed, whole)
		if f.seen[id] {
			return yield(item{place: path, note: "passed over: it was read before"}, nil)
		}
		f.seen[id] = true
	}
	return f.one(path, yield)
}

func (f *feed) one(path string, yield func(item, error) bool) bool {
	input := io.NopCloser(f.stdin)
	if path != stdinName {
		file, err := os.Open(path)
		if err != nil {
			return yield(item{}, err)
		}
		input = file
	}
	defer func() { _ = input.Close() }() // it was only read
	text, err := importers.NewText(&counter{input, f.progress})
	if err != nil {
		return yield(item{}, fmt.Errorf("%s: %w", path, err))
	}
	defer text.Close()
	for record, err := range importers.Read(text, f.format) {
		place := path + ":" + record.Place()
		if err != nil {
			return yield(item{}, fmt.Errorf("%s: %w", place, err))
		}
		it, err := f.item(place, &record)
		if err != nil {
			yield(item{}, fmt.Errorf("%s: %w", place, err))
			return false
		}
		if !yield(it, nil) {
			return false
		}
	}
	return true
}

// item returns what is to be done with a record.
func (f *feed) item(place string, record *importers.Record) (it item, err error) {
	it = item{place: place, text: record.Entry, original: record.Original, note: record.Note}
	switch {
	case record.Note != "":
	case record.Err != nil:
		it.reason = record.Err.Error()
	case len(record.Entry) > maxText:
		it.reason = fmt.Sprintf("is longer than %d bytes", maxText)
	case !utf8.Valid(record.Entry):
		it.reason = "has text that is neither valid UTF-8 nor valid UTF-16"
	default:
		it.text, err = f.identify(record.Entry)
	}
	return it, err
}

// counter reports how much was read.
type counter struct {
	io.Reader
	progress func(n int)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.progress(n)
	return n, err
}

// inputs checks that every argument names something, and expands patterns. What a pattern gives is
// sorted by name.
func inputs(arguments []string) ([]string, error) {
	var paths []string
	for _, argument := range arguments {
		_, err := os.Stat(argument)
		switch {
		case argument == stdinName, err == nil:
			paths = append(paths, argument)
			continue
		case !strings.ContainsAny(argument, "*?["):
			return nil, err
		}
		matches, err := filepath.Glob(argument)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", argument, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("%s: no file matches", argument)
		}
		paths = append(paths, matches...)
	}
	return paths, nil
}

// totalSize returns the bytes of the inputs, -1 if that is not known: of a folder or a pipe.
func totalSize(paths []string) int64 {
	var total int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		total += info.Size()
	}
	if len(paths) == 0 {
		return -1
	}
	return total
}
