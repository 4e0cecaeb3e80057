package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// getCmd prints one entry.
type getCmd struct {
	serviceFlags
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
	entry, err := service.Entry(ctx, id)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(con.out, "%s\n", strings.TrimSpace(string(entry)))
	return err
}
