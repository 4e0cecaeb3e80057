package conformance

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

// clock is a time that a test sets. It begins now, so that an engine with its own clock does
// not remove what is not expired.
type clock struct{ millis atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.millis.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) now() time.Time { return time.UnixMilli(c.millis.Load()).UTC() }

func (c *clock) in(d time.Duration) time.Time { return c.now().Add(d) }

func (c *clock) advance(d time.Duration) { c.millis.Add(d.Milliseconds()) }

// StreamStore stores the live streams.
type StreamStore interface {
	stream.Streams
	jobs.CountedPurger
}

// streamsUnderTest are streams and the clock of their ends and leases.
type streamsUnderTest struct {
	StreamStore
	*clock
}

// Streams tests an adapter of stream.Streams and jobs.CountedPurger. The streams that open returns use
// now as their clock.
func Streams(t *testing.T, open func(t *testing.T, now func() time.Time) StreamStore) {
	for name, test := range map[string]func(t *testing.T, s streamsUnderTest){
		"AbsentIsNotFound":                 streamsAbsent,
		"OpenUntilTheLatestEnd":            streamsOpen,
		"ClosedAtTheirEnd":                 streamsEnd,
		"ComeBackAsSaved":                  streamsSave,
		"OneHolderAtATime":                 streamsLease,
		"LeasesEndWithTheirTime":           streamsLeaseEnds,
		"LeasesEndIfTheClockIsSetBack":     streamsClockSetBack,
		"OneOfManyHoldersWins":             streamsAcquireConcurrently,
		"NoChangeIsMissed":                 streamsLoseNothing,
		"ClosedOnlyWithoutChanges":         streamsClose,
		"OpenedByManyAtOnce":               streamsOpenConcurrently,
		"IdleAreOpenAndFree":               streamsIdle,
		"PurgeForgetsOneTenant":            streamsPurge,
		"CancelledCallsReturnTheirContext": streamsCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			test(t, streamsUnderTest{open(t, c.now), c})
		})
	}
}

func (s streamsUnderTest) open(t *testing.T, tenant audit.TenantID, d time.Duration) {
	t.Helper()
	noError(t, s.Open(t.Context(), tenant, s.in(d)))
}

func (s streamsUnderTest) stream(t *testing.T, tenant audit.TenantID) stream.State {
	t.Helper()
	return must[stream.State](t)(s.Stream(t.Context(), tenant))
}

// acquire acquires the lease for a minute.
func (s streamsUnderTest) acquire(t *testing.T, tenant audit.TenantID, holder string) stream.State {
	t.Helper()
	state, acquired, err := s.Acquire(t.Context(), tenant, holder, s.in(time.Minute), s.in(50*time.Second))
	noError(t, err)
	if !acquired {
		t.Fatalf("%s cannot acquire the lease, want it acquired", holder)
	}
	return state
}

func (s streamsUnderTest) wantTaken(t *testing.T, tenant audit.TenantID, holder string) {
	t.Helper()
	_, acquired, err := s.Acquire(t.Context(), tenant, holder, s.in(time.Minute), s.in(50*time.Second))
	noError(t, err)
	if acquired {
		t.Fatalf("%s acquired the lease of another, want it taken", holder)
	}
}

func (s streamsUnderTest) save(ctx context.Context, tenant audit.TenantID, holder string, progress map[string]stream.Progress) error {
	return s.Save(ctx, tenant, holder, progress, s.in(time.Minute), s.in(50*time.Second))
}

func (s streamsUnderTest) wantAbsent(t *testing.T, tenant audit.TenantID) {
	t.Helper()
	_, err := s.Stream(t.Context(), tenant)
	wantError(t, err, audit.ErrNotFound)
	_, acquired, err := s.Acquire(t.Context(), tenant, "a", s.in(time.Minute), s.in(50*time.Second))
	wantError(t, err, audit.ErrNotFound)
	if acquired {
		t.Fatal("acquired the lease of an absent stream, want an error")
	}
	s.wantIdle(t, []audit.TenantID{tenant})
}

