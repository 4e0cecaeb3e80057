package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// getCmd prints one entry.
type getCmd struct {
	serviceFlags
	revealFlag
	ID string `arg:"" name:"id" help:"Id of the entry."`
}

// Run prints the entry as the service spells it.
func (c *getCmd) Run(ctx context.Context, con *console) error {
	id, err := audit.ParseEntryID(c.ID)
	if err != nil {
		return usagef("%s: %w", c.ID, err)
	}
	service, err := c.openLog()
	if err != nil {
		return err
	}
	entry, err := c.entry(ctx, service, id)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(con.out, "%s\n", strings.TrimSpace(string(entry)))
	return err
}

func (c *getCmd) entry(ctx context.Context, service *client.Client, id audit.EntryID) (json.RawMessage, error) {
	if c.Reveal != "" {
		return service.Reveal(ctx, id, c.Reveal)
	}
	return service.Entry(ctx, id)
}
