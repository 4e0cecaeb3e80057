package main

import (
	"context"
	"net/http"
	"net/url"
)

// erasureCmd erases subjects of the tenant.
type erasureCmd struct {
	Create erasureCreateCmd `cmd:"" help:"Destroy the key that encrypts the values of a subject."`
	List   erasureListCmd   `cmd:"" help:"List the erasures, one a line."`
	Get    erasureGetCmd    `cmd:"" help:"Print an erasure."`
	Cancel erasureCancelCmd `cmd:"" help:"Cancel an erasure whose delay is not over."`
}

// erasuresBelow is the path of erasures, below that of the tenant.
const erasuresBelow = "/erasures"

type erasureCreateCmd struct {
	serviceFlags
	Subject string        `arg:"" help:"The subject, as the entries have it."`
	Reason  string        `required:"" placeholder:"TEXT" help:"Why. It stands in the tenant's log, so do not name the person."`
	Delay   *durationFlag `placeholder:"DURATION" help:"How long it can be cancelled, in whole hours, such as 72h or 7d; by default 24h. 0h erases at once."`
}

// Run starts the erasure and prints it.
func (c *erasureCreateCmd) Run(ctx context.Context, con *console) error {
	body := map[string]any{"subject": c.Subject, "reason": c.Reason}
	if c.Delay != nil {
		hours := c.Delay.Hours()
		if hours != float64(int(hours)) {
			return usagef("--delay %s: must be whole hours", c.Delay.Duration)
		}
		body["delay_hours"] = int(hours)
	}
	service, err := c.openTenant()
	if err != nil {
		return err
	}
	answer, err := service.Change(ctx, http.MethodPost, tenantPath(c.Tenant)+erasuresBelow, nil, body)
	return printAnswer(con, answer, err)
}

type erasureListCmd struct{ serviceFlags }

// Run prints the erasures.
func (c *erasureListCmd) Run(ctx context.Context, con *console) error {
	return c.listOfTenant(ctx, con, erasuresBelow)
}

type erasureGetCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the erasure."`
}

// Run prints the erasure.
func (c *erasureGetCmd) Run(ctx context.Context, con *console) error {
	return c.showOfTenant(ctx, con, erasuresBelow+"/"+url.PathEscape(c.ID))
}

type erasureCancelCmd struct {
	serviceFlags
	ID string `arg:"" help:"Id of the erasure."`
}

// Run cancels the erasure and prints it.
func (c *erasureCancelCmd) Run(ctx context.Context, con *console) error {
	if err := c.needTenant(); err != nil {
		return err
	}
	return c.change(ctx, con, http.MethodDelete, tenantPath(c.Tenant)+erasuresBelow+"/"+url.PathEscape(c.ID))
}
