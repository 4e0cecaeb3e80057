package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/ocelot-audit/ocelot/pkg/cloudtrail"
)

// maxText is the longest text that is sent as one entry, in bytes. It is well
// over the limit of an entry, so that the service says what is wrong, and well
// under the limit of a request.
const maxText = 1 << 20

const stdinName = "-"

// item is one entry of the input.
type item struct {
	place string // "file:line"
	text  []byte // without line breaks
	// reason is why the entry cannot be sent, "" if it can.
	reason string
}

// feed reads entries from files, one file after the other.
type feed struct {
	paths []string
	stdin io.Reader
	// items reads one input.
	items func(name string, r io.Reader) iter.Seq2[item, error]
	// progress gets the number of bytes read since the last call.
	progress func(n int)
}

// all returns the entries of every input. After an error it skips the rest of
// that input and continues with the next one.
func (f *feed) all(ctx context.Context) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for _, path := range f.paths {
			for it, err := range f.one(path) {
				if ctx.Err() != nil || !yield(it, err) {
					return
				}
			}
		}
	}
}

func (f *feed) one(path string) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		input := io.NopCloser(f.stdin)
		if path != stdinName {
			file, err := os.Open(path)
			if err != nil {
				yield(item{}, err)
				return
			}
			input = file
		}
		defer func() { _ = input.Close() }() // it was only read
		text, err := unpacked(&counter{input, f.progress})
		if err != nil {
			yield(item{}, fmt.Errorf("%s: %w", path, err))
			return
		}
		for it, err := range f.items(path, text) {
			if !yield(it, err) {
				return
			}
		}
	}
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

// unpacked returns the text of an input. It unpacks gzip.
func unpacked(r io.Reader) (*bufio.Reader, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(start, []byte{0x1f, 0x8b}) {
		return buffered, nil
	}
	unzipped, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return bufio.NewReaderSize(unzipped, 64<<10), nil
}

// cloudTrailItems reads a CloudTrail log file.
func cloudTrailItems(name string, r io.Reader) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		records := cloudtrail.NewReader(r)
		for n := 1; ; n++ {
			record, err := records.Next()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			it := item{place: fmt.Sprintf("%s: record %d", name, n)}
			if err != nil {
				yield(item{}, fmt.Errorf("%s: the rest of the file is skipped: %w", it.place, err))
				return
			}
			if it.text, err = cloudtrail.Entry(record); err != nil {
				it.reason = err.Error()
			}
			if !yield(limited(it), nil) {
				return
			}
		}
	}
}

// ndjsonItems reads one entry from each line that is not blank.
func ndjsonItems(identify func(line []byte) []byte) func(name string, r io.Reader) iter.Seq2[item, error] {
	return func(name string, r io.Reader) iter.Seq2[item, error] {
		return func(yield func(item, error) bool) {
			lines := bufio.NewReaderSize(r, 64<<10)
			for n := 1; ; n++ {
				line, err := readLine(lines)
				if err != nil && !errors.Is(err, io.EOF) {
					yield(item{}, fmt.Errorf("%s:%d: %w", name, n, err))
					return
				}
				if n == 1 {
					line = bytes.TrimPrefix(line, []byte("\ufeff"))
				}
				if line = bytes.Trim(line, " \t\r\n"); len(line) > 0 {
					it := limited(item{place: fmt.Sprintf("%s:%d", name, n), text: line})
					if it.reason == "" {
						it.text = identify(line)
					}
					if !yield(it, nil) {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}
	}
}

// limited gives an item that is too long a reason instead of its text.
func limited(it item) item {
	if len(it.text) > maxText {
		it.text, it.reason = nil, fmt.Sprintf("is longer than %d bytes", maxText)
	}
	return it
}

// readLine reads a line. It cuts a line that is longer than maxText a little
// after that length. The caller owns the result.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if room := maxText + 64 - len(line); room > 0 {
			line = append(line, part[:min(len(part), room)]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// inputs finds the files that the arguments name: files, folders (every file
// below that ends like a log), patterns, "-" for standard input. They keep the
// arguments' order; what a folder or pattern gives is sorted by name.
func inputs(arguments []string, endings []string) ([]string, error) {
	if len(arguments) == 0 {
		return []string{stdinName}, nil
	}
	var paths []string
	for _, argument := range arguments {
		found, err := inputsOf(argument, endings)
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	return paths, nil
}

func inputsOf(argument string, endings []string) ([]string, error) {
	if argument == stdinName {
		return []string{stdinName}, nil
	}
	info, err := os.Stat(argument)
	switch {
	case err == nil && info.IsDir():
		return filesBelow(argument, endings)
	case err == nil:
		return []string{argument}, nil
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
	return inputs(matches, endings)
}

func filesBelow(folder string, endings []string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		name := strings.TrimSuffix(path, ".gz")
		if err == nil && entry.Type().IsRegular() && slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(name, e) }) {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s: no file below ends in %s (or that and .gz)", folder, strings.Join(endings, ", "))
	}
	return paths, err
}
