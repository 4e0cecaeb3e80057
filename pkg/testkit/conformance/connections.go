package conformance

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// ConnectionStore keeps connections.
type ConnectionStore interface {
	stream.Connections
	jobs.CountedPurger
}

// connectionsUnderTest are connections and their clock.
type connectionsUnderTest struct {
	ConnectionStore
	*clock
}

// Connections tests an adapter of stream.Connections and jobs.CountedPurger. The connections that
// open returns use now as their clock.
func Connections(t *testing.T, open func(t *testing.T, now func() time.Time) ConnectionStore) {
	for name, test := range map[string]func(t *testing.T, s connectionsUnderTest){
		"ComeBackAsCreated":                connectionsRoundTrip,
		"IdsAreTakenOnce":                  connectionsAreUnique,
		"AbsentIsNotFound":                 connectionsAbsent,
		"SubscribedAreListed":              connectionsSubscribe,
		"OnlyItsSubscriptionEnds":          connectionsEndSubscription,
		"OneEndsAConnection":               connectionsClaimEnd,
		"RemovedIsGone":                    connectionsRemove,
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

func (s connectionsUnderTest) subscribe(t *testing.T, id string, subscription stream.Subscription) {
	t.Helper()
	noError(t, s.Subscribe(t.Context(), id, subscription))
}

// everyByte is a sealed filter, which is not text.
func everyByte() []byte {
	filter := make([]byte, 256)
	for i := range filter {
		filter[i] = byte(i)
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
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), want.ID)), want)
	for _, subscription := range []stream.Subscription{
		{ID: "a"}, {ID: "b", SealedFilter: everyByte(), After: 1<<62 + 1, Replay: 1<<62 + 3},
		{ID: "c", SealedFilter: []byte{0}, After: 7}, {ID: "d", Ended: true},
	} {
		want.Subscription = &subscription
		s.subscribe(t, want.ID, subscription)
		same(t, must[stream.Connection](t)(s.Connection(t.Context(), want.ID)), want)
		same(t, must[[]stream.Connection](t)(s.Subscribed(t.Context(), tenant)), []stream.Connection{want})
	}
	fine := s.connection(tenant)
	fine.Subscription = &stream.Subscription{ID: "e", SealedFilter: everyByte(), Replay: 3}
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
	wantError(t, s.Subscribe(t.Context(), id, stream.Subscription{ID: "a"}), audit.ErrNotFound)
	noError(t, s.EndSubscription(t.Context(), id, "a"))
	same(t, must[bool](t)(s.ClaimEnd(t.Context(), id, s.in(time.Minute))), true)
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
	var got []string
	for _, c := range must[[]stream.Connection](t)(s.Subscribed(t.Context(), tenant)) {
		got = append(got, c.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the subscribed connections are %v, want %v", got, want)
	}
	if n := must[int](t)(s.CountSubscribed(t.Context(), tenant)); n != len(want) {
		t.Fatalf("CountSubscribed = %d, want %d", n, len(want))
	}
}

func connectionsSubscribe(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	other := tenant + "-2"
	s.wantSubscribed(t, tenant)
	first, second, theirs := s.create(t, tenant), s.create(t, tenant), s.create(t, other)
	s.wantSubscribed(t, tenant)
	s.subscribe(t, first.ID, stream.Subscription{ID: "a", SealedFilter: []byte("x")})
	s.subscribe(t, theirs.ID, stream.Subscription{ID: "b"})
	s.wantSubscribed(t, tenant, first.ID)
	s.subscribe(t, second.ID, stream.Subscription{ID: "c"})
	s.wantSubscribed(t, tenant, first.ID, second.ID)
	noError(t, s.EndSubscription(t.Context(), first.ID, "a"))
	s.wantSubscribed(t, tenant, second.ID)
	noError(t, s.Remove(t.Context(), second.ID))
	s.wantSubscribed(t, tenant)
	s.wantSubscribed(t, other, theirs.ID)
}

func connectionsEndSubscription(t *testing.T, s connectionsUnderTest) {
	c := s.create(t, newTenant(t))
	noError(t, s.EndSubscription(t.Context(), c.ID, "a")) // it has none
	s.subscribe(t, c.ID, stream.Subscription{ID: "a"})
	s.subscribe(t, c.ID, stream.Subscription{ID: "b"})
	noError(t, s.EndSubscription(t.Context(), c.ID, "a"))
	s.wantSubscribed(t, c.Tenant, c.ID)
	for range 2 { // the answer may have been lost
		noError(t, s.EndSubscription(t.Context(), c.ID, "b"))
		s.wantSubscribed(t, c.Tenant)
	}
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)), c)
}

func connectionsClaimEnd(t *testing.T, s connectionsUnderTest) {
	c, other := s.create(t, newTenant(t)), s.create(t, newTenant(t))
	claims := make(chan bool, 10)
	var claiming errgroup.Group
	for range cap(claims) {
		claiming.Go(func() error {
			claimed, err := s.ClaimEnd(t.Context(), c.ID, s.in(time.Minute))
			claims <- claimed
			return err
		})
	}
	noError(t, claiming.Wait())
	n := 0
	for range cap(claims) {
		if <-claims {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d callers end the connection, want 1", n, cap(claims))
	}
	same(t, must[bool](t)(s.ClaimEnd(t.Context(), other.ID, s.in(time.Minute))), true)
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)), c)
	same(t, must[bool](t)(s.ClaimEnd(t.Context(), c.ID, s.in(time.Minute))), false)
	s.advance(time.Minute)
	same(t, must[bool](t)(s.ClaimEnd(t.Context(), c.ID, s.in(time.Minute))), true) // the first has died
}

func connectionsRemove(t *testing.T, s connectionsUnderTest) {
	tenant := newTenant(t)
	c := s.create(t, tenant)
	s.subscribe(t, c.ID, stream.Subscription{ID: "a"})
	noError(t, s.Remove(t.Context(), c.ID))
	s.wantAbsent(t, c.ID)
	s.wantSubscribed(t, tenant)
	noError(t, s.Create(t.Context(), c)) // a new connection has no subscription
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)), c)
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
			s.subscribe(t, c.ID, stream.Subscription{ID: "a"})
		}
	}
	kept := s.create(t, other)
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
	ctx := cancelled(t)
	_, readErr := s.Connection(ctx, c.ID)
	_, subscribedErr := s.Subscribed(ctx, c.Tenant)
	_, countErr := s.CountSubscribed(ctx, c.Tenant)
	_, claimErr := s.ClaimEnd(ctx, c.ID, s.in(time.Minute))
	for _, err := range []error{
		readErr, subscribedErr, countErr, claimErr, s.Create(ctx, s.connection(c.Tenant)), s.Remove(ctx, c.ID),
		s.Subscribe(ctx, c.ID, stream.Subscription{ID: "a"}), s.EndSubscription(ctx, c.ID, "a"),
	} {
		wantError(t, err, context.Canceled)
	}
	same(t, must[stream.Connection](t)(s.Connection(t.Context(), c.ID)), c)
}
