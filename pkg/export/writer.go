package export

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Writer writes entries in one form. A file is what Begin, AppendEntry for each entry, and End
// append, one after the other.
type Writer struct {
	options Options
	cells   cells
	written int64 // entries
}

// NewWriter returns a writer of entries of a tenant with these settings.
func NewWriter(o Options, settings *audit.Settings) *Writer {
	if o.Format == CSV && o.Columns == nil {
		o.Columns = DefaultColumns()
	}
	return &Writer{options: o, cells: cells{settings: settings, columns: o.Columns, millis: o.TimeFormat == EpochMillis}}
}

// byteOrderMark is that of UTF-8. Spreadsheets take a CSV file without it for another encoding.
const byteOrderMark = "\xEF\xBB\xBF"

// Begin appends what precedes the first entry.
func (w *Writer) Begin(dst []byte) []byte {
	switch w.options.Format {
	case JSON:
		return append(dst, '[')
	case CSV:
		if w.options.BOM {
			dst = append(dst, byteOrderMark...)
		}
		for i, name := range w.options.Columns {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCSV(dst, name)
		}
		return append(dst, '\r', '\n')
	}
	return dst
}

// AppendEntry appends an entry. The error names the entry and has nothing of its content.
func (w *Writer) AppendEntry(dst []byte, e *audit.Entry) ([]byte, error) {
	row, err := w.cells.of(e)
	if err == nil {
		dst, err = w.appendRow(dst, row)
	}
	if err != nil {
		return dst, fmt.Errorf("export entry %s of %s: its stored text is not valid JSON", e.ID, e.Tenant)
	}
	w.written++
	return dst, nil
}

func (w *Writer) appendRow(dst []byte, row []cell) ([]byte, error) {
	switch w.options.Format {
	case CSV:
		return appendLine(dst, row)
	case JSON:
		if w.written > 0 {
			dst = append(dst, ',')
		}
		return appendObject(append(dst, '\n'), row)
	}
	dst, err := appendObject(dst, row)
	return append(dst, '\n'), err
}

// End appends what follows the last entry.
func (w *Writer) End(dst []byte) []byte {
	if w.options.Format == JSON {
		return append(dst, "\n]\n"...)
	}
	return dst
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

// appendLine appends a line of RFC 4180. An absent value is an empty cell, and an empty text is
// two quotes.
func appendLine(dst []byte, row []cell) ([]byte, error) {
	for i, c := range row {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch c.value.Kind() {
		case jsontext.KindInvalid: // absent
		case jsontext.KindString:
			text, err := jsontext.AppendUnquote(nil, c.value)
			if err != nil {
				return dst, err
			}
			dst = appendCSV(dst, string(text))
		default:
			dst = appendCSV(dst, string(c.value))
		}
	}
	return append(dst, '\r', '\n'), nil
}

// formula are the first characters by which spreadsheets take a cell for a formula. See
// https://owasp.org/www-community/attacks/CSV_Injection.
const formula = "=+-@\t\r"

// appendCSV appends a cell.
func appendCSV(dst []byte, text string) []byte {
	prefix := ""
	if text != "" && strings.IndexByte(formula, text[0]) >= 0 {
		prefix = "'"
	}
	if text != "" && !strings.ContainsAny(text, "\",\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		return append(append(dst, prefix...), text...)
	}
	dst = append(append(dst, '"'), prefix...)
	dst = append(dst, strings.ReplaceAll(text, `"`, `""`)...)
	return append(dst, '"')
}

// Compress returns a text as one frame. Frames are independent: those of a file, one after the
// other, unpack to their texts, one after the other.
func (c Compression) Compress(text []byte) ([]byte, error) {
	if c == Plain {
		return text, nil
	}
	return newFrames(c).append(nil, text)
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

// MediaType returns the media type of a file in this form.
func (o Options) MediaType() string {
	switch {
	case o.Compression == Gzip:
		return "application/gzip"
	case o.Compression == Zstd:
		return "application/zstd"
	case o.Format == CSV:
		return "text/csv; charset=utf-8; header=present"
	case o.Format == JSON:
		return "application/json"
	}
	return "application/x-ndjson"
}

// Extension returns the end of the name of a file in this form, with its dot.
func (o Options) Extension() string {
	extension := "." + string(o.Format)
	switch o.Compression {
	case Gzip:
		return extension + ".gz"
	case Zstd:
		return extension + ".zst"
	}
	return extension
}
