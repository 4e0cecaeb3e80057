package conformance

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// ConnectionStore keeps connections.
type ConnectionStore interface {
	stream.Connections
	jobs.Purger
}

// connectionsUnderTest are connections and the clock of their leases.
type connectionsUnderTest struct {
	ConnectionStore
	*clock
}

// Connections tests an adapter of stream.Connections and jobs.Purger. The connections that
// open returns use now as their clock.
func Connections(t *testing.T, open func(t *testing.T, now func() time.Time) ConnectionStore) {
	for name, test := range map[string]func(t *testing.T, s connectionsUnderTest){
		"ComeBackAsCreated":                connectionsRoundTrip,
		"IdsAreTakenOnce":                  connectionsAreUnique,
		"AbsentIsNotFound":                 connectionsAbsent,
		"SubscribedAreListed":              connectionsSubscribe,
		"OneHolderAtATime":                 connectionsLease,
		"LeasesEndWithTheirTime":           connectionsLeaseEnds,
		"WhoAskedIsNotForgotten":           connectionsReportContention,
		"OneOfManyHoldersWins":             connectionsAcquireConcurrently,
		"EveryWakeUpIsHandled":             connectionsLoseNothing,
		"RemovedWhileLeased":               connectionsRemove,
		"PurgeForgetsOneTenant":            connectionsPurge,
		"CancelledCallsReturnTheirContext": connectionsCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			test(t, connectionsUnderTest{open(t, c.now), c})
		})
	}
}

// connection returns a connection with an id like those of API Gateway.
func (c *clock) connection(tenant audit.TenantID) stream.Connection {
	return stream.Connection{
		ID: randomHex(7) + "=", Tenant: tenant, ConnectedAt: c.now(), ExpiresAt: c.in(2 * time.Hour),
		Principal: access.Principal{Subject: "ann", Grants: map[audit.TenantID][]access.Permission{tenant: {access.LogsStream}}},
	}
}

func (s connectionsUnderTest) create(t *testing.T, tenant audit.TenantID) stream.Connection {
	t.Helper()
	c := s.connection(tenant)
	noError(t, s.Create(t.Context(), c))
	return c
}

func (s connectionsUnderTest) acquire(t *testing.T, id, holder string) stream.Connection {
	t.Helper()
	c, acquired, err := s.Acquire(t.Context(), id, holder, s.in(time.Minute))
	noError(t, err)
	if !acquired {
		t.Fatalf("%s cannot acquire the lease, want it acquired", holder)
	}
	return c
}

func (s connectionsUnderTest) wantTaken(t *testing.T, id, holder string) {
	t.Helper()
	_, acquired, err := s.Acquire(t.Context(), id, holder, s.in(time.Minute))
	noError(t, err)
	if acquired {
		t.Fatalf("%s acquired the lease of another, want it taken", holder)
	}
}

func (s connectionsUnderTest) wantRelease(t *testing.T, id, holder string, want bool) {
	t.Helper()
	if released := must[bool](t)(s.Release(t.Context(), id, holder)); released != want {
		t.Fatalf("Release by %s = %v, want %v", holder, released, want)
	}
}

func (s connectionsUnderTest) subscribe(t *testing.T, id string, subscription *stream.Subscription) {
	t.Helper()
	s.acquire(t, id, "subscriber")
	noError(t, s.Save(t.Context(), id, "subscriber", subscription, s.in(time.Minute)))
	s.wantRelease(t, id, "subscriber", true)
}

// hostileFilter has every hostile text as a name and as a value.
func hostileFilter() url.Values {
	filter := url.Values{"severity": {"ERROR", "CRITICAL"}, "q": {""}, "metadata.a.b": {"$1"}}
	for _, text := range hostile {
		filter[text] = append(filter[text], text, "x"+text)
	}
	return filter
}

