package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/client"
)

// jobPoll is the time between two looks at a job.
const jobPoll = time.Second

// await shows the progress of a job until it has ended. It returns an error unless the job succeeds.
func (c *console) await(ctx context.Context, what string, job client.Job, look func(context.Context) (client.Job, error)) error {
	const whole = 1000
	bar := c.bar(whole, progressbar.OptionSetDescription(what))
	for !job.Finished() {
		if err := backoff.Sleep(ctx, jobPoll); err != nil {
			return fmt.Errorf("the %s %s goes on without you: %w", what, job.ID, err)
		}
		var err error
		if job, err = look(ctx); err != nil {
			return err
		}
		_ = bar.Set64(int64(job.Progress * whole)) // the bar is no part of the result
	}
	_ = bar.Clear()
	switch {
	case job.State == "succeeded":
		return nil
	case job.Error == "":
		return fmt.Errorf("the %s %s is %s", what, job.ID, job.State)
	}
	return fmt.Errorf("the %s %s is %s: %s", what, job.ID, job.State, printable(job.Error))
}

// bar returns a progress bar, which draws nothing unless standard error is a terminal.
func (c *console) bar(total int64, o ...progressbar.Option) *progressbar.ProgressBar {
	to := io.Discard
	if c.errTerminal {
		to = c.err
	}
	return progressbar.NewOptions64(total, append(o, progressbar.OptionSetWriter(to), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))...)
}
