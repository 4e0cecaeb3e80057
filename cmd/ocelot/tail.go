package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

type tailCmd struct {
	serviceFlags
	queryFlags
	outputFlag
	colorFlag
	StreamURL  string `name:"stream-url" env:"OCELOT_STREAM_URL" placeholder:"URL" group:"Service:" help:"Address of the live stream if it differs from the service's, as on AWS (wss://host/stage)."`
	After      string `placeholder:"CURSOR" xor:"after" help:"Continue after this cursor, which is valid for 24 hours; by default only entries stored from now on."`
	CursorFile string `type:"path" placeholder:"FILE" xor:"after" help:"Continue after the cursor in this file, if it exists, and write the cursor of the last printed entry to it."`
}

// Help is what --help adds.
func (*tailCmd) Help() string {
	return `tail prints each entry once, as it is stored, until Ctrl-C. After a lost connection it connects again and continues where it was. If entries are left out, standard error says so. At its end tail prints the cursor to continue with there.`
}

// Run prints the entries of the live stream until ctx ends.
func (c *tailCmd) Run(ctx context.Context, con *console) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	config.StreamURL = c.StreamURL
	service, err := newClient(config)
	if err != nil {
		return err
	}
	filter, err := c.params(con.now())
	if err != nil {
		return err
	}
	after, err := startCursor(c.After, c.CursorFile)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(con.out)
	t := &tail{con: con, out: out, file: c.CursorFile, printer: c.printer(con, out, c.palette(con)), cursor: after}
	if table, isTable := t.printer.(*tablePrinter); isTable {
		t.printer = &liveTable{table}
	}
	err = service.Stream(ctx, client.Subscription{Filter: filter, After: after}, t.handle)
	return t.end(ctx, err)
}

// tail prints the events of a stream.
type tail struct {
	con     *console
	out     *bufio.Writer
	printer entryPrinter
	file    string // "" for none
	cursor  string // of what was printed
}

func (t *tail) handle(e client.Event) error {
	switch e.Kind {
	case client.StreamSubscribed:
		t.con.report("Following the live stream; Ctrl-C ends it.")
	case client.StreamCut:
		t.con.report("No connection: %s. Trying again in %.1f s.", e.Err, e.Pause.Seconds())
	case client.StreamLagged:
		t.con.report("Too slow: entries were left out here. ocelot tail --after %s prints them.", e.Cursor)
		return nil // what follows is not after this cursor
	case client.StreamEntries:
		if err := errors.Join(t.printer.page(e.Entries), t.out.Flush()); err != nil {
			return err
		}
	}
	return t.advance(e.Cursor)
}

// advance stores the cursor of what was printed.
func (t *tail) advance(cursor string) error {
	if cursor == t.cursor {
		return nil
	}
	t.cursor = cursor
	if t.file == "" {
		return nil
	}
	return storeCursor(t.file, cursor)
}

// end reports how to continue. The end of ctx is not a failure.
func (t *tail) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	err = errors.Join(err, t.printer.end(t.cursor), t.out.Flush())
	switch {
	case errors.Is(err, client.ErrCursorExpired):
		t.con.report("Find the missed entries with ocelot search --from, then run ocelot tail without a cursor.")
	case t.cursor != "" && t.file == "":
		t.con.report("To continue from here: --after %s", t.cursor)
	}
	return err
}

// liveTable is a table whose columns grow with what comes.
type liveTable struct{ *tablePrinter }

func (p *liveTable) page(items []json.RawMessage) error {
	rows, err := rowsOf(items)
	if err != nil || len(rows) == 0 {
		return err
	}
	first := p.widths == nil
	p.measure(rows)
	if first {
		if err := p.header(); err != nil {
			return err
		}
	}
	return p.lines(rows)
}

func (*liveTable) end(string) error { return nil }
