package export

import (
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/protect"
)

// Writer writes entries as a file in one form. It appends the file in frames. After any of them another
// process can continue.
type Writer struct {
	cells   cells
	form    form
	written int64 // entries
}

// form is a form of a file.
type form interface {
	// add buffers an entry's values.
	add(row []cell) error
	// buffered returns the size of what is in no frame yet, in bytes before compression.
	buffered() int
	// frameSize is the size from which on a frame is worth its cost.
	frameSize() int
	// flush appends what is buffered as a frame.
	flush(dst []byte) ([]byte, error)
	// end appends the rest of the file.
	end(dst []byte) ([]byte, error)
	// resume continues the file after the frames before the checkpoint, and save writes into the
	// checkpoint what that takes.
	resume(at *checkpoint) error
	save(at *checkpoint)
}

// NewWriter returns a writer of a file of entries of a tenant with these settings.
func NewWriter(o Options, settings *audit.Settings) (*Writer, error) {
	if o.Columns == nil && (o.Format == CSV || o.Format == Parquet) { // not from ParseOptions
		o.Columns = DefaultColumns()
	}
	w := &Writer{cells: cells{settings: settings, columns: o.Columns, millis: o.TimeFormat == EpochMillis || o.Format == Parquet}}
	if o.Format != Parquet {
		w.form = newText(o)
		return w, nil
	}
	table, err := newTable(o)
	w.form = table
	return w, err
}

// resume continues a file after the frames before a checkpoint.
func (w *Writer) resume(at *checkpoint) error {
	w.written = at.Written
	return w.form.resume(at)
}

// save writes into a checkpoint what resume needs.
func (w *Writer) save(at *checkpoint) {
	at.Written = w.written
	w.form.save(at)
}

// Add writes an entry. The error names the entry and has nothing of its content.
func (w *Writer) Add(e *audit.Entry) error { return w.add(e, entryjson.PlacesOf(e)) }

// AddRevealed is Add of an entry whose encrypted values were asked for.
func (w *Writer) AddRevealed(r *protect.Revealed) error { return w.add(&r.Entry, r.Places) }

func (w *Writer) add(e *audit.Entry, p entryjson.Places) error {
	row, err := w.cells.of(e, p)
	if err == nil {
		err = w.form.add(row)
	}
	if err != nil {
		return fmt.Errorf("export entry %s of %s: its stored text is not valid JSON", e.ID, e.Tenant)
	}
	w.written++
	return nil
}

// Size returns the number of bytes that are in no frame yet, before compression.
func (w *Writer) Size() int { return w.form.buffered() }

// isFull reports whether there is enough for a frame.
func (w *Writer) isFull() bool { return w.form.buffered() >= w.form.frameSize() }

// Flush appends what was added as a frame.
func (w *Writer) Flush(dst []byte) ([]byte, error) { return w.form.flush(dst) }

// End appends the rest of the file. Nothing can be added after it.
func (w *Writer) End(dst []byte) ([]byte, error) { return w.form.end(dst) }

// MediaType returns the media type of a file in this form.
func (o Options) MediaType() string {
	switch {
	case o.Compression == Gzip:
		return "application/gzip"
	case o.Compression == Zstd:
		return "application/zstd"
	case o.Format == Parquet:
		return "application/vnd.apache.parquet"
	case o.Format == CSV:
		return "text/csv; charset=utf-8; header=present"
	case o.Format == JSON:
		return "application/json"
	}
	return "application/x-ndjson"
}

// isPacked reports whether a file in this form is compressed.
func (o Options) isPacked() bool { return o.Compression != Plain || o.Format == Parquet }

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
