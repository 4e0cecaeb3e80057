package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rivo/uniseg"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

type statsCmd struct {
	readFlags
	colorFlag
	Output      string        `short:"o" enum:"auto,table,json,csv" default:"auto" help:"table, json or csv; auto is table on a terminal, else json. csv needs either --group-by or --interval."`
	GroupBy     []string      `sep:"none" placeholder:"FIELD" help:"Count by these fields, up to two, such as action,severity. A part of a metadata path in quotes can have any characters: 'metadata.\"a,b\"'."`
	Interval    *durationFlag `placeholder:"DURATION" help:"Count over time by this interval, such as 15m, 1h, 1d or 1w. Days and weeks are those of the time zone."`
	TimeZone    string        `placeholder:"NAME" xor:"zone" help:"Time zone of the intervals and of dates in --since and --until, such as Europe/Berlin; by default UTC."`
	Local       bool          `xor:"zone" help:"Use the time zone of this machine."`
	Top         int           `default:"10" help:"Number of groups, the largest first."`
	MachineZone string        `env:"TZ" hidden:""`

	fields []string // of GroupBy
}

// Validate checks the fields and the numbers.
func (c *statsCmd) Validate() error {
	if len(c.GroupBy) > 0 {
		fields, err := audit.SplitFields(c.groupBy())
		if err != nil {
			return fmt.Errorf("--group-by %w", err)
		}
		for _, field := range fields {
			c.fields = append(c.fields, string(field))
		}
	}
	if len(c.fields) > audit.MaxGroupBy {
		return fmt.Errorf("--group-by takes up to %d fields", audit.MaxGroupBy)
	}
	if c.Top < 1 || c.Top > audit.MaxTop {
		return fmt.Errorf("--top must be from 1 to %d", audit.MaxTop)
	}
	if c.Interval != nil && c.Interval.Duration == 0 {
		return errors.New("--interval must be more than zero")
	}
	if c.Output == "csv" && (len(c.GroupBy) > 0) == (c.Interval != nil) {
		return errors.New("--output csv needs either --group-by or --interval")
	}
	return nil
}

// groupBy returns the fields as the API takes them.
func (c *statsCmd) groupBy() string { return strings.Join(c.GroupBy, ",") }

// Run prints the counts.
func (c *statsCmd) Run(ctx context.Context, con *console) error {
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	if len(c.GroupBy) > 0 {
		params.Set("group_by", c.groupBy())
		params.Set("top", strconv.Itoa(c.Top))
	}
	if c.Interval != nil {
		params.Set("interval", fmt.Sprintf("%.0fs", c.Interval.Seconds()))
	}
	zone, err := c.zone()
	if err != nil {
		return err
	}
	if zone != "" {
		params.Set("time_zone", zone)
	}
	stats, err := service.Stats(ctx, params)
	if err != nil {
		return err
	}
	if c.Output == "json" || c.Output == "auto" && !con.outTerminal {
		_, err := fmt.Fprintf(con.out, "%s\n", strings.TrimSpace(string(stats.Text)))
		return err
	}
	if c.Output == "csv" {
		return c.csv(con.out, stats)
	}
	out := bufio.NewWriter(con.out)
	return errors.Join(c.table(out, c.palette(con), stats), out.Flush())
}

// zone returns the name of the time zone that was chosen, "" if none was.
func (c *statsCmd) zone() (string, error) {
	if !c.Local {
		return c.TimeZone, nil
	}
	name := strings.TrimPrefix(c.MachineZone, ":")
	if name == "" {
		const link = "/etc/localtime" // on Linux and macOS a link into the tz database
		target, err := filepath.EvalSymlinks(link)
		if err != nil {
			return "", usagef("--local: this machine does not tell the name of its time zone; use --time-zone: %w", err)
		}
		name = filepath.ToSlash(target)
	}
	if _, ofDatabase, found := strings.Cut(name, "zoneinfo/"); found {
		name = ofDatabase
	}
	if strings.HasPrefix(name, "/") {
		return "", usagef("--local: this machine does not tell the name of its time zone; use --time-zone")
	}
	return name, nil
}

// table prints the counts for people.
func (c *statsCmd) table(out io.Writer, colors palette, stats client.Stats) error {
	if _, err := fmt.Fprintf(out, "%d entries of %d users\n", stats.Total, stats.DistinctUsers); err != nil {
		return err
	}
	if len(c.GroupBy) > 0 {
		if err := printCounts(out, colors, c.fields, groupRows(c.fields, stats)); err != nil {
			return err
		}
	}
	if c.Interval == nil {
		return nil
	}
	rows := make([]countRow, len(stats.Histogram))
	for i, bucket := range stats.Histogram {
		rows[i] = countRow{cells: []string{printable(bucket.Start)}, count: bucket.Count}
	}
	return printCounts(out, colors, []string{"start"}, rows)
}

// countRow is one line of a table of counts.
type countRow struct {
	cells []string
	count int64
}

func groupRows(by []string, stats client.Stats) []countRow {
	rows := make([]countRow, len(stats.Groups))
	for i, group := range stats.Groups {
		rows[i].count = group.Count
		for _, field := range by {
			value := group.Values[field]
			if value == "" {
				value = "-" // entries without one
			}
			rows[i].cells = append(rows[i].cells, printable(value))
		}
	}
	return rows
}

const barWidth = 40

// printCounts prints aligned rows, each with its count and a bar.
func printCounts(out io.Writer, colors palette, titles []string, rows []countRow) error {
	widths := make([]int, len(titles))
	countWidth, most := len("COUNT"), int64(1)
	for i, title := range titles {
		widths[i] = uniseg.StringWidth(title)
		for _, r := range rows {
			widths[i] = max(widths[i], uniseg.StringWidth(r.cells[i]))
		}
	}
	for _, r := range rows {
		countWidth = max(countWidth, len(strconv.FormatInt(r.count, 10)))
		most = max(most, r.count)
	}
	var header strings.Builder
	for i, title := range titles {
		header.WriteString(pad(strings.ToUpper(printable(title)), widths[i]) + "  ")
	}
	fmt.Fprintf(&header, "%*s", countWidth, "COUNT")
	if _, err := fmt.Fprintf(out, "\n%s\n", colors.paint(bold, header.String())); err != nil {
		return err
	}
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r.cells {
			line.WriteString(pad(cell, widths[i]) + "  ")
		}
		bar := strings.Repeat("█", int(max(0, r.count)*barWidth/most))
		fmt.Fprintf(&line, "%*d  %s", countWidth, r.count, bar)
		if _, err := fmt.Fprintln(out, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
