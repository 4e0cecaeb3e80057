package main

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// legalHoldCmd keeps entries of the tenant from being removed.
type legalHoldCmd struct {
	Create  legalHoldCreateCmd  `cmd:"" help:"Keep entries from being removed."`
	List    legalHoldListCmd    `cmd:"" help:"List the legal holds, one a line."`
	Get     legalHoldGetCmd     `cmd:"" help:"Print a legal hold."`
	Release legalHoldReleaseCmd `cmd:"" help:"End a legal hold."`
}

// legalHoldsBelow is the path of legal holds, below that of the tenant.
const legalHoldsBelow = "/legal-holds"

type legalHoldCreateCmd struct {
	serviceFlags
	timeFlags
	Matter string   `arg:"" help:"The case."`
	Reason string   `required:"" placeholder:"TEXT" help:"Why. The hold keeps it."`
	Users  []string `name:"user" sep:"none" placeholder:"USER_ID" help:"Only entries of this user_id. May be given several times."`
}

// Run sets the hold and prints it.
func (c *legalHoldCreateCmd) Run(ctx context.Context, con *console) error {
	body := map[string]any{"matter": c.Matter, "reason": c.Reason}
	if len(c.Users) > 0 {
		body["user_ids"] = c.Users
	}
	times := url.Values{}
	c.dates = time.UTC
	if err := c.addTimes(times, con.now()); err != nil {
		return err
	}
	for name := range times {
		body[name] = times.Get(name)
	}
	service, err := c.openTenant()
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, http.MethodPost, tenantPath(c.Tenant)+legalHoldsBelow, nil, body)
	return printAnswer(con, answer, err)
}

type legalHoldListCmd struct{ serviceFlags }

// Run prints the holds.
func (c *legalHoldListCmd) Run(ctx context.Context, con *console) error {
	return c.listOfTenant(ctx, con, legalHoldsBelow)
}

type legalHoldGetCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the legal hold."`
}

// Run prints the hold.
func (c *legalHoldGetCmd) Run(ctx context.Context, con *console) error {
	return c.showOfTenant(ctx, con, legalHoldsBelow+"/"+url.PathEscape(c.ID))
}

type legalHoldReleaseCmd struct {
	serviceFlags
	ID     string `arg:"" help:"Id of the legal hold."`
	Reason string `required:"" placeholder:"TEXT" help:"Why. The hold keeps it."`
}

// Run releases the hold and prints it.
func (c *legalHoldReleaseCmd) Run(ctx context.Context, con *console) error {
	service, err := c.openTenant()
	if err != nil {
		return err
	}
	answer, err := service.Delete(ctx, tenantPath(c.Tenant)+legalHoldsBelow+"/"+url.PathEscape(c.ID), url.Values{"reason": {c.Reason}})
	return printAnswer(con, answer, err)
}
