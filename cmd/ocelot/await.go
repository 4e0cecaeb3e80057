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
	away := outage{con: c, bar: bar}
	for !job.Finished() {
		err := c.pause(ctx, jobPoll)
		if err == nil {
			err = away.retry(ctx, func() error {
				now, err := look(ctx)
				if err == nil {
					job = now
				}
				return err
			})
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the %s %s goes on without you: %w", what, job.ID, context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		away.end()
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

// maxOutage is how long a command that is under way tries again without any progress. The attempts of the
// client itself take more.
const maxOutage = 15 * time.Minute

// outagePauses are between the attempts.
var outagePauses = backoff.Policy{First: time.Second, Max: 30 * time.Second, Jitter: backoff.EqualJitter}

// outage counts what fails in a row while the service or the network is away.
type outage struct {
	con      *console
	bar      *progressbar.ProgressBar // makes room for the report
	failures int
	waited   time.Duration
	reported bool
}

// end is called after progress. What fails from then on is another outage.
func (o *outage) end() { o.failures, o.waited, o.reported = 0, 0, false }

// wait waits before the next attempt after an error. It returns the error if the outage has lasted too
// long, and that of the context if it ends first.
func (o *outage) wait(ctx context.Context, err error) error {
	if o.waited >= maxOutage {
		return err
	}
	o.failures++
	// A download that is cut now and then is nothing to report. A request has failed for half a minute.
	if !o.reported && (o.failures == 3 || client.IsTransient(err)) {
		o.reported = true
		_ = o.bar.Clear()
		o.con.report("ocelot: %s; trying again for %d minutes.", err, maxOutage/time.Minute)
	}
	pause := outagePauses.Delay(o.failures)
	o.waited += pause
	return o.con.pause(ctx, pause)
}

// retry repeats a request of the API while it fails with errors that can pass.
func (o *outage) retry(ctx context.Context, request func() error) error {
	for {
		err := request()
		if err == nil || ctx.Err() != nil || !client.IsTransient(err) {
			return err
		}
		if err := o.wait(ctx, err); err != nil {
			return err
		}
	}
}