func connectionsRoundTrip(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	want := s.connection(tenant)
	want.Principal = access.Principal{
		Subject:   strings.Join(hostile[:40], ""),
		Grants:    map[audit.TenantID][]access.Permission{tenant: {access.LogsStream, "a.b", "$c"}, access.AnyTenant: nil},
		Resources: []access.Resource{{Type: "order"}, {Type: "AWS::S3%", ID: `a"b.$c:d`}},
	}
	want.Principal.ExpiresAt = want.ExpiresAt
	for _, text := range hostile {
		want.Principal.Resources = append(want.Principal.Resources, access.Resource{Type: "user", ID: text})
	}
	noError(t, s.Create(t.Context(), want))
	for _, subscription := range []*stream.Subscription{
		nil, {}, {Filter: hostileFilter(), At: stream.Position{Segment: 1<<62 + 1, Within: 1 << 30}, Replay: 1<<62 + 3,
			Tries: 3, RetryAt: epoch.Add(time.Millisecond), WatchedUntil: epoch.Add(time.Hour)},
		{Filter: url.Values{"q": {"refund"}}, At: stream.Position{Segment: 7}}, nil,
	} {
		want.Subscription = subscription
		s.acquire(t, want.ID, "a")
		noError(t, s.Save(t.Context(), want.ID, "a", subscription, s.in(time.Minute)))
		same(t, must[stream.Connection](t)(s.Connection(t.Context(), want.ID)), want)
		s.wantRelease(t, want.ID, "a", true)
		same(t, s.acquire(t, want.ID, "b"), want)
		s.wantRelease(t, want.ID, "b", true)
	}
	fine := s.connection(tenant)
	fine.Subscription = &stream.Subscription{Filter: hostileFilter(), Replay: 3}
	kept := fine
	fine.ConnectedAt, fine.ExpiresAt = fine.ConnectedAt.Add(999_999), fine.ExpiresAt.Add(999_999).In(time.FixedZone("", 3600))
	noError(t, s.Create(t.Context(), fine))
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), fine.ID)), kept)
}

func connectionsAreUnique(t *testing.T, s connectionsUnderTest) {
	first := s.create(t, newTenant(t))
	second := s.connection(first.Tenant + "-2")
	second.ID = first.ID
	wantError(t, s.Create(t.Context(), first), audit.ErrConflict)
	wantError(t, s.Create(t.Context(), second), audit.ErrConflict)
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), first.ID)), first)
	noError(t, s.Remove(t.Context(), first.ID))
	noError(t, s.Create(t.Context(), second))
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), first.ID)), second)
}

// wantAbsent checks every answer about an absent connection.
func (s connectionsUnderTest) wantAbsent(t *testing.T, id string) {
	t.Helper()
	_, err := s.Connection(t.Context(), id)
	wantError(t, err, audit.ErrNotFound)
	_, acquired, err := s.Acquire(t.Context(), id, "a", s.in(time.Minute))
	wantError(t, err, audit.ErrNotFound)
	if acquired {
		t.Fatal("acquired the lease of an absent connection, want an error")
	}
	wantError(t, s.Save(t.Context(), id, "a", &stream.Subscription{}, s.in(time.Minute)), audit.ErrPrecondition)
	s.wantRelease(t, id, "a", true)
	noError(t, s.Remove(t.Context(), id))
}

func connectionsAbsent(t *testing.T, s connectionsUnderTest) {
	s.wantAbsent(t, randomHex(7)) // perhaps before there was any
	c := s.create(t, newTenant(t))
	s.wantAbsent(t, c.ID+"x")
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)), c)
	noError(t, s.Remove(t.Context(), c.ID))
	s.wantAbsent(t, c.ID)
}

func (s connectionsUnderTest) wantSubscribed(t *testing.T, tenant audit.TenantID, want ...string) {
	t.Helper()
	got := must[[]string](t)(s.Subscribed(t.Context(), tenant))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the subscribed connections are %v, want %v", got, want)
	}
}

func connectionsSubscribe(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	other := tenant + "-2"
	s.wantSubscribed(t, tenant)
	first, second, theirs := s.create(t, tenant), s.create(t, tenant), s.create(t, other)
	s.wantSubscribed(t, tenant)
	s.subscribe(t, first.ID, &stream.Subscription{Filter: url.Values{"q": {"x"}}})
	s.subscribe(t, theirs.ID, &stream.Subscription{})
	s.wantSubscribed(t, tenant, first.ID)
	s.subscribe(t, second.ID, &stream.Subscription{})
	s.wantSubscribed(t, tenant, first.ID, second.ID)
	s.acquire(t, second.ID, "a") // a lease makes no difference
	s.wantSubscribed(t, tenant, first.ID, second.ID)
	s.subscribe(t, first.ID, nil)
	s.wantSubscribed(t, tenant, second.ID)
	noError(t, s.Remove(t.Context(), second.ID))
	s.wantSubscribed(t, tenant)
	s.wantSubscribed(t, other, theirs.ID)
}

