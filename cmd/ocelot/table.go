package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rivo/uniseg"
)

// row is what a table shows of an entry.
type row struct {
	Timestamp    string `json:"timestamp"`
	Severity     string `json:"severity"`
	UserID       string `json:"user_id"`
	Action       string `json:"action"`
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id"`
	Message      string `json:"message"`
}

func (r row) cells() []string {
	resource := r.ResourceType
	if r.ResourceID != "" {
		resource += " " + r.ResourceID
	}
	cells := []string{r.Timestamp, r.Severity, r.UserID, r.Action, resource, r.Message}
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	return cells
}

// columns of the entries' table, each with its greatest width on a terminal. The
// last one gets the rest of the line.
var columns = []struct {
	title    string
	maxWidth int
}{{"TIMESTAMP", 29}, {"SEVERITY", 8}, {"USER", 28}, {"ACTION", 22}, {"RESOURCE", 32}, {"MESSAGE", 0}}

const (
	severityColumn = 1
	// minLastWidth is the last column's width on a narrow terminal.
	minLastWidth = 20
)

// tablePrinter prints entries as aligned lines, cut to the terminal's width.
type tablePrinter struct {
	out     *bufio.Writer
	con     *console
	palette palette
	widths  []int // of the first page's cells, kept for the following ones
}

func (p *tablePrinter) page(items []json.RawMessage) error {
	rows, err := rowsOf(items)
	if err != nil {
		return err
	}
	if p.widths == nil {
		if len(rows) == 0 {
			return nil
		}
		p.measure(rows)
		if err := p.header(); err != nil {
			return err
		}
	}
	return p.lines(rows)
}

// rowsOf are the cells of the entries.
func rowsOf(items []json.RawMessage) ([][]string, error) {
	rows := make([][]string, len(items))
	for i, item := range items {
		var r row
		if err := json.Unmarshal(item, &r); err != nil {
			return nil, fmt.Errorf("the answer has an entry that cannot be read: %w", err)
		}
		rows[i] = r.cells()
	}
	return rows, nil
}

func (p *tablePrinter) header() error {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	return p.line(titles, func(int, string) string { return bold })
}

func (p *tablePrinter) lines(rows [][]string) error {
	for _, cells := range rows {
		if err := p.line(cells, cellStyle); err != nil {
			return err
		}
	}
	return nil
}

// measure sets the columns' widths; none becomes narrower. Without a terminal, the
// table shows every value in full.
func (p *tablePrinter) measure(rows [][]string) {
	if p.widths == nil {
		p.widths = make([]int, len(columns))
	}
	used := 0
	for i, c := range columns {
		p.widths[i] = max(p.widths[i], uniseg.StringWidth(c.title))
		for _, cells := range rows {
			p.widths[i] = max(p.widths[i], uniseg.StringWidth(cells[i]))
		}
		if p.con.width > 0 && c.maxWidth > 0 {
			p.widths[i] = min(p.widths[i], c.maxWidth)
		}
		if i < len(columns)-1 {
			used += p.widths[i] + 2
		}
	}
	if p.con.width > 0 {
		p.widths[len(columns)-1] = max(minLastWidth, p.con.width-used)
	}
}

func cellStyle(column int, cell string) string {
	switch column {
	case 0:
		return dim
	case severityColumn:
		return severityStyle(cell)
	}
	return ""
}

func (p *tablePrinter) line(cells []string, style func(column int, cell string) string) error {
	var b strings.Builder
	for i, cell := range cells {
		last := i == len(cells)-1
		if last && cell == "" {
			break
		}
		shown := cell
		if p.con.width > 0 {
			shown = fit(cell, p.widths[i])
		}
		if !last {
			shown = pad(shown, p.widths[i])
		}
		b.WriteString(p.palette.paint(style(i, cell), shown))
		if !last {
			b.WriteString("  ")
		}
	}
	_, err := p.out.WriteString(strings.TrimRight(b.String(), " ") + "\n")
	return err
}

func (p *tablePrinter) end(next string) error {
	switch {
	case p.widths == nil:
		p.con.report("No entries.")
	case next != "":
		p.con.report("There are more entries: use --limit or --all.")
	}
	return nil
}