func streamsAbsent(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.wantAbsent(t, tenant)
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	noError(t, s.Release(t.Context(), tenant, "a", stream.Rest{}))
	noError(t, s.Close(t.Context(), tenant, "a", 0))
	s.open(t, tenant+"-2", time.Hour)
	s.wantAbsent(t, tenant)
}

func streamsOpen(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	first := s.stream(t, tenant)
	if len(first.Progress) != 0 {
		t.Errorf("the progress of a new stream is %v, want none", first.Progress)
	}
	s.open(t, tenant, 2*time.Hour)
	s.open(t, tenant, time.Minute)
	if got := s.stream(t, tenant).Changes; got != first.Changes+2 {
		t.Errorf("two changes raised Changes from %d to %d, want %d", first.Changes, got, first.Changes+2)
	}
	s.advance(2*time.Hour - time.Millisecond)
	s.stream(t, tenant)
	s.advance(time.Millisecond)
	s.wantAbsent(t, tenant)
}

func streamsEnd(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	s.acquire(t, tenant, "a")
	noError(t, s.save(t.Context(), tenant, "a", map[string]stream.Progress{"x": {Place: 7}}))
	s.advance(time.Hour)
	s.wantAbsent(t, tenant)
	s.open(t, tenant, time.Hour) // another one
	if got := s.stream(t, tenant); len(got.Progress) != 0 {
		t.Errorf("the progress of the stream that was opened again is %v, want none", got.Progress)
	}
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	s.acquire(t, tenant, "b")
}

func streamsSave(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, 3*time.Hour)
	want := stream.State{Changes: s.stream(t, tenant).Changes, LeasedUntil: s.in(time.Minute), WatchedUntil: s.in(50 * time.Second), Progress: map[string]stream.Progress{}}
	same(t, s.acquire(t, tenant, "a"), want)
	same(t, s.stream(t, tenant), want)
	for _, progress := range []map[string]stream.Progress{
		{"x": {Place: 1<<62 + 1, Announced: true, Tries: 3, RetryAt: s.in(time.Second)}, "y": {}},
		{"y": {Place: 7}, "z.$": {Announced: true}}, {},
	} {
		s.advance(time.Second)
		noError(t, s.Save(t.Context(), tenant, "a", progress, s.in(50*time.Second), s.in(55*time.Second)))
		want.Progress, want.LeasedUntil, want.WatchedUntil = progress, s.in(50*time.Second), s.in(55*time.Second)
		same(t, s.stream(t, tenant), want)
	}
	for _, rest := range []stream.Rest{{Changes: 1, Place: 1<<62 + 3}, {}} {
		noError(t, s.Release(t.Context(), tenant, "a", rest))
		want.Rest, want.LeasedUntil = rest, time.Time{}
		same(t, s.stream(t, tenant), want)
		want.LeasedUntil, want.WatchedUntil = s.in(time.Minute), s.in(50*time.Second)
		same(t, s.acquire(t, tenant, "a"), want)
	}
}

func streamsLease(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	other := tenant + "-2"
	s.open(t, tenant, time.Hour)
	s.open(t, other, time.Hour)
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	s.acquire(t, tenant, "a")
	s.acquire(t, other, "b")  // another tenant's lease is another
	s.acquire(t, tenant, "a") // the answer may have been lost
	s.wantTaken(t, tenant, "b")
	wantError(t, s.save(t.Context(), tenant, "b", map[string]stream.Progress{"x": {Place: 2}}), audit.ErrPrecondition)
	noError(t, s.Release(t.Context(), tenant, "b", stream.Rest{Place: 9})) // it is not b's
	s.wantTaken(t, tenant, "c")
	noError(t, s.save(t.Context(), tenant, "a", map[string]stream.Progress{"x": {Place: 1}}))
	if got := s.stream(t, tenant); got.Progress["x"].Place != 1 {
		t.Errorf("the place is %d, want 1", got.Progress["x"].Place)
	}
	if got := s.stream(t, tenant).Rest; got != (stream.Rest{}) {
		t.Errorf("the rest is %v, want none", got)
	}
	noError(t, s.Release(t.Context(), tenant, "a", stream.Rest{}))
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	s.acquire(t, tenant, "b")
}

