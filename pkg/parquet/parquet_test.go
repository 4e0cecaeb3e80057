package parquet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	parquetgo "github.com/parquet-go/parquet-go"

	"github.com/ocelot-audit/ocelot/pkg/parquet"
	"github.com/ocelot-audit/ocelot/pkg/testkit/enginetest"
	"github.com/ocelot-audit/ocelot/pkg/testkit/parquettest"
)

var columns = []parquet.Column{{"name", parquet.Text}, {"tags", parquet.Texts}, {"n", parquet.Integer}, {"at", parquet.Timestamp}}

// none stands for a value that a row does not have.
var none any

// table are rows with every kind of value at the edges.
var table = [][]any{
	{"ann", []string{"a", "b"}, int64(1), int64(1_767_322_986_678)},
	{none, none, none, none},
	{"", []string{}, int64(0), int64(0)},
	{"ünïcode 🦦 \"quoted\", 'q'\n\x00end", []string{"", "x.y", "ß"}, int64(math.MaxInt64), int64(-1)},
	{strings.Repeat("long", 1000), []string{"one"}, int64(math.MinInt64), int64(253_402_300_799_999)},
	{none, []string{"last"}, none, none},
	{"zoe", none, int64(-7), int64(1)},
}

// add buffers a row.
func add(w *parquet.Writer, row []any) {
	values := make([]parquet.Value, len(row))
	for i, v := range row {
		switch v := v.(type) {
		case string:
			values[i] = parquet.Value{Valid: true, Text: []byte(v)}
		case int64:
			values[i] = parquet.Value{Valid: true, Integer: v}
		case []string:
			values[i].Valid = true
			for _, text := range v {
				values[i].Texts = append(values[i].Texts, []byte(text))
			}
		}
	}
	w.Add(values)
}

