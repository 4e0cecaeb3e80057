package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// invokeCmd runs a scheduled function of a running service now.
type invokeCmd struct {
	Function string `arg:"" enum:"${schedules}" help:"The function: ${enum}."`
	Data     string `default:".ocelot" type:"path" placeholder:"FOLDER" help:"Data folder of the running service."`
}

// Help is what --help adds.
func (*invokeCmd) Help() string {
	return `A schedule runs these functions on AWS and in ocelot dev. invoke runs one at once, for example to see what retention removes, and waits for its end. Jobs that it starts go on.

A running ocelot dev takes this from who can read its data folder, on the same machine alone.`
}

// Run invokes the function.
func (c *invokeCmd) Run(ctx context.Context, con *console) error {
	err := localcloud.Invoke(ctx, c.Data, c.Function)
	if errors.Is(err, localcloud.ErrNotRunning) {
		return fmt.Errorf("no service runs over %s. Start one with ocelot dev --data %s, or name another folder with --data", c.Data, shellWord(c.Data))
	}
	if err != nil {
		return err
	}
	con.report("%s has run.", c.Function)
	return nil
}
