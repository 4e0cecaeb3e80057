package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

type searchCmd struct {
	readFlags
	encryptedFlags
	outputFlag
	colorFlag
	localFlag
	Sort  string `enum:"-timestamp,+timestamp,timestamp" default:"-timestamp" help:"-timestamp (the newest first) or timestamp (the oldest first)."`
	Limit int    `short:"n" default:"50" help:"Number of entries."`
	All   bool   `help:"Every entry, without the limit."`
}

// Validate checks the numbers.
func (c *searchCmd) Validate() error {
	if c.Limit < 1 {
		return errors.New("--limit must be at least 1")
	}
	_, err := c.matches()
	return err
}

// entryPrinter prints entries in one form.
type entryPrinter interface {
	page(items []json.RawMessage) error
	// end gets the cursor of the entries that were not printed, "" if there are none.
	end(next string) error
}

// Run prints the entries.
func (c *searchCmd) Run(ctx context.Context, con *console) error {
	c.dates = c.in(con)
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	params.Set("sort", c.Sort)
	out := bufio.NewWriter(con.out)
	return c.print(ctx, service, params, c.wrap(con, c.printer(con, out, c.palette(con))), out)
}

// print requests and prints page after page.
func (c *searchCmd) print(ctx context.Context, service *client.Client, params url.Values, printer entryPrinter, out *bufio.Writer) error {
	left := c.Limit
	for {
		size := audit.MaxPageLimit
		if !c.All {
			size = min(size, left)
		}
		params.Set("limit", strconv.Itoa(size))
		page, err := c.search(ctx, service, params)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		next := ""
		if page.Next != nil {
			next = *page.Next
		}
		left -= len(page.Items)
		if err := errors.Join(printer.page(page.Items), out.Flush()); err != nil {
			return err
		}
		if next == "" || !c.All && left <= 0 {
			return errors.Join(printer.end(next), out.Flush())
		}
		params.Set("cursor", next)
	}
}

// printer prints in the form that was chosen.
func (f *outputFlag) printer(con *console, out *bufio.Writer, colors palette) entryPrinter {
	switch {
	case f.Output == "json":
		return &jsonPrinter{out: out}
	case f.Output == "csv":
		return &csvPrinter{out: csv.NewWriter(out)}
	case f.Output == "table" || f.Output == "auto" && con.outTerminal:
		return &tablePrinter{out: out, con: con, palette: colors}
	}
	return &linePrinter{out: out}
}

// linePrinter prints NDJSON: each entry as the service spells it.
type linePrinter struct{ out *bufio.Writer }

func (p *linePrinter) page(items []json.RawMessage) error {
	for _, item := range items {
		if _, err := fmt.Fprintf(p.out, "%s\n", item); err != nil {
			return err
		}
	}
	return nil
}

func (*linePrinter) end(string) error { return nil }

// jsonPrinter prints one document in the shape of the API's lists.
type jsonPrinter struct {
	out   *bufio.Writer
	begun bool
}

func (p *jsonPrinter) page(items []json.RawMessage) error {
	for _, item := range items {
		if _, err := fmt.Fprintf(p.out, "%s%s", p.separator(), item); err != nil {
			return err
		}
	}
	return nil
}

func (p *jsonPrinter) separator() string {
	if p.begun {
		return ",\n"
	}
	p.begun = true
	return "{\"items\":[\n"
}

func (p *jsonPrinter) end(next string) error {
	if !p.begun {
		if _, err := p.out.WriteString(`{"items":[`); err != nil {
			return err
		}
	}
	cursor := []byte("null")
	if next != "" {
		var err error
		if cursor, err = json.Marshal(next); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.out, "],\"next\":%s}\n", cursor)
	return err
}
