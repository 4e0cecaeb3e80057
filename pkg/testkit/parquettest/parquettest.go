// Package parquettest reads Parquet files in tests, with a library that shares nothing with the
// writer.
package parquettest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// Table is the content of a file.
type Table struct {
	// Types are the columns' types, as the format names them.
	Types  map[string]string
	Rows   []map[string]any // nil, string, []string or int64 by column
	Groups []int64          // rows of each row group
}

// Read reads a whole file, and its checksums.
func Read(t testing.TB, content []byte) Table {
	t.Helper()
	file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	table := Table{Types: map[string]string{}}
	for _, field := range file.Schema().Fields() {
		table.Types[field.Name()] = field.Type().String()
	}
	for _, group := range file.RowGroups() {
		table.Groups = append(table.Groups, group.NumRows())
		table.Rows = append(table.Rows, rowsOf(t, file.Schema(), group)...)
	}
	return table
}

func rowsOf(t testing.TB, schema *parquet.Schema, group parquet.RowGroup) (rows []map[string]any) {
	t.Helper()
	reader := group.Rows()
	defer func() {
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}()
	buffer := make([]parquet.Row, 100)
	for {
		n, err := reader.ReadRows(buffer)
		for _, row := range buffer[:n] {
			rows = append(rows, values(schema, row))
		}
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// values returns a row by the names of its columns.
func values(schema *parquet.Schema, row parquet.Row) map[string]any {
	byName := map[string]any{}
	row.Range(func(column int, values []parquet.Value) bool {
		path := schema.Columns()[column]
		byName[path[0]] = value(values, len(path) > 1)
		return true
	})
	return byName
}

func value(values []parquet.Value, isList bool) any {
	switch {
	case isList && values[0].DefinitionLevel() == 0 || !isList && values[0].IsNull():
		return nil
	case isList:
		list := []string{}
		for _, v := range values {
			if !v.IsNull() {
				list = append(list, strings.Clone(string(v.ByteArray())))
			}
		}
		return list
	case values[0].Kind() == parquet.Int64:
		return values[0].Int64()
	}
	return string(values[0].ByteArray())
}
