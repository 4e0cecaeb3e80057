package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/local/localcloud"
)

// requeueCmd sends entries to the ingest queue that were saved from the search index.
type requeueCmd struct {
	Data string `default:".ocelot" type:"path" placeholder:"FOLDER" help:"Data folder of a service that is stopped."`
	SQS  bool   `name:"sqs" help:"Send to the queue in SQS instead, with AWS_REGION, the AWS credentials and OCELOT_QUEUE_PREFIX of the environment."`
	File string `arg:"" help:"Documents of the search index, one a line, with the members tenant_id and entry. - is standard input."`
}

// Help is what --help adds.
func (*requeueCmd) Help() string {
	return `The service stores the entries as they were: with their ids, times of receipt and senders, and with their encrypted values.
What is stored stays as it is, so you can send the same file again. Entries of deleted tenants are dropped. Entries that
were restored from the archive are passed over, because the archive has them.

The last line of standard output is one JSON object: {"sent":n,"restored":n,"unreadable":n}. Standard error names each
line that is not a stored entry. After such a line or another failure the exit code is 1.`
}

// Run sends the entries of the file.
func (c *requeueCmd) Run(ctx context.Context, con *console) error {
	in := con.in
	if c.File != stdinName {
		file, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // it was only read
		in = file
	}
	var found ingest.Requeued
	err := c.withQueue(ctx, func(queue ingest.Queue) (err error) {
		r := &ingest.Requeuer{Queue: queue, Random: con.random, Now: con.now, Unreadable: func(line int, err error) { con.report("line %d: %s", line, err) }}
		if found, err = r.Send(ctx, in); err != nil {
			return fmt.Errorf("not all entries were sent, send the file again: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(found)
	if err == nil {
		_, err = fmt.Fprintf(con.out, "%s\n", text)
	}
	if err == nil && found.Unreadable > 0 {
		return errReported
	}
	return err
}

// withQueue opens the ingest queue for a function.
func (c *requeueCmd) withQueue(ctx context.Context, use func(ingest.Queue) error) error {
	settings, inSQS, err := queuesOf(c.SQS)
	if err != nil {
		return err
	}
	if inSQS {
		return use(localcloud.IngestSQS(settings.Engines))
	}
	return withHintToStop(localcloud.WithLocalIngest(ctx, c.Data, use), c.Data)
}