func streamsLeaseEnds(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	s.acquire(t, tenant, "a")
	s.advance(time.Minute - time.Millisecond)
	s.wantTaken(t, tenant, "b")
	noError(t, s.save(t.Context(), tenant, "a", nil)) // which has it last longer
	s.advance(time.Minute - time.Millisecond)
	s.wantTaken(t, tenant, "b")
	s.advance(time.Millisecond)
	noError(t, s.save(t.Context(), tenant, "a", nil)) // nobody else acquired it
	s.advance(time.Minute)
	s.acquire(t, tenant, "b")
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	noError(t, s.Release(t.Context(), tenant, "a", stream.Rest{})) // that is not b's lease
	s.wantTaken(t, tenant, "a")
}

// streamsClockSetBack has a clock of the store that was a day ahead. A holder that was killed
// meanwhile delays nobody.
func streamsClockSetBack(t *testing.T, s streamsUnderTest) {
	const day = 24 * time.Hour
	tenant := newTenant(t)
	s.advance(day)
	s.open(t, tenant, time.Hour)
	s.acquire(t, tenant, "a")
	late := map[string]stream.Progress{"x": {Place: 1, Announced: true, Tries: 1, RetryAt: s.in(time.Second)}}
	noError(t, s.save(t.Context(), tenant, "a", late))
	s.advance(-day)
	got := s.stream(t, tenant)
	if !got.LeasedUntil.IsZero() {
		t.Errorf("the stream is leased until %s, want it free", got.LeasedUntil)
	}
	if !got.WatchedUntil.IsZero() {
		t.Errorf("the stream is watched until %s, want it not watched", got.WatchedUntil)
	}
	if at := got.Progress["x"].RetryAt; !at.IsZero() {
		t.Errorf("the subscriber is tried again at %s, want now", at)
	}
	s.wantIdle(t, []audit.TenantID{tenant}, tenant)
	s.acquire(t, tenant, "b")
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	s.wantTaken(t, tenant, "c")
}

