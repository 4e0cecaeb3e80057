package parquet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	parquetgo "github.com/parquet-go/parquet-go"

	"github.com/ocelot-audit/ocelot/pkg/parquet"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

// readAll reads a file as the rows from which write makes one.
func readAll(content []byte) (rows [][]any, err error) {
	r, err := parquet.Open(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	for row, err := range r.All() {
		if err != nil {
			return nil, err
		}
		rows = append(rows, valuesOf(r.Columns(), row))
	}
	if int64(len(rows)) != r.Rows() {
		return nil, fmt.Errorf("read %d rows, want the %d that Rows returns", len(rows), r.Rows())
	}
	return rows, nil
}

// valuesOf copies a row.
func valuesOf(columns []parquet.Column, row []parquet.Value) []any {
	values := make([]any, len(row))
	for i, v := range row {
		switch {
		case !v.Valid:
		case columns[i].Type == parquet.Text:
			values[i] = string(v.Text)
		case columns[i].Type == parquet.Texts:
			texts := []string{}
			for _, text := range v.Texts {
				texts = append(texts, string(text))
			}
			values[i] = texts
		default:
			values[i] = v.Integer
		}
	}
	return values
}

func TestReaderReadsWhatWasWritten(t *testing.T) {
	for _, groupRows := range []int{1, 3, len(table), 100} {
		content := write(t, table, groupRows)
		got, err := readAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, got); diff != "" {
			t.Errorf("row groups of %d rows (-want +got):\n%s", groupRows, diff)
		}
		r, err := parquet.Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(columns, r.Columns()); diff != "" {
			t.Errorf("columns (-want +got):\n%s", diff)
		}
		if got, want := r.Groups(), (len(table)+groupRows-1)/groupRows; got != want {
			t.Errorf("got %d row groups of %d rows, want %d", got, groupRows, want)
		}
		wantGroups(t, r, groupRows)
	}
	if got, err := readAll(write(t, nil, 1)); err != nil || len(got) > 0 {
		t.Errorf("a file without rows: got %d rows and the error %v, want neither", len(got), err)
	}
}

// wantGroups reads the row groups from the last to the first.
func wantGroups(t *testing.T, r *parquet.Reader, groupRows int) {
	t.Helper()
	for i := r.Groups() - 1; i >= 0; i-- {
		var got [][]any
		for row, err := range r.Group(i) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, valuesOf(columns, row))
		}
		if diff := cmp.Diff(table[i*groupRows:min((i+1)*groupRows, len(table))], got); diff != "" {
			t.Errorf("row group %d of %d rows (-want +got):\n%s", i, groupRows, diff)
		}
	}
	for _, err := range r.All() { // who reads may stop
		if err != nil {
			t.Error(err)
		}
		break
	}
}

// Tables of every shape are read as parquet-go reads them.
func TestReaderReadsAsAnotherLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 100 {
		wide := make([]parquet.Column, 1+random.IntN(8))
		for i := range wide {
			wide[i] = parquet.Column{Name: fmt.Sprintf("c%d", i), Type: parquet.Type(random.IntN(4))}
		}
		content := writeRandom(t, random, wide)
		rows, err := readAll(content)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		var got []map[string]any
		for _, row := range rows {
			named := map[string]any{}
			for i, v := range row {
				named[wide[i].Name] = v
			}
			got = append(got, named)
		}
		if diff := cmp.Diff(parquettest.Read(t, content).Rows, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("round %d (-parquet-go +got):\n%.2000s", round, diff)
		}
	}
}

// writeRandom writes up to 300 rows in row groups of random sizes.
func writeRandom(t *testing.T, random *rand.Rand, wide []parquet.Column) (file []byte) {
	t.Helper()
	w := continued(t, wide, parquet.State{})
	share := 1 + random.IntN(10) // of values that there are
	for range random.IntN(300) {
		row := make([]any, len(wide))
		for i, c := range wide {
			if random.IntN(10) < share {
				row[i] = randomValue(random, c.Type)
			}
		}
		add(w, row)
		if random.IntN(50) == 0 {
			file = w.Flush(file)
		}
	}
	return w.Close(file)
}

