package jobs

import (
	"context"
	"time"
)

// Clock returns the time by a clock that all processes share, because the clock of one worker can be wrong.
// nil: there is one process.
type Clock func(ctx context.Context) (time.Time, error)

// Now returns the shared time in whole milliseconds. own is the clock of this process.
func (c Clock) Now(ctx context.Context, own func() time.Time) (time.Time, error) {
	if c == nil {
		return now(own), nil
	}
	at, err := c(ctx)
	return at.UTC().Truncate(time.Millisecond), err
}

// WaitLeft returns how much of a wait is left that began at since. The first call sets since, and so does one
// after the shared clock was set back: the wait then begins again. The caller saves since.
func (c Clock) WaitLeft(ctx context.Context, own func() time.Time, since *time.Time, wait time.Duration) (time.Duration, error) {
	at, err := c.Now(ctx, own)
	if err != nil {
		return 0, err
	}
	if since.IsZero() || at.Before(*since) {
		*since = at
	}
	return since.Add(wait).Sub(at), nil
}
