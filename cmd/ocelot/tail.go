package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

type tailCmd struct {
	serviceFlags
	queryFlags
	outputFlag
	colorFlag
	localFlag
	StreamURL  string `name:"stream-url" env:"OCELOT_STREAM_URL" placeholder:"URL" group:"Service:" help:"Address of the live stream if it differs from the service's, as on AWS (wss://host/stage)."`
	After      string `placeholder:"CURSOR" xor:"after" help:"Continue after this cursor of the stream or of pull; by default only entries stored from now on."`
	CursorFile string `type:"path" placeholder:"FILE" xor:"after" help:"Continue after the cursor in this file, if it exists, and write the cursor of the last printed entry to it."`
	Last       int    `short:"n" placeholder:"N" xor:"after" help:"Begin with the N newest entries, up to 1,000."`
	Since      string `placeholder:"TIME" xor:"after" help:"Begin with the entries since this time: RFC 3339, a date, or a duration before now (1h, 7d)."`
}

// Help is what --help adds.
func (*tailCmd) Help() string {
	return `tail prints each entry once, as it is stored, until Ctrl-C. After a lost connection it connects again and continues where it was. If entries are left out, standard error says so. At its end tail prints the cursor to continue with there.

-n and --since print what a search finds first. An entry that is being indexed at that moment is not among it.`
}

// Validate checks the number.
func (c *tailCmd) Validate() error {
	if c.Last < 0 || c.Last > audit.MaxPageLimit {
		return fmt.Errorf("-n must be 1 to %d", audit.MaxPageLimit)
	}
	return nil
}

// Run prints the entries of the live stream until ctx ends.
func (c *tailCmd) Run(ctx context.Context, con *console) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	config.StreamURL = cmp.Or(c.StreamURL, c.profile.StreamURL)
	service, err := newClient(config)
	if err != nil {
		return err
	}
	filter, err := c.params()
	if err != nil {
		return err
	}
	after, err := startCursor(c.After, c.CursorFile)
	if err == nil {
		err = c.reach()
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriter(con.out)
	t := &tail{con: con, out: out, file: c.CursorFile, printer: c.printer(con, out, c.palette(con)), cursor: after, earlier: map[audit.EntryID]bool{}}
	if table, isTable := t.printer.(*tablePrinter); isTable {
		t.printer = &liveTable{table}
	}
	t.printer = c.wrap(con, t.printer)
	if c.Last > 0 || c.Since != "" {
		if after, err = c.begin(ctx, con, service, t, filter); err != nil {
			return err
		}
	}
	err = service.Stream(ctx, client.Subscription{Filter: filter, After: after}, t.handle)
	return t.end(ctx, err)
}

// begin prints the earlier entries. It returns the cursor after which the stream continues: it
// is older than the search, so that no entry comes between the two.
func (c *tailCmd) begin(ctx context.Context, con *console, service *client.Client, t *tail, filter url.Values) (after string, err error) {
	feed, err := service.Feed(ctx, url.Values{"cursor": {"now"}, "limit": {"1"}})
	if err != nil {
		return "", err
	}
	params := maps.Clone(filter)
	if c.Since != "" {
		since, err := parseTime(c.Since, con.now(), c.in(con))
		if err != nil {
			return "", usagef("--since %s: %w", c.Since, err)
		}
		params.Set("from", since)
		params.Set("sort", "timestamp")
		params.Set("limit", strconv.Itoa(audit.MaxPageLimit))
		return feed.Next, t.since(ctx, service, params)
	}
	return feed.Next, t.newest(ctx, service, params, c.Last)
}

// since prints all entries that a search finds.
func (t *tail) since(ctx context.Context, service *client.Client, params url.Values) error {
	for {
		page, err := service.Search(ctx, params)
		if err == nil {
			err = t.print(page.Items)
		}
		if err != nil || page.Next == nil {
			return err
		}
		params.Set("cursor", *page.Next)
	}
}

// newest prints the n newest entries that a search finds, the oldest of them first.
func (t *tail) newest(ctx context.Context, service *client.Client, params url.Values, n int) error {
	var found []json.RawMessage
	for len(found) < n {
		params.Set("limit", strconv.Itoa(n-len(found)))
		page, err := service.Search(ctx, params)
		if err != nil {
			return err
		}
		found = append(found, page.Items...)
		if page.Next == nil {
			break
		}
		params.Set("cursor", *page.Next)
	}
	slices.Reverse(found)
	return t.print(found)
}

// tail prints the events of a stream.
type tail struct {
	con     *console
	out     *bufio.Writer
	printer entryPrinter
	file    string // "" for none
	cursor  string // of what was printed
	// earlier has the ids of entries that a search found and that the stream can bring again.
	earlier map[audit.EntryID]bool
}

// print prints entries of a search.
func (t *tail) print(items []json.RawMessage) error {
	began := t.con.now().Add(-recent)
	for _, text := range items {
		var entry struct {
			ID         audit.EntryID `json:"id"`
			ReceivedAt time.Time     `json:"received_at"`
		}
		if err := json.Unmarshal(text, &entry); err != nil {
			return fmt.Errorf("read an entry: %w", err)
		}
		if entry.ReceivedAt.After(began) {
			t.earlier[entry.ID] = true
		}
	}
	return errors.Join(t.printer.page(items), t.out.Flush())
}

// recent is more than the time in which an entry gets its place in the stream, and than clocks
// differ.
const recent = 10 * time.Minute

// withoutEarlier returns the entries that a search did not find before.
func (t *tail) withoutEarlier(items []json.RawMessage) ([]json.RawMessage, error) {
	if len(t.earlier) == 0 {
		return items, nil
	}
	rest := make([]json.RawMessage, 0, len(items))
	for _, text := range items {
		var entry struct {
			ID audit.EntryID `json:"id"`
		}
		if err := json.Unmarshal(text, &entry); err != nil {
			return nil, fmt.Errorf("read an entry: %w", err)
		}
		if !t.earlier[entry.ID] {
			rest = append(rest, text)
		}
		delete(t.earlier, entry.ID)
	}
	return rest, nil
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
		entries, err := t.withoutEarlier(e.Entries)
		if err != nil {
			return err
		}
		if err := errors.Join(t.printer.page(entries), t.out.Flush()); err != nil {
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
	if t.cursor != "" && t.file == "" {
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
