package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// csvColumns are the members of an entry that have one value. What has more is in json and ndjson.
var csvColumns = []string{
	"timestamp", "id", "severity", "user_id", "action", "resource_type", "resource_id", "message",
	"ip_address", "user_agent", "session_id", "request_id", "submitted_by", "received_at", "expires_at",
}

// csvPrinter prints entries as RFC 4180 has it, below a line with the columns' names. Values stay as
// they are, also those that a spreadsheet would take for a formula.
type csvPrinter struct {
	out   *csv.Writer
	begun bool
}

func (p *csvPrinter) page(items []json.RawMessage) error {
	p.begin()
	for _, item := range items {
		var entry map[string]any
		if err := json.Unmarshal(item, &entry); err != nil {
			return fmt.Errorf("the answer has an entry that cannot be read: %w", err)
		}
		cells := make([]string, len(csvColumns))
		for i, column := range csvColumns {
			cells[i], _ = entry[column].(string) // these members are strings, or absent
		}
		_ = p.out.Write(cells) // the writer keeps its first error
	}
	p.out.Flush()
	return p.out.Error()
}

func (p *csvPrinter) begin() {
	if !p.begun {
		p.begun = true
		_ = p.out.Write(csvColumns) // the writer keeps its first error
	}
}

func (p *csvPrinter) end(string) error {
	p.begin()
	p.out.Flush()
	return p.out.Error()
}

// csv prints the groups, or the counts over time.
func (c *statsCmd) csv(out io.Writer, stats client.Stats) error {
	w := csv.NewWriter(out)
	if c.Interval != nil {
		_ = w.Write([]string{"start", "count"}) // the writer keeps its first error
		for _, bucket := range stats.Histogram {
			_ = w.Write([]string{bucket.Start, strconv.FormatInt(bucket.Count, 10)})
		}
		w.Flush()
		return w.Error()
	}
	_ = w.Write(append(append([]string{}, c.fields...), "count"))
	for _, group := range stats.Groups {
		cells := make([]string, 0, len(c.fields)+1)
		for _, field := range c.fields {
			cells = append(cells, group.Values[field])
		}
		_ = w.Write(append(cells, strconv.FormatInt(group.Count, 10)))
	}
	w.Flush()
	return w.Error()
}
