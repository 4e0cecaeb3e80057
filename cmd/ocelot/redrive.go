package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// redriveCmd moves dead letters back to where they failed.
type redriveCmd struct {
	Queues []string `arg:"" optional:"" name:"queue" help:"Queues whose dead letters are moved; by default all."`
	Data   string   `default:".ocelot" type:"path" placeholder:"FOLDER" help:"Data folder of a service that is stopped."`
	SQS    bool     `name:"sqs" help:"Move those in SQS instead, with AWS_REGION, the AWS credentials and OCELOT_QUEUE_PREFIX of the environment."`
}

// Help is what --help adds.
func (*redriveCmd) Help() string {
	return `Handling is repeatable: a message that was handled before is not stored, indexed or sent a second time.
A message that fails again becomes a dead letter again.`
}

// Run moves them and prints how many of each queue.
func (c *redriveCmd) Run(ctx context.Context, con *console) error {
	queues, err := c.named()
	if err != nil {
		return err
	}
	report := func(name manifest.QueueName, moved int64) { fmt.Fprintf(con.out, "%-16s %d\n", name, moved) }
	settings, inSQS, err := queuesOf(c.SQS)
	if err != nil {
		return err
	}
	if inSQS {
		return localcloud.RedriveSQS(ctx, settings.Engines, queues, report)
	}
	return withHintToStop(localcloud.RedriveLocal(ctx, c.Data, queues, report), c.Data)
}

// queuesOf reads the settings of the environment, and reports whether they or the flag --sqs name queues in SQS.
func queuesOf(sqs bool) (settings config.Dev, inSQS bool, err error) {
	if settings, err = config.ReadDev(); err != nil {
		return settings, false, err
	}
	inSQS = sqs || settings.Engines.NamesQueues()
	if inSQS && settings.Engines.AWS.Region == "" {
		err = usagef("--sqs needs AWS_REGION, the region of the queues")
	}
	return settings, inSQS, err
}

// withHintToStop says in an error of a data folder what to do if a service has it open.
func withHintToStop(err error, data string) error {
	if errors.Is(err, sqlite.ErrInUse) {
		return fmt.Errorf("%s is open in a running service: stop the service first", data)
	}
	return err
}

// named returns the queues that the command line names.
func (c *redriveCmd) named() ([]manifest.QueueName, error) {
	var all []manifest.QueueName
	for _, q := range manifest.Queues() {
		all = append(all, q.Name)
	}
	if len(c.Queues) == 0 {
		return all, nil
	}
	var found []manifest.QueueName
	for _, text := range c.Queues {
		name := manifest.QueueName(text)
		if !slices.Contains(all, name) {
			return nil, usagef("%q is not a queue. The queues are %s", text, joined(all))
		}
		found = append(found, name)
	}
	return found, nil
}

func joined(names []manifest.QueueName) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}
