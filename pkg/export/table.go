package export

import (
	"bytes"
	"errors"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/parquet"
)

const (
	// groupSize is how much of a table is one row group, in bytes before compression. The more, the
	// better it is compressed and read. A worker has it in memory several times.
	groupSize = 8 << 20
	// maxMetadata is how much a checkpoint keeps of the row groups, in bytes before base64. A record of
	// MongoDB has at most 16 MB. The default columns take about 2 KB of it for each row group.
	maxMetadata = 8 << 20
	// maxState is how much a checkpoint keeps of the row groups and of a part that is not full.
	maxState = 10 << 20
)

// tableForm writes entries as a Parquet file. Its frames are row groups.
type tableForm struct {
	columns []parquet.Column
	table   *parquet.Writer
	row     []parquet.Value
	texts   []byte // of the current row
	source  bytes.Buffer
	decoder jsontext.Decoder
}

// newTable returns a file at its beginning.
func newTable(o Options) (*tableForm, error) {
	f := &tableForm{columns: make([]parquet.Column, len(o.Columns)), row: make([]parquet.Value, len(o.Columns))}
	for i, name := range o.Columns {
		f.columns[i] = parquet.Column{Name: name, Type: columnType(name, o.TimeFormat)}
	}
	return f, f.resume(&checkpoint{})
}

// columnType returns the type of a column. A path below an object has values of any type: they are
// texts, as in a CSV file.
func columnType(name string, times TimeFormat) parquet.Type {
	switch {
	case slices.Contains(timeFields, name) && times == EpochMillis:
		return parquet.Integer
	case slices.Contains(timeFields, name):
		return parquet.Timestamp
	case slices.Contains(listFields, name):
		return parquet.Texts
	}
	return parquet.Text
}

// listFields are the members that are lists of texts.
var listFields = append([]string{entryjson.NameChanged, entryjson.NameRemoved, entryjson.NameMasked}, revealedFields()...)

func (f *tableForm) resume(at *checkpoint) (err error) {
	f.table, err = parquet.NewWriter(f.columns, at.Table)
	return err
}

func (f *tableForm) save(at *checkpoint) { at.Table = f.table.State() }

func (f *tableForm) buffered() int { return f.table.Size() }

func (f *tableForm) frameSize() int { return groupSize }

func (f *tableForm) flush(dst []byte) ([]byte, error) { return f.table.Flush(dst), nil }

func (f *tableForm) end(dst []byte) ([]byte, error) { return f.table.Close(dst), nil }

func (f *tableForm) add(row []cell) error {
	f.texts = f.texts[:0]
	for i, c := range row {
		if err := f.set(&f.row[i], f.columns[i].Type, c.value); err != nil {
			return err
		}
	}
	f.table.Add(f.row)
	return nil
}

// set sets the value of a cell of the current row.
func (f *tableForm) set(v *parquet.Value, of parquet.Type, value jsontext.Value) (err error) {
	if v.Valid = value != nil; !v.Valid {
		return nil
	}
	switch of {
	case parquet.Texts:
		v.Texts, err = f.appendTexts(v.Texts[:0], value)
	case parquet.Integer, parquet.Timestamp:
		v.Integer, err = strconv.ParseInt(string(value), 10, 64)
	default:
		v.Text = value
		if value.Kind() == jsontext.KindString {
			v.Text, err = f.unquote(value)
		}
	}
	return err
}

// unquote returns the content of a string until the next row.
func (f *tableForm) unquote(value jsontext.Value) (_ []byte, err error) {
	begin := len(f.texts)
	f.texts, err = jsontext.AppendUnquote(f.texts, value)
	return f.texts[begin:], err
}

// appendTexts appends the elements of a list until the next row.
func (f *tableForm) appendTexts(dst [][]byte, list jsontext.Value) ([][]byte, error) {
	f.source = *bytes.NewBuffer(list)
	f.decoder.Reset(&f.source)
	if token, err := f.decoder.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginArray {
		return dst, errors.Join(err, errNoList)
	}
	for f.decoder.PeekKind() == jsontext.KindString {
		value, err := f.decoder.ReadValue()
		if err != nil {
			return dst, err
		}
		text, err := f.unquote(value)
		if err != nil {
			return dst, err
		}
		dst = append(dst, text)
	}
	return dst, nil
}

var errNoList = errors.New("not a list of texts")