func connectionsLease(t *testing.T, s connectionsUnderTest) {
	c, other := s.create(t, newTenant(t)), s.create(t, newTenant(t))
	wantError(t, s.Save(t.Context(), c.ID, "a", &stream.Subscription{}, s.in(time.Minute)), audit.ErrPrecondition)
	s.wantRelease(t, c.ID, "a", true)
	s.acquire(t, c.ID, "a")
	s.acquire(t, other.ID, "b") // another connection's lease is another
	s.acquire(t, c.ID, "a")     // the answer may have been lost
	s.wantTaken(t, c.ID, "b")
	wantError(t, s.Save(t.Context(), c.ID, "b", &stream.Subscription{Replay: 2}, s.in(time.Minute)), audit.ErrPrecondition)
	s.wantRelease(t, c.ID, "b", true) // nothing to release
	s.wantTaken(t, c.ID, "c")
	noError(t, s.Save(t.Context(), c.ID, "a", &stream.Subscription{Replay: 1}, s.in(time.Minute)))
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)).Subscription, &stream.Subscription{Replay: 1})
	s.wantRelease(t, c.ID, "a", false)
	s.wantRelease(t, c.ID, "a", true)
	wantError(t, s.Save(t.Context(), c.ID, "a", nil, s.in(time.Minute)), audit.ErrPrecondition)
	s.acquire(t, c.ID, "b")
	s.wantRelease(t, c.ID, "b", true)
}

func connectionsLeaseEnds(t *testing.T, s connectionsUnderTest) {
	c := s.create(t, newTenant(t))
	s.acquire(t, c.ID, "a")
	s.advance(time.Minute - time.Millisecond)
	s.wantTaken(t, c.ID, "b")
	noError(t, s.Save(t.Context(), c.ID, "a", nil, s.in(time.Minute))) // which has it last longer
	s.advance(time.Minute - time.Millisecond)
	s.wantTaken(t, c.ID, "b")
	s.advance(time.Millisecond)
	s.acquire(t, c.ID, "b")
	wantError(t, s.Save(t.Context(), c.ID, "a", &stream.Subscription{}, s.in(time.Minute)), audit.ErrPrecondition)
	s.wantRelease(t, c.ID, "a", true) // that is not b's lease
	s.wantTaken(t, c.ID, "a")
	s.wantRelease(t, c.ID, "b", false)
	s.wantRelease(t, c.ID, "b", true)
}

func connectionsReportContention(t *testing.T, s connectionsUnderTest) {
	c := s.create(t, newTenant(t))
	s.acquire(t, c.ID, "a")
	s.wantRelease(t, c.ID, "a", true) // no other worker tried to acquire it
	s.acquire(t, c.ID, "a")
	s.wantTaken(t, c.ID, "b")
	s.wantTaken(t, c.ID, "c")
	noError(t, s.Save(t.Context(), c.ID, "a", nil, s.in(time.Minute))) // keeps the flag
	s.wantRelease(t, c.ID, "a", false)
	s.wantTaken(t, c.ID, "b")
	s.wantRelease(t, c.ID, "a", false)
	s.wantRelease(t, c.ID, "a", true)
	// A new holder of the lease sees everything, so earlier requests for it are obsolete.
	s.acquire(t, c.ID, "a")
	s.wantTaken(t, c.ID, "b")
	s.advance(time.Minute)
	s.acquire(t, c.ID, "c")
	s.wantRelease(t, c.ID, "c", true)
}

func connectionsAcquireConcurrently(t *testing.T, s connectionsUnderTest) {
	c := s.create(t, newTenant(t))
	for round := range 5 {
		var won atomic.Int32
		var holders sync.WaitGroup
		for h := range 8 {
			holders.Go(func() {
				_, acquired, err := s.Acquire(t.Context(), c.ID, strconv.Itoa(8*round+h), s.in(time.Minute))
				if err != nil {
					t.Error(err)
				}
				if acquired {
					won.Add(1)
				}
			})
		}
		holders.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of 8 holders got the lease, want 1", won.Load())
		}
		s.advance(time.Minute)
	}
}

