package main

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// restoreCmd brings archived entries of the tenant back.
type restoreCmd struct {
	Create restoreCreateCmd `cmd:"" help:"Bring archived entries back for some days."`
	List   restoreListCmd   `cmd:"" help:"List the restores, one a line."`
	Get    restoreGetCmd    `cmd:"" help:"Print a restore."`
	Cancel restoreCancelCmd `cmd:"" help:"Cancel a restore. What has come back stays until its time is over."`
}

// restoresBelow is the path of restores, below that of the tenant.
const restoresBelow = "/restores"

type restoreCreateCmd struct {
	serviceFlags
	timeFlags
	Days           *int `placeholder:"N" help:"The entries leave again after so many days; by default 14."`
	IncludeCleaned bool `help:"Bring back what a cleanup removed, too."`
}

// Run starts the restore and prints it.
func (c *restoreCreateCmd) Run(ctx context.Context, con *console) error {
	body := map[string]any{"include_cleaned": c.IncludeCleaned}
	if c.Days != nil {
		body["days"] = *c.Days
	}
	now, times := con.now(), url.Values{}
	c.dates = time.UTC
	if err := c.addTimes(times, now); err != nil {
		return err
	}
	for name := range times {
		body[name] = times.Get(name)
	}
	if !times.Has("from") {
		return usagef("--since is required: the time of the first entry to bring back")
	}
	if !times.Has("to") {
		body["to"] = now.UTC().Format(time.RFC3339)
	}
	service, err := c.openTenant()
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, http.MethodPost, tenantPath(c.Tenant)+restoresBelow, nil, body)
	return printAnswer(con, answer, err)
}

type restoreListCmd struct{ serviceFlags }

// Run prints the restores.
func (c *restoreListCmd) Run(ctx context.Context, con *console) error {
	return c.listOfTenant(ctx, con, restoresBelow)
}

type restoreGetCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the restore."`
}

// Run prints the restore.
func (c *restoreGetCmd) Run(ctx context.Context, con *console) error {
	return c.showOfTenant(ctx, con, restoresBelow+"/"+url.PathEscape(c.ID))
}

type restoreCancelCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the restore."`
}

// Run cancels the restore and prints it.
func (c *restoreCancelCmd) Run(ctx context.Context, con *console) error {
	if err := c.needTenant(); err != nil {
		return err
	}
	return c.change(ctx, con, http.MethodDelete, tenantPath(c.Tenant)+restoresBelow+"/"+url.PathEscape(c.ID))
}