// typed reports whether the error is one that Reader promises.
func typed(err error) bool {
	return errors.Is(err, parquet.ErrDamaged) || errors.Is(err, parquet.ErrUnsupported)
}

// Whatever bit of a file flips: it is noticed, or the rows are the same. Some bits are of bounds, which
// Reader does not use.
func TestReaderNoticesDamage(t *testing.T) {
	content := write(t, table, 3)
	unnoticed := 0
	for i := range content {
		for bit := range 8 {
			damaged := slices.Clone(content)
			damaged[i] ^= 1 << bit
			got, err := readAll(damaged)
			if err == nil {
				unnoticed++
				if diff := cmp.Diff(table, got); diff != "" {
					t.Errorf("bit %d of byte %d flipped (-want +got):\n%.500s", bit, i, diff)
				}
			} else if !typed(err) {
				t.Errorf("bit %d of byte %d flipped: got error %v, want %v or %v", bit, i, err, parquet.ErrDamaged, parquet.ErrUnsupported)
			}
		}
	}
	if all := 8 * len(content); unnoticed > all/4 {
		t.Errorf("%d of %d flipped bits went unnoticed, want at most a quarter", unnoticed, all)
	}
}

func TestReaderNoticesCutFiles(t *testing.T) {
	content := write(t, table, 3)
	for n := range content {
		for name, cut := range map[string][]byte{"the end": content[:n], "the beginning": content[len(content)-n:]} {
			if _, err := readAll(cut); !typed(err) {
				t.Errorf("%d bytes without %s: got error %v, want %v", n, name, err, parquet.ErrDamaged)
			}
		}
		// A reader of which less can be read than it says.
		r, err := parquet.Open(bytes.NewReader(content[:n]), int64(len(content)))
		if err == nil {
			t.Errorf("%d bytes instead of %d: got %d rows, want an error", n, len(content), r.Rows())
		} else if !errors.Is(err, parquet.ErrDamaged) {
			t.Errorf("%d bytes instead of %d: got error %v, want %v", n, len(content), err, parquet.ErrDamaged)
		}
	}
}

// brokenAt fails to read from an offset on.
type brokenAt struct {
	*bytes.Reader
	offset int64
}

var errBroken = errors.New("the connection broke")

func (b brokenAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset <= b.offset && b.offset < offset+int64(len(p)) {
		return 0, errBroken
	}
	return b.Reader.ReadAt(p, offset)
}

func TestReaderReturnsTheErrorsOfItsSource(t *testing.T) {
	content := write(t, table, 3)
	for _, offset := range []int64{0, 10, int64(len(content)) - 100, int64(len(content)) - 1} {
		r, err := parquet.Open(brokenAt{bytes.NewReader(content), offset}, int64(len(content)))
		if err == nil {
			for _, err = range r.All() {
			}
		}
		if !errors.Is(err, errBroken) || typed(err) {
			t.Errorf("broken at %d: got error %v, want %v", offset, err, errBroken)
		}
	}
}

func TestReaderRefusesWhatOthersWrite(t *testing.T) {
	type row struct {
		Name string  `parquet:"name,optional"`
		N    *int64  `parquet:"n"`
		At   float64 `parquet:"at"`
	}
	type text struct {
		Name *string `parquet:"name,optional,zstd"`
	}
	type dictionary struct {
		Name *string `parquet:"name,optional,zstd,dict"`
	}
	type snappy struct {
		Name *string `parquet:"name,optional,snappy"`
	}
	name := "ann"
	for what, content := range map[string][]byte{
		"other types":     writtenByOthers(t, row{Name: "ann"}),
		"an index":        writtenByOthers(t, text{&name}, text{}, text{&name}, text{}),
		"a dictionary":    writtenByOthers(t, dictionary{&name}, dictionary{}),
		"another codec":   writtenByOthers(t, snappy{&name}),
		"encrypted":       append(bytes.Repeat([]byte("PAR1"), 5), "PARE"...),
		"a bare list":     writtenByOthers(t, struct{ L []string }{[]string{"a"}}),
		"a required text": writtenByOthers(t, struct{ S string }{"s"}),
	} {
		if rows, err := readAll(content); !errors.Is(err, parquet.ErrUnsupported) {
			t.Errorf("%s: got %d rows and the error %v, want %v", what, len(rows), err, parquet.ErrUnsupported)
		}
	}
}