// connectionsLoseNothing adds to a stream with several workers and wakes its delivery. The
// holder of the lease delivers everything until no worker asks again. In the end everything is
// delivered, by one worker at a time.
func connectionsLoseNothing(t *testing.T, s connectionsUnderTest) {
	const workers, each = 8, 25
	c := s.create(t, newTenant(t))
	s.subscribe(t, c.ID, &stream.Subscription{})
	w := wakeUps{s: s, id: c.ID}
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for i := range each {
				w.added.Add(1)
				if err := w.deliver(t, strconv.Itoa(worker*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	got := must[stream.Connection](t)(s.Connection(t.Context(), c.ID))
	if got.Subscription.At.Segment != workers*each {
		t.Fatalf("delivered up to %d, want %d: a wake-up was lost", got.Subscription.At.Segment, workers*each)
	}
	t.Logf("%d added in %d deliveries, %d of them because of contention", workers*each, w.deliveries.Load(), w.contended.Load())
	s.acquire(t, c.ID, "last") // every worker released the lease
}

// wakeUps simulates a stream whose only content is a number of entries.
type wakeUps struct {
	s                     connectionsUnderTest
	id                    string
	added, inside         atomic.Int64
	delivered             int64 // guarded by the lease: the race detector reports two holders
	deliveries, contended atomic.Int64
}

func (w *wakeUps) deliver(t *testing.T, holder string) error {
	c, acquired, err := w.s.Acquire(t.Context(), w.id, holder, w.s.in(time.Minute))
	if err != nil || !acquired {
		return err
	}
	if w.inside.Add(1) != 1 {
		return errors.New("two have the lease")
	}
	if c.Subscription.At.Segment != w.delivered {
		return errors.New("the lease came without what its last holder saved")
	}
	for {
		w.deliveries.Add(1)
		w.delivered = w.added.Load()
		position := &stream.Subscription{At: stream.Position{Segment: w.delivered}}
		if err := w.s.Save(t.Context(), w.id, holder, position, w.s.in(time.Minute)); err != nil {
			return err
		}
		w.inside.Add(-1) // another worker may acquire it after the release
		released, err := w.s.Release(t.Context(), w.id, holder)
		if err != nil || released {
			return err
		}
		w.inside.Add(1)
		w.contended.Add(1)
	}
}

func connectionsRemove(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	c := s.create(t, tenant)
	s.subscribe(t, c.ID, &stream.Subscription{})
	s.acquire(t, c.ID, "a")
	noError(t, s.Remove(t.Context(), c.ID))
	s.wantAbsent(t, c.ID)
	s.wantSubscribed(t, tenant)
	noError(t, s.Create(t.Context(), c)) // a new connection has no lease
	same(t, s.acquire(t, c.ID, "b"), c)
}

func connectionsPurge(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	other := tenant + "-2"
	if n := purgeAll(t, s, tenant, 10); n != 0 {
		t.Fatalf("Purge of an unknown tenant removed %d connections, want none", n)
	}
	var ids []string
	for i := range 25 {
		c := s.create(t, tenant)
		ids = append(ids, c.ID)
		if i%2 == 0 {
			s.subscribe(t, c.ID, &stream.Subscription{})
		}
	}
	kept := s.create(t, other)
	s.acquire(t, ids[0], "a")
	if n := purgeAll(t, s, tenant, 10); n != 25 {
		t.Fatalf("Purge removed %d connections, want 25", n)
	}
	for _, id := range ids {
		_, err := s.Connection(t.Context(), id)
		wantError(t, err, audit.ErrNotFound)
	}
	s.wantSubscribed(t, tenant)
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), kept.ID)), kept)
}

func connectionsCancelled(t *testing.T, s connectionsUnderTest) {
	c := s.create(t, newTenant(t))
	s.acquire(t, c.ID, "a")
	ctx := cancelled(t)
	_, readErr := s.Connection(ctx, c.ID)
	_, subscribedErr := s.Subscribed(ctx, c.Tenant)
	_, _, acquireErr := s.Acquire(ctx, c.ID, "a", s.in(time.Minute))
	_, releaseErr := s.Release(ctx, c.ID, "a")
	for _, err := range []error{
		readErr, subscribedErr, acquireErr, releaseErr, s.Create(ctx, s.connection(c.Tenant)), s.Remove(ctx, c.ID),
		s.Save(ctx, c.ID, "a", nil, s.in(time.Minute)),
	} {
		wantError(t, err, context.Canceled)
	}
	s.wantTaken(t, c.ID, "b")
	s.wantRelease(t, c.ID, "a", false)
}