// continued returns a writer of a file after a state, which has passed through a record as JSON.
func continued(t *testing.T, columns []parquet.Column, from parquet.State) *parquet.Writer {
	t.Helper()
	text, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	var state parquet.State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	w, err := parquet.NewWriter(columns, state)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// write writes the rows as row groups of so many rows, each by a writer of its own.
func write(t *testing.T, rows [][]any, groupRows int) []byte {
	t.Helper()
	w := continued(t, columns, parquet.State{})
	var file []byte
	for i, row := range rows {
		add(w, row)
		if (i+1)%groupRows == 0 {
			file = w.Flush(file)
			w = continued(t, columns, w.State())
		}
	}
	return w.Close(file)
}

// byName returns rows as a reader has them.
func byName(rows [][]any) (named []map[string]any) {
	for _, row := range rows {
		byName := map[string]any{}
		for i, v := range row {
			byName[columns[i].Name] = v
		}
		named = append(named, byName)
	}
	return named
}

func TestEveryRowIsRead(t *testing.T) {
	for _, groupRows := range []int{1, 3, len(table), 100} {
		got := parquettest.Read(t, write(t, table, groupRows))
		if diff := cmp.Diff(byName(table), got.Rows); diff != "" {
			t.Errorf("row groups of %d rows (-want +got):\n%s", groupRows, diff)
		}
		if got, want := len(got.Groups), (len(table)+groupRows-1)/groupRows; got != want {
			t.Errorf("got %d row groups of %d rows, want %d", got, groupRows, want)
		}
	}
}

func TestAFileWithoutRows(t *testing.T) {
	got := parquettest.Read(t, write(t, nil, 1))
	if len(got.Rows) != 0 {
		t.Errorf("got %d rows, want 0", len(got.Rows))
	}
	want := map[string]string{"name": "STRING", "tags": "LIST", "n": "INT64", "at": "TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS)"}
	if diff := cmp.Diff(want, got.Types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// A writer that continues a file writes the bytes that one writer would have written.
func TestAContinuedFileIsTheSame(t *testing.T) {
	w := continued(t, columns, parquet.State{})
	var want []byte
	for i, row := range table {
		add(w, row)
		if i%2 == 1 {
			want = w.Flush(want)
		}
	}
	if got := write(t, table, 2); !bytes.Equal(got, w.Close(want)) {
		t.Error("the file of several writers differs from the one of a single writer")
	}
}

func TestBoundsOfRowGroups(t *testing.T) {
	content := write(t, table[:3], 100)
	file, err := parquetgo.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		low, high string
		nulls     int64
	}{{"", "ann", 1}, {"", "", 2}, {"\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x00\x00\x00\x00\x00", 1}} {
		got := file.Metadata().RowGroups[0].Columns[i].MetaData.Statistics
		if string(got.MinValue) != want.low {
			t.Errorf("column %d: got the lowest value %q, want %q", i, got.MinValue, want.low)
		}
		if string(got.MaxValue) != want.high {
			t.Errorf("column %d: got the highest value %q, want %q", i, got.MaxValue, want.high)
		}
		if got.NullCount != want.nulls {
			t.Errorf("column %d: got %d nulls, want %d", i, got.NullCount, want.nulls)
		}
	}
}

// A damaged page is noticed by its checksum.
func TestADamagedPageIsNoticed(t *testing.T) {
	content := write(t, table, 100)
	content[len(content)/4] ^= 1
	file, err := parquetgo.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	rows := file.RowGroups()[0].Rows()
	buffer := make([]parquetgo.Row, len(table))
	if _, err := rows.ReadRows(buffer); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got error %v from a damaged page, want one", err)
	}
	if err := rows.Close(); err != nil {
		t.Log(err)
	}
}

// Wide tables have long lists in their metadata, and long runs of levels.
func TestManyColumnsAndRows(t *testing.T) {
	wide := make([]parquet.Column, 200)
	for i := range wide {
		wide[i] = parquet.Column{Name: fmt.Sprintf("metadata.c%d", i), Type: parquet.Type(i % 4)}
	}
	w := continued(t, wide, parquet.State{})
	random := rand.New(rand.NewPCG(1, 2))
	var want []map[string]any
	for range 300 {
		row, named := make([]any, len(wide)), map[string]any{}
		for i, c := range wide {
			if random.IntN(3) > 0 {
				row[i] = randomValue(random, c.Type)
			}
			named[c.Name] = row[i]
		}
		add(w, row)
		want = append(want, named)
	}
	if diff := cmp.Diff(want, parquettest.Read(t, w.Close(nil)).Rows); diff != "" {
		t.Errorf("(-want +got):\n%.2000s", diff)
	}
}

func randomValue(random *rand.Rand, of parquet.Type) any {
	text := func() string { return strings.Repeat("v", random.IntN(5)) }
	switch of {
	case parquet.Text:
		return text()
	case parquet.Texts:
		list := make([]string, random.IntN(4))
		for i := range list {
			list[i] = text()
		}
		return list
	}
	return random.Int64()
}

// TestOtherReaders reads a file with what users have.
func TestOtherReaders(t *testing.T) {
	readers := enginetest.ParquetReaders(t)
	content := write(t, table, 3)
	asJSON := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for path, types := range map[string]map[string]string{
		"/pyarrow": {"name": "string", "tags": "list<element: string not null>", "n": "int64", "at": "timestamp[ms, tz=UTC]"},
		"/duckdb?sql=" + url.QueryEscape(`SELECT name, tags, n, epoch_ms("at") AS "at" FROM file`): {"name": "VARCHAR", "tags": "VARCHAR[]", "n": "BIGINT", "at": "BIGINT"},
	} {
		got := read(t, readers+path, content)
		if diff := cmp.Diff(types, got.Types); diff != "" {
			t.Errorf("%s: types (-want +got):\n%s", path, diff)
		}
		if diff := cmp.Diff(asJSON(table), asJSON(got.Rows)); diff != "" {
			t.Errorf("%s: rows (-want +got):\n%s", path, diff)
		}
	}
	got := read(t, readers+"/duckdb?sql="+url.QueryEscape(`SELECT name FROM file WHERE list_contains(tags, 'x.y') OR "at" = TIMESTAMPTZ '2026-01-02 03:03:06.678Z' ORDER BY n`), content)
	if want := `[["ann"],[` + asJSON(table[3][0]) + `]]`; asJSON(got.Rows) != want {
		t.Errorf("the query answers %s, want %s", asJSON(got.Rows), want)
	}
}

// answer is what a reader answers.
type answer struct {
	Types map[string]string
	Rows  []json.RawMessage
}

func read(t *testing.T, address string, content []byte) (got answer) {
	t.Helper()
	response, err := http.Post(address, "application/vnd.apache.parquet", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %s", address, response.StatusCode, body)
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	return got
}