func writtenByOthers[T any](t *testing.T, rows ...T) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := parquetgo.Write(&file, rows); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// levels returns levels as a page has them: their length, then runs of a length and a level.
func levels(runs ...uint64) []byte {
	var encoded []byte
	for i := 0; i+1 < len(runs); i += 2 {
		encoded = append(binary.AppendUvarint(encoded, runs[i]<<1), byte(runs[i+1]))
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(encoded))), encoded...)
}

func TestReaderRefusesHostilePages(t *testing.T) {
	one := []byte{1, 0, 0, 0, 'x'}
	huge := []byte{255, 255, 255, 255, 'x'}
	for name, test := range map[string]struct {
		of     parquet.Type
		rows   int64
		levels int
		pieces [][]byte
	}{
		"nothing":                    {parquet.Text, 1, 1, nil},
		"levels longer than a page":  {parquet.Text, 1, 1, [][]byte{huge}},
		"no value":                   {parquet.Text, 1, 1, [][]byte{levels(1, 1)}},
		"a text longer than a page":  {parquet.Text, 1, 1, [][]byte{levels(1, 1), huge}},
		"half a number":              {parquet.Integer, 1, 1, [][]byte{levels(1, 1), one}},
		"a value too many":           {parquet.Text, 1, 1, [][]byte{levels(1, 1), one, one}},
		"fewer levels than rows":     {parquet.Text, 2, 2, [][]byte{levels(1, 0)}},
		"more levels than rows":      {parquet.Text, 1, 1, [][]byte{levels(2, 0)}},
		"a level too high":           {parquet.Text, 1, 1, [][]byte{levels(1, 2), one}},
		"empty runs":                 {parquet.Text, 1, 1, [][]byte{levels(0, 0, 0, 0, 0, 0)}},
		"half a run":                 {parquet.Text, 1, 1, [][]byte{{1, 0, 0, 0, 2}}},
		"a run without an end":       {parquet.Text, 1, 1, [][]byte{{2, 0, 0, 0, 255, 255}}},
		"levels packed as bits":      {parquet.Text, 8, 8, [][]byte{{2, 0, 0, 0, 3, 0}}},
		"a list that continues none": {parquet.Texts, 1, 1, [][]byte{levels(1, 1), levels(1, 2), one}},
		"a list with an absent text": {parquet.Texts, 1, 2, [][]byte{levels(1, 0, 1, 1), levels(1, 2, 1, 1), one}},
		"an empty list that goes on": {parquet.Texts, 1, 2, [][]byte{levels(1, 0, 1, 1), levels(1, 1, 1, 2), one}},
		"a list of too many rows":    {parquet.Texts, 1, 2, [][]byte{levels(2, 0), levels(2, 1)}},
		"no repetition levels":       {parquet.Texts, 1, 1, [][]byte{levels(), levels(1, 1)}},
		"rows without number":        {parquet.Text, 1 << 60, 1 << 60, [][]byte{levels(1<<60, 0)}},
	} {
		content, err := parquet.Craft([]parquet.Column{{Name: "c", Type: test.of}}, test.rows, []parquet.Page{{Levels: test.levels, Content: bytes.Join(test.pieces, nil)}})
		if err != nil {
			t.Fatal(err)
		}
		if rows, err := readAll(content); !typed(err) {
			t.Errorf("%s: got %d rows and the error %v, want %v", name, len(rows), err, parquet.ErrDamaged)
		}
	}
}

