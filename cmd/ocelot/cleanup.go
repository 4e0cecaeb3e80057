package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ocelot-audit/ocelot/pkg/client"
)

// cleanupCmd removes entries before their end.
type cleanupCmd struct {
	readFlags
	Before  string `required:"" placeholder:"TIME" group:"Entries:" help:"Only entries before this time: RFC 3339, a date, or a duration before now."`
	Archive bool   `help:"Remove them from the archive, too, also what has left the database."`
	DryRun  bool   `help:"Print how many entries would be removed, and remove none."`
	Yes     bool   `help:"Remove them. Nothing brings them back."`
}

// cleanupPath is that of the API.
const cleanupPath = "logs/cleanup"

// Help is what --help adds.
func (*cleanupCmd) Help() string {
	return `A cleanup is a job of the service. It removes the entries for ever, and passes over what a legal hold covers and over the service's own entries. What is received later stays. With --archive it removes them from the archive, too. Without --yes the command says how many entries it would remove, and removes none. With --yes it waits for the job and prints it.`
}

// Validate refuses an empty time and an empty query. A script whose variable is empty would remove what
// it meant to keep.
func (c *cleanupCmd) Validate(line *kong.Context) error {
	for _, given := range line.Path {
		if given.Flag != nil && slices.Contains([]string{"since", "until"}, given.Flag.Name) && given.Flag.Target.String() == "" {
			return fmt.Errorf("--%s must not be empty", given.Flag.Name)
		}
	}
	for _, text := range c.Query {
		if strings.TrimSpace(text) == "" {
			return errors.New("the query must not be empty: leave it out to remove entries whatever they contain")
		}
	}
	return nil
}

// Run removes the entries, or tells how many there are.
func (c *cleanupCmd) Run(ctx context.Context, con *console) error {
	service, params, err := c.open(con)
	if err != nil {
		return err
	}
	before, err := parseTime(c.Before, con.now(), c.dates)
	if err != nil {
		return usagef("--before %s: %w", c.Before, err)
	}
	params.Set("before", before)
	if c.Archive {
		params.Set("archive", "true")
	}
	if c.DryRun || !c.Yes {
		return c.preview(ctx, con, service, params)
	}
	answer, err := service.Delete(ctx, cleanupPath, params)
	if err != nil {
		return err
	}
	var job client.Job
	if err := json.Unmarshal(answer, &job); err != nil {
		return fmt.Errorf("the service's job is not as it should be: %w", err)
	}
	id := job.ID
	err = con.await(ctx, "cleanup", job, func(ctx context.Context) (client.Job, error) {
		job, answer, err = service.Job(ctx, id)
		return job, err
	})
	if err != nil {
		return err
	}
	con.report("Entries removed: %d.", job.Count)
	if job.ArchiveCount != nil {
		con.report("Entries removed from the archive: %d.", *job.ArchiveCount)
	}
	return printAnswer(con, answer, nil)
}

// preview prints what would be removed. It is an error unless --dry-run asks for it.
func (c *cleanupCmd) preview(ctx context.Context, con *console, service *client.Client, params url.Values) error {
	params.Set("dry_run", "true")
	answer, err := service.Delete(ctx, cleanupPath, params)
	if err != nil || c.DryRun {
		return printAnswer(con, answer, err)
	}
	var preview struct{ Count, Held int64 }
	if err := json.Unmarshal(answer, &preview); err != nil {
		return fmt.Errorf("the service's preview is not as it should be: %w", err)
	}
	const message = "this removes %d entries for ever, and keeps %d under legal holds: say so with --yes"
	if c.Archive {
		return usagef("without those of the archive, which are not counted, "+message, preview.Count, preview.Held)
	}
	return usagef(message, preview.Count, preview.Held)
}
