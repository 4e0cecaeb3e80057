package main

import (
	"bufio"
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// followPause is how long pull --follow waits at the end of the log.
const followPause = 2 * time.Second

type pullCmd struct {
	readFlags
	After      string `placeholder:"CURSOR" xor:"after" help:"Continue after this cursor, or begin at the end of the log with now. Without it, pull begins at the oldest entry."`
	CursorFile string `type:"path" placeholder:"FILE" xor:"after" help:"Continue after the cursor in this file, if it exists, and write the cursor of what was printed to it."`
	Limit      int    `short:"n" default:"0" help:"Number of entries; 0 for all up to the end of the log."`
	Follow     bool   `help:"Wait for more at the end of the log, until Ctrl-C."`
}

// Help is what --help adds.
func (*pullCmd) Help() string {
	return `pull prints entries as NDJSON in the order of their arrival. With --cursor-file, each run continues where the last one ended: together they print every entry once, also one with an old timestamp. If a run is killed, the next one may repeat up to a page. Two runs must not use one file at the same time. A cursor does not expire.`
}

// Validate checks the numbers.
func (c *pullCmd) Validate() error {
	if c.Limit < 0 {
		return errors.New("--limit must not be negative")
	}
	return nil
}

// Run prints the entries that have arrived.
func (c *pullCmd) Run(ctx context.Context, con *console) error {
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	cursor, err := startCursor(c.After, c.CursorFile)
	if err == nil {
		err = endTornLine(con.out)
	}
	if err != nil {
		return err
	}
	p := &pull{con: con, service: service, params: params, file: c.CursorFile, cursor: cursor, limit: c.Limit}
	err = p.run(ctx, c.Follow)
	if c.Follow && ctx.Err() != nil {
		err = nil // Ctrl-C is how it ends
	}
	if p.file == "" && p.cursor != "" {
		con.report("To continue from here: --after %s", p.cursor)
	}
	return err
}

// pull copies the feed to the output.
type pull struct {
	con     *console
	service *client.Client
	params  url.Values
	file    string // "" for none
	cursor  string // of what was printed
	limit   int    // of the entries; 0: none
	printed int
}

// run prints page after page, up to the limit or the end of the log. With follow, it goes on
// there.
func (p *pull) run(ctx context.Context, follow bool) error {
	for {
		more, err := p.page(ctx)
		switch {
		case err != nil:
			return err
		case p.limit > 0 && p.printed >= p.limit:
			return nil
		case more:
		case !follow:
			return nil
		default:
			if err := backoff.Sleep(ctx, followPause); err != nil {
				return err
			}
		}
	}
}

// page prints one page. It stores the cursor once the page is printed.
func (p *pull) page(ctx context.Context) (more bool, err error) {
	size := audit.MaxPageLimit
	if p.limit > 0 {
		size = min(size, p.limit-p.printed)
	}
	p.params.Set("limit", strconv.Itoa(size))
	if p.cursor != "" {
		p.params.Set("cursor", p.cursor)
	}
	page, err := p.service.Feed(ctx, p.params)
	if err != nil {
		return false, err
	}
	// One write for the whole page, so that a kill seldom leaves the beginning of a line.
	out := bufio.NewWriterSize(p.con.out, audit.MaxPageBytes)
	if err := errors.Join((&linePrinter{out}).page(page.Items), out.Flush()); err != nil {
		return false, err
	}
	p.printed += len(page.Items)
	return page.More, p.advance(page.Next)
}

func (p *pull) advance(cursor string) error {
	if cursor == p.cursor {
		return nil
	}
	p.cursor = cursor
	if p.file == "" {
		return nil
	}
	if err := syncOutput(p.con.out); err != nil {
		return err
	}
	return storeCursor(p.file, cursor)
}
