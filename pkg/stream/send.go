package stream

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

const (
	// readSegments is the number of segments in one read.
	readSegments = 16
	// MaxBehind is how many segments a live stream may lag. Beyond that it skips to
	// the head of the stream: it leaves out some hundred thousand entries at most.
	MaxBehind = 2000
)

// sendPending sends the pending entries until the delivery's time is up, and
// reports whether entries are still pending then.
func (d *delivery) sendPending(ctx context.Context) (pending bool, err error) {
	if d.Tenant != d.window.tenant.ID {
		return false, errors.New("the connection is of another tenant")
	}
	sub := d.Subscription
	if sub == nil || d.Now().Before(sub.RetryAt) {
		return false, nil
	}
	if err := d.check(ctx, d.Connection); err != nil {
		return false, err
	}
	filter, err := d.filter()
	if err != nil {
		return false, errors.Join(errSubscriptionEnded, err)
	}
	for {
		before := sub.At
		more, err := d.sendNext(ctx, filter)
		if sub.At != before {
			err = errors.Join(err, d.save(ctx))
		}
		if err != nil {
			return false, err
		}
		if !more || d.timeUp() {
			return more, nil
		}
	}
}

// filter returns the condition of the entries that the subscriber asked for and may see.
func (d *delivery) filter() (audit.Filter, error) {
	scope, err := d.Principal.Authorize(d.Tenant, access.LogsStream)
	if err != nil {
		return audit.Filter{}, err
	}
	filter, err := search.ParseFilter(d.Subscription.Filter)
	filter.Where = audit.All(filter.Where, scope.Expr())
	return filter, err
}

// sendNext sends the next segments and moves the position. It sends at least one
// frame, even if the time is up. more is false at the end of the stream.
func (d *delivery) sendNext(ctx context.Context, filter audit.Filter) (more bool, err error) {
	segments, err := d.window.after(ctx, d.Subscription.At.Segment)
	if errors.Is(err, ErrExpired) {
		return true, d.skip(ctx)
	}
	if err != nil || len(segments) == 0 {
		return false, err
	}
	if err := d.watch(ctx); err != nil {
		return false, err
	}
	if len(segments) == readSegments {
		tooFar, err := d.tooFarBehind(ctx)
		if err != nil {
			return true, err
		}
		if tooFar {
			return true, d.skip(ctx)
		}
	}
	for _, segment := range segments {
		if err := d.sendSegment(ctx, segment, filter); err != nil {
			return false, err
		}
		if d.timeUp() {
			break
		}
	}
	return true, nil
}

// tooFarBehind reports whether the live part of the stream lags more than MaxBehind.
func (d *delivery) tooFarBehind(ctx context.Context) (bool, error) {
	head, err := d.Segments.Head(ctx, d.Tenant)
	return head-max(d.Subscription.At.Segment, d.Subscription.Replay) > MaxBehind, err
}

// skip moves the position to the head of the stream. It reports to the client the
// position after which entries are left out.
func (d *delivery) skip(ctx context.Context) error {
	head, err := d.Segments.Head(ctx, d.Tenant)
	if err != nil {
		return err
	}
	text, err := json.Marshal(frame{Type: "lagged", Cursor: d.cursor(d.Tenant, d.Subscription.At)})
	if err != nil {
		return err
	}
	if err := d.send(ctx, text); err != nil {
		return err
	}
	d.Subscription.At, d.Subscription.Replay = Position{Segment: head}, head
	return nil
}

// sendSegment sends the segment's entries after the position until the time is up.
func (d *delivery) sendSegment(ctx context.Context, segment Segment, filter audit.Filter) error {
	candidates, err := d.window.candidates(ctx, segment)
	if err != nil {
		return err
	}
	var b batch
	settings, now := &d.window.tenant.Settings, d.Now()
	for i := d.Subscription.At.Within; i < len(segment.IDs); i++ {
		c := candidates[segment.IDs[i]]
		if c == nil || !settings.IsVisible(&c.Entry, now) || !c.Matches(filter) { // nil: the entry was deleted
			continue
		}
		item := itemOf(&c.Entry, settings.ExpiryOf(&c.Entry))
		if !b.fits(item) {
			if err := d.sendBatch(ctx, &b, Position{Segment: segment.Number - 1, Within: i}); err != nil || d.timeUp() {
				return err
			}
		}
		b.add(item)
	}
	return d.sendBatch(ctx, &b, Position{Segment: segment.Number})
}

// sendBatch sends the entries of the batch, empties it and moves the position.
func (d *delivery) sendBatch(ctx context.Context, b *batch, to Position) error {
	if len(b.items) > 0 {
		if err := d.send(ctx, b.text(d.cursor(d.Tenant, to))); err != nil {
			return err
		}
		b.items = b.items[:0]
		d.Subscription.Tries = 0
	}
	d.Subscription.At = to
	if d.Now().Sub(d.savedAt) > renewAfter {
		return d.save(ctx)
	}
	return nil
}

// send sends one frame with entries, or about them. It returns the error of check, or
// ErrGone or errNotSent if sending fails.
func (d *delivery) send(ctx context.Context, text []byte) error {
	if err := d.check(ctx, d.Connection); err != nil { // loading the entries can have taken long
		return err
	}
	err := d.Sender.Send(ctx, d.ID, text)
	if err == nil || errors.Is(err, ErrGone) {
		return err
	}
	if !errors.Is(err, ErrBusy) {
		d.Log.WarnContext(ctx, "a frame was not sent", "tenant", d.Tenant, "error", err)
	}
	return errors.Join(errNotSent, err)
}