// A file of a few bytes does not take much memory, whatever its footer says.
func TestReaderTakesLittleMemoryForHostileFooters(t *testing.T) {
	list := func(field byte, n uint64) []byte {
		return append(binary.AppendUvarint([]byte{field, 0xFC}, n), make([]byte, 1000)...)
	}
	for name, content := range map[string][]byte{
		"a long footer":     append([]byte("PAR1 and then \xF0\xFF\xFF\xFF"), "PAR1"...),
		"a long schema":     parquet.Seal([]byte("PAR1"), list(0x29, 1<<40)),
		"many elements":     parquet.Seal([]byte("PAR1"), list(0x29, 1000)),
		"many row groups":   parquet.Seal([]byte("PAR1"), list(0x49, 1<<60)),
		"a long text":       parquet.Seal([]byte("PAR1"), []byte{0x68, 255, 255, 255, 255, 15}),
		"deep structures":   parquet.Seal([]byte("PAR1"), bytes.Repeat([]byte{0xFC}, 1<<20)),
		"deep lists":        parquet.Seal([]byte("PAR1"), append([]byte{0xF9}, bytes.Repeat([]byte{0x19}, 1<<20)...)),
		"deep maps":         parquet.Seal([]byte("PAR1"), append([]byte{0xFB}, bytes.Repeat([]byte{1, 0xBB}, 1<<20)...)),
		"numbers that last": parquet.Seal([]byte("PAR1"), bytes.Repeat([]byte{0xFF}, 1000)),
		"no fields":         parquet.Seal([]byte("PAR1"), []byte{0}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := parquet.Open(bytes.NewReader(content), int64(len(content)))
		runtime.ReadMemStats(&after)
		if !typed(err) {
			t.Errorf("%s: got error %v, want %v", name, err, parquet.ErrDamaged)
		}
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(4*len(content)+1<<20); got > limit {
			t.Errorf("%s: a file of %d bytes took %d bytes, want at most %d", name, len(content), got, limit)
		}
	}
}

// FuzzReader reads any file. What it reads is read again from a file that is written from it.
func FuzzReader(f *testing.F) {
	for _, rows := range [][][]any{nil, table[:1], table} {
		f.Add(writeTable(f, columns, rows))
	}
	f.Fuzz(func(t *testing.T, content []byte) { readTwice(t, content) })
}

// FuzzPage reads any content of a page, whose checksum is right.
func FuzzPage(f *testing.F) {
	f.Add(uint8(0), uint16(3), uint16(3), append(levels(1, 1, 2, 0), 1, 0, 0, 0, 'x'))
	f.Add(uint8(1), uint16(2), uint16(3), slices.Concat(levels(1, 0, 1, 1, 1, 0), levels(2, 2, 1, 1), []byte{1, 0, 0, 0, 'x', 0, 0, 0, 0}))
	f.Add(uint8(2), uint16(1), uint16(1), append(levels(1, 1), 1, 2, 3, 4, 5, 6, 7, 8))
	f.Fuzz(func(t *testing.T, of uint8, rows, levels uint16, page []byte) {
		content, err := parquet.Craft([]parquet.Column{{Name: "c", Type: parquet.Type(of % 4)}}, int64(rows), []parquet.Page{{Levels: int(levels), Content: page}})
		if err != nil {
			t.Fatal(err)
		}
		readTwice(t, content)
	})
}

func readTwice(t *testing.T, content []byte) {
	t.Helper()
	r, err := parquet.Open(bytes.NewReader(content), int64(len(content)))
	if err == nil && r.Rows() > 1000 {
		return // rows without values, which take no space, take their time
	}
	rows, err := readAll(content)
	if err != nil {
		if !typed(err) {
			t.Fatalf("got error %v, want %v or %v", err, parquet.ErrDamaged, parquet.ErrUnsupported)
		}
		return
	}
	again, err := readAll(writeTable(t, r.Columns(), rows))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, again); diff != "" {
		t.Errorf("read again (-first +second):\n%s", diff)
	}
}

// writeTable writes the rows as one row group.
func writeTable(t testing.TB, columns []parquet.Column, rows [][]any) []byte {
	t.Helper()
	w, err := parquet.NewWriter(columns, parquet.State{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		add(w, row)
	}
	return w.Close(nil)
}

func BenchmarkReader(b *testing.B) {
	var rows [][]any
	for i := range 10_000 {
		rows = append(rows, []any{fmt.Sprintf("user-%d", i), []string{"a", "b"}, int64(i), int64(i)})
	}
	content := writeTable(b, columns, rows)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		r, err := parquet.Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range r.All() {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
