package export

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// frameSize is how much text is compressed as one frame.
const frameSize = 1 << 20

// textForm writes entries as JSON, NDJSON or CSV. Its frames are texts, each compressed alone.
// Decompressed they are one text.
type textForm struct {
	options Options
	frames  *frames
	text    []byte // not in a frame yet
	cell    []byte // of a CSV file, without quotes
	rows    int64
	begun   bool // the file has a frame
}

// newText returns a file at its beginning.
func newText(o Options) *textForm {
	f := &textForm{options: o, frames: newFrames(o.Compression)}
	f.begin()
	return f
}

func (f *textForm) resume(at *checkpoint) error {
	f.text, f.rows, f.begun = f.text[:0], at.Written, true
	return nil
}

func (f *textForm) save(*checkpoint) {}

func (f *textForm) buffered() int { return len(f.text) }

func (f *textForm) frameSize() int { return frameSize }

// flush appends a frame. A file has one even if it has no text.
func (f *textForm) flush(dst []byte) (_ []byte, err error) {
	if len(f.text) == 0 && f.begun {
		return dst, nil
	}
	dst, err = f.frames.append(dst, f.text)
	f.text, f.begun = f.text[:0], true
	return dst, err
}

// end appends what follows the last entry.
func (f *textForm) end(dst []byte) ([]byte, error) {
	if f.options.Format == JSON {
		f.text = append(f.text, "\n]\n"...)
	}
	return f.flush(dst)
}

// byteOrderMark is that of UTF-8. Spreadsheets take a CSV file without it for another encoding.
const byteOrderMark = "\xEF\xBB\xBF"

// begin writes what precedes the first entry.
func (f *textForm) begin() {
	switch f.options.Format {
	case JSON:
		f.text = append(f.text, '[')
	case CSV:
		if f.options.BOM {
			f.text = append(f.text, byteOrderMark...)
		}
		for i, name := range f.options.Columns {
			if i > 0 {
				f.text = append(f.text, ',')
			}
			f.text = appendCSV(f.text, []byte(name))
		}
		f.text = append(f.text, '\r', '\n')
	}
}

func (f *textForm) add(row []cell) (err error) {
	switch f.options.Format {
	case CSV:
		err = f.addLine(row)
	case JSON:
		if f.rows > 0 {
			f.text = append(f.text, ',')
		}
		f.text, err = appendObject(append(f.text, '\n'), row)
	default:
		f.text, err = appendObject(f.text, row)
		f.text = append(f.text, '\n')
	}
	f.rows++
	return err
}

// appendObject appends the values that there are.
func appendObject(dst []byte, row []cell) (_ []byte, err error) {
	begin := len(dst)
	for _, c := range row {
		if c.value == nil {
			continue
		}
		dst = append(dst, ',')
		if dst, err = jsontext.AppendQuote(dst, c.name); err != nil {
			return dst, err
		}
		dst = append(append(dst, ':'), c.value...)
	}
	if len(dst) == begin {
		dst = append(dst, '{')
	}
	dst[begin] = '{' // instead of the first comma
	return append(dst, '}'), nil
}

// addLine appends a line of RFC 4180. An absent value is an empty cell, and an empty text is two
// quotes.
func (f *textForm) addLine(row []cell) (err error) {
	for i, c := range row {
		if i > 0 {
			f.text = append(f.text, ',')
		}
		switch c.value.Kind() {
		case jsontext.KindInvalid: // absent
		case jsontext.KindString:
			if f.cell, err = jsontext.AppendUnquote(f.cell[:0], c.value); err != nil {
				return err
			}
			f.text = appendCSV(f.text, f.cell)
		default:
			f.text = appendCSV(f.text, c.value)
		}
	}
	f.text = append(f.text, '\r', '\n')
	return nil
}

// formula are the first characters by which spreadsheets take a cell for a formula. See
// https://owasp.org/www-community/attacks/CSV_Injection.
const formula = "=+-@\t\r"

// endOfData is a line that ends a CSV file for PostgreSQL, unless it is quoted.
const endOfData = `\.`

// appendCSV appends a cell.
func appendCSV(dst, text []byte) []byte {
	prefix := ""
	if len(text) > 0 && strings.IndexByte(formula, text[0]) >= 0 {
		prefix = "'"
	}
	if len(text) > 0 && string(text) != endOfData && !bytes.ContainsAny(text, "\",\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		return append(append(dst, prefix...), text...)
	}
	dst = append(append(dst, '"'), prefix...)
	for _, c := range text {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// frames compresses texts, each as one frame. It keeps what a compression needs in memory.
type frames struct {
	how  Compression
	gzip *gzip.Writer
	zstd *zstd.Encoder
}

func newFrames(how Compression) *frames { return &frames{how: how} }

// append appends a text as a frame.
func (f *frames) append(dst, text []byte) ([]byte, error) {
	switch f.how {
	case Gzip:
		return f.appendGzip(dst, text)
	case Zstd:
		if f.zstd == nil {
			var err error
			if f.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true)); err != nil {
				return dst, err
			}
		}
		return f.zstd.EncodeAll(text, dst), nil
	}
	return append(dst, text...), nil
}

func (f *frames) appendGzip(dst, text []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	if f.gzip == nil {
		f.gzip = gzip.NewWriter(out)
	}
	f.gzip.Reset(out)
	if _, err := f.gzip.Write(text); err != nil {
		return dst, err
	}
	if err := f.gzip.Close(); err != nil {
		return dst, err
	}
	return out.Bytes(), nil
}
