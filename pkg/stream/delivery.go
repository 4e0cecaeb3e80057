package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
)

const (
	// deliveryTime bounds the time that one delivery spends on one connection, so
	// that a long replay does not delay others.
	deliveryTime = 3 * time.Second
	// yieldPause is how long no delivery acquires a connection after a contended
	// delivery has used up its time. A client's message asks every acquirePoll.
	yieldPause = 10 * acquirePoll
	// resumeAfterYield is the delay of the message that resumes then. SQS rounds it up to a second.
	resumeAfterYield = 2 * yieldPause
	// maxAttempts is how often in a row a client may be too slow before it is cut: about a minute.
	maxAttempts = 7
	minRetry    = time.Second
	maxRetry    = 15 * time.Second
)

// delivery is the work of one worker on one connection while it holds the lease.
type delivery struct {
	*Service
	Connection
	window   *window
	holder   string
	deadline time.Time // after it, the delivery ends with the next frame
	savedAt  time.Time // when the lease was acquired or the subscription was saved last
}

// timeUp reports whether the delivery has used up its time.
func (d *delivery) timeUp() bool { return d.Now().After(d.deadline) }

// attempt sends the pending entries and releases the lease. It keeps the lease
// and reports contended if another worker asked for the lease and there is time
// left: the caller must then try again.
//
// A worker that finds the lease taken returns at once and relies on the holder. The
// holder therefore releases the lease for good only in two cases. Either it has checked
// for pending entries after the other worker asked, or a message resumes the delivery.
// That message is the one being handled, which is delivered again after an error, or
// one that is sent after the release. A message sent before the release could find the
// lease taken and be lost. If the holder is killed in between, the message that watch
// sent resumes after the lease.
func (d *delivery) attempt(ctx context.Context) (contended bool, err error) {
	pending, err := d.sendPending(ctx)
	if err = d.finish(ctx, err); err != nil {
		return false, d.abort(ctx, err)
	}
	released, err := d.Connections.Release(ctx, d.ID, d.holder)
	switch {
	case err != nil:
		return false, d.abort(ctx, err)
	case released && pending:
		return false, d.resume(ctx, d.Connection, 0)
	case !released && d.timeUp():
		return false, d.yield(ctx)
	}
	return !released, nil
}

// abort releases the lease after a failure, so that the message finds it free
// when it is delivered again. If the release fails too, a message resumes after
// the lease.
func (d *delivery) abort(ctx context.Context, failure error) error {
	err := d.releaseAndResume(ctx, d.Connection, d.holder)
	if err != nil {
		err = errors.Join(err, d.resume(ctx, d.Connection, leaseTime+maxClockSkew))
	}
	return errors.Join(failure, err)
}

// yield releases the lease for yieldPause to a client's message that may wait for
// it, and resumes the delivery afterwards.
func (d *delivery) yield(ctx context.Context) error {
	var err error
	if until := d.Now().Add(yieldPause); d.Subscription != nil && d.Subscription.RetryAt.Before(until) {
		d.Subscription.RetryAt = until
		err = d.finish(ctx, d.save(ctx))
	}
	if err == nil {
		_, err = d.release(ctx, d.ID, d.holder)
	}
	if err != nil {
		return d.abort(ctx, err)
	}
	return d.resume(ctx, d.Connection, resumeAfterYield)
}

// The ends of a delivery that are not failures of the service. ErrGone is another.
var (
	// errNotSent says that the gateway did not accept a frame.
	errNotSent = errors.New("the frame was not sent")
	// errLeaseLost says that another worker holds the lease. It continues from the saved position.
	errLeaseLost = errors.New("the lease is lost")
	// errSubscriptionEnded says that the subscription must not be served any longer.
	errSubscriptionEnded = errors.New("the subscription has ended")
)

// finish acts on the error with which sending ended. It returns the error if it
// is a failure of the service.
func (d *delivery) finish(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrGone):
		return d.Connections.Remove(ctx, d.ID)
	case errors.Is(err, errLeaseLost):
		return nil
	case errors.Is(err, errSubscriptionEnded), EndsConnection(err):
		return d.end(ctx, err)
	case errors.Is(err, errNotSent):
		return d.retryLater(ctx)
	}
	return err
}

// retryLater schedules the next attempt, or cuts a client that was too slow too often.
func (d *delivery) retryLater(ctx context.Context) error {
	sub := d.Subscription
	if sub.Tries++; sub.Tries > maxAttempts {
		return d.cut(ctx, "it was too slow for too long")
	}
	delay := backoff.Policy{First: minRetry, Max: maxRetry}.Delay(sub.Tries)
	sub.RetryAt = d.Now().Add(delay - maxClockSkew)
	if err := d.save(ctx); err != nil {
		return d.finish(ctx, err)
	}
	return d.resume(ctx, d.Connection, delay)
}

// end tells the client why its connection must not be used any longer, and closes it.
func (d *delivery) end(ctx context.Context, reason error) error {
	if err := d.Fail(ctx, d.ID, d.Problem(reason)); err != nil { // the next handshake tells it
		d.Log.WarnContext(ctx, "a client was not told why its connection ends", "tenant", d.Tenant, "error", err)
	}
	return d.cut(ctx, reason.Error())
}

// cut closes the connection. Its client is expected to reconnect with its cursor.
func (d *delivery) cut(ctx context.Context, why string) error {
	d.Log.InfoContext(ctx, "a connection is cut", "tenant", d.Tenant, "why", why)
	return d.Cut(ctx, d.ID)
}

// save stores the progress of the subscription and renews the lease. It makes
// sure that the connection is watched until after the lease.
func (d *delivery) save(ctx context.Context) error {
	now := d.Now()
	watchErr := d.watch(ctx)
	err := d.Connections.Save(ctx, d.ID, d.holder, d.Subscription, now.Add(leaseTime))
	if errors.Is(err, audit.ErrPrecondition) || errors.Is(err, audit.ErrNotFound) {
		return errLeaseLost
	}
	if err != nil {
		return errors.Join(watchErr, fmt.Errorf("save a subscription of %s: %w", d.Tenant, err))
	}
	d.savedAt = now
	return watchErr
}

// watch makes sure that a message is queued that resumes the delivery after a
// lease that begins now, even if this worker is killed. One message serves many
// deliveries.
func (d *delivery) watch(ctx context.Context) error {
	now := d.Now()
	if d.Subscription.WatchedUntil.After(now.Add(leaseTime + maxClockSkew)) {
		return nil
	}
	err := d.resume(ctx, d.Connection, 2*leaseTime)
	if err == nil {
		d.Subscription.WatchedUntil = now.Add(2 * leaseTime)
	}
	return err
}