func streamsAcquireConcurrently(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	for round := range 5 {
		var won atomic.Int32
		var holders sync.WaitGroup
		for h := range 8 {
			holders.Go(func() {
				_, acquired, err := s.Acquire(t.Context(), tenant, strconv.Itoa(8*round+h), s.in(time.Minute), s.in(50*time.Second))
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

// streamsLoseNothing changes a stream with several workers. A worker that finds the lease taken
// returns at once. The holder looks once more after its release. In the end every change was
// seen, by one holder at a time.
func streamsLoseNothing(t *testing.T, s streamsUnderTest) {
	const workers, each = 8, 25
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	first := s.stream(t, tenant).Changes
	w := looks{s: s, tenant: tenant}
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for i := range each {
				if err := s.Open(t.Context(), tenant, s.in(time.Hour)); err != nil {
					t.Error(err)
				}
				if err := w.look(t, strconv.Itoa(worker*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if want := first + workers*each; w.seen != want {
		t.Fatalf("changes up to %d were seen, want %d", w.seen, want)
	}
	s.acquire(t, tenant, "last") // every worker released the lease
}

// looks are those of workers at the changes of a stream.
type looks struct {
	s      streamsUnderTest
	tenant audit.TenantID
	inside atomic.Int64
	seen   int64 // guarded by the lease: the race detector reports two holders
}

func (l *looks) look(t *testing.T, holder string) error {
	for {
		state, acquired, err := l.s.Acquire(t.Context(), l.tenant, holder, l.s.in(time.Minute), l.s.in(50*time.Second))
		if err != nil || !acquired {
			return err
		}
		if l.inside.Add(1) != 1 {
			return errors.New("two have the lease")
		}
		l.seen = state.Changes
		l.inside.Add(-1) // another worker may acquire it after the release
		if err := l.s.Release(t.Context(), l.tenant, holder, stream.Rest{}); err != nil {
			return err
		}
		again, err := l.s.Stream(t.Context(), l.tenant)
		if err != nil || again.Changes == state.Changes {
			return err
		}
	}
}

func streamsClose(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	seen := s.acquire(t, tenant, "a").Changes
	noError(t, s.Close(t.Context(), tenant, "b", seen)) // it has no lease
	s.stream(t, tenant)
	s.open(t, tenant, time.Hour)
	noError(t, s.Close(t.Context(), tenant, "a", seen)) // something has changed
	s.stream(t, tenant)
	noError(t, s.Close(t.Context(), tenant, "a", seen+1))
	s.wantAbsent(t, tenant)
	noError(t, s.Close(t.Context(), tenant, "a", seen+1))
	s.open(t, tenant, time.Hour)
	s.acquire(t, tenant, "b")
}

func streamsOpenConcurrently(t *testing.T, s streamsUnderTest) {
	const openers = 8
	tenant := newTenant(t)
	for range 3 {
		var opening sync.WaitGroup
		for range openers {
			opening.Go(func() {
				if err := s.Open(t.Context(), tenant, s.in(time.Hour)); err != nil {
					t.Error(err)
				}
			})
		}
		opening.Wait()
		if got := s.stream(t, tenant).Changes; got != openers {
			t.Fatalf("Changes is %d after %d openings, want %d", got, openers, openers)
		}
		s.advance(time.Hour)
	}
}

// wantIdle checks which of the tenants' streams nobody holds.
func (s streamsUnderTest) wantIdle(t *testing.T, of []audit.TenantID, want ...audit.TenantID) {
	t.Helper()
	got := must[[]audit.TenantID](t)(s.Idle(t.Context(), of))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the idle streams are %v, want %v", got, want)
	}
}

func streamsIdle(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	free, held, absent, foreign := tenant, tenant+"-2", tenant+"-3", tenant+"-4"
	of := []audit.TenantID{free, held, absent}
	s.wantIdle(t, nil)
	s.wantIdle(t, of) // perhaps before there was any
	for _, id := range []audit.TenantID{free, held, foreign} {
		s.open(t, id, time.Hour)
	}
	s.wantIdle(t, of, free, held)
	s.acquire(t, held, "a")
	s.wantIdle(t, of, free)
	s.advance(time.Minute)
	s.wantIdle(t, of, free, held)
	s.acquire(t, held, "b")
	noError(t, s.Release(t.Context(), held, "b", stream.Rest{}))
	s.wantIdle(t, of, free, held)
	s.advance(time.Hour)
	s.wantIdle(t, of)
}

func streamsPurge(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	other := tenant + "-2"
	if n := purgeAll(t, s, tenant, 10); n != 0 {
		t.Fatalf("Purge of an unknown tenant removed %d streams, want none", n)
	}
	s.open(t, tenant, time.Hour)
	s.open(t, other, time.Hour)
	s.acquire(t, tenant, "a")
	if n := purgeAll(t, s, tenant, 10); n != 1 {
		t.Fatalf("Purge removed %d streams, want 1", n)
	}
	s.wantAbsent(t, tenant)
	wantError(t, s.save(t.Context(), tenant, "a", nil), audit.ErrPrecondition)
	s.stream(t, other)
}

func streamsCancelled(t *testing.T, s streamsUnderTest) {
	tenant := newTenant(t)
	s.open(t, tenant, time.Hour)
	s.acquire(t, tenant, "a")
	want := s.stream(t, tenant)
	ctx := cancelled(t)
	_, readErr := s.Stream(ctx, tenant)
	_, _, acquireErr := s.Acquire(ctx, tenant, "a", s.in(time.Minute), s.in(50*time.Second))
	_, idleErr := s.Idle(ctx, []audit.TenantID{tenant})
	for _, err := range []error{
		readErr, acquireErr, idleErr, s.Open(ctx, tenant, s.in(time.Hour)), s.save(ctx, tenant, "a", nil),
		s.Release(ctx, tenant, "a", stream.Rest{}), s.Close(ctx, tenant, "a", want.Changes),
	} {
		wantError(t, err, context.Canceled)
	}
	same(t, s.stream(t, tenant), want)
}
