package conformance

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
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

// StreamLog keeps the order of streams.
type StreamLog interface {
	stream.Log
	jobs.Purger
}

// streamUnderTest is a log and its clock.
type streamUnderTest struct {
	StreamLog
	*clock
}

// StreamLogs tests an adapter of stream.Log and jobs.Purger. The log that open returns uses
// now as its clock.
func StreamLogs(t *testing.T, open func(t *testing.T, now func() time.Time) StreamLog) {
	for name, test := range map[string]func(t *testing.T, s streamUnderTest){
		"NothingBeforeItIsOpened":          streamNeverOpened,
		"SegmentsFollowOneAnother":         streamInOrder,
		"EachIDComesOnce":                  streamIsIdempotent,
		"LargeSegments":                    streamLargeSegments,
		"ClosedStreamsTakeNothing":         streamCloses,
		"OpeningAgainKeepsItOpen":          streamStaysOpen,
		"ReopeningExpiresWhatWasBefore":    streamReopens,
		"SegmentsAreKeptForAWhile":         streamExpires,
		"WhatExpiresTakesNothingAlong":     streamExpiresApart,
		"OpeningsAtOnceAgree":              streamOpensConcurrently,
		"AppendersAtOnceMakeOneOrder":      streamAppendsConcurrently,
		"WhatIsStoredAfterOpeningIsThere":  streamLosesNothing,
		"TenantsAreApart":                  streamKeepsTenantsApart,
		"PurgeForgetsOneTenant":            streamPurges,
		"OpeningWhileAPurgeIsNotDone":      streamOpensInPurge,
		"CancelledCallsReturnTheirContext": streamCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			test(t, streamUnderTest{open(t, c.now), c})
		})
	}
}

// someID returns the n-th id of a suite. The ids are of several months.
func someID(n int) audit.EntryID {
	var random [10]byte
	binary.BigEndian.PutUint64(random[2:], uint64(n))
	return audit.NewEntryID(epoch.Add(time.Duration(n)*7*time.Hour), random)
}

func someIDs(from, to int) []audit.EntryID {
	var ids []audit.EntryID
	for n := from; n < to; n++ {
		ids = append(ids, someID(n))
	}
	return ids
}

func (s streamUnderTest) open(t *testing.T, tenant audit.TenantID) int64 {
	t.Helper()
	return must[int64](t)(s.Open(t.Context(), tenant, s.in(stream.Retention)))
}

func (s streamUnderTest) add(t *testing.T, tenant audit.TenantID, ids []audit.EntryID) {
	t.Helper()
	noError(t, s.Append(t.Context(), tenant, ids))
}

// wantSegments reads up to limit segments and compares their ids; their numbers
// must follow the position without a gap.
func (s streamUnderTest) wantSegments(t *testing.T, tenant audit.TenantID, after int64, limit int, want ...[]audit.EntryID) {
	t.Helper()
	segments := must[[]stream.Segment](t)(s.Read(t.Context(), tenant, after, limit))
	if len(segments) != len(want) {
		t.Fatalf("%d segments after %d: %+v, want %d", len(segments), after, segments, len(want))
	}
	for i, segment := range segments {
		if segment.Number != after+1+int64(i) {
			t.Fatalf("segment %d after %d: got number %d, want %d", i+1, after, segment.Number, after+1+int64(i))
		}
		if !slices.Equal(segment.IDs, want[i]) {
			t.Fatalf("segment %d has the ids %v, want %v", segment.Number, segment.IDs, want[i])
		}
	}
}

func (s streamUnderTest) wantExpired(t *testing.T, tenant audit.TenantID, positions ...int64) {
	t.Helper()
	for _, after := range positions {
		if segments, err := s.Read(t.Context(), tenant, after, 10); !errors.Is(err, stream.ErrExpired) {
			t.Fatalf("Read after %d: got error %v, want %v", after, err, stream.ErrExpired)
		} else if len(segments) > 0 {
			t.Fatalf("Read after %d: got segments %v, want none", after, segments)
		}
	}
}

func (s streamUnderTest) wantHead(t *testing.T, tenant audit.TenantID, want int64) {
	t.Helper()
	if got := must[int64](t)(s.Head(t.Context(), tenant)); got != want {
		t.Fatalf("Head = %d, want %d", got, want)
	}
}

func (s streamUnderTest) wantSubscribers(t *testing.T, tenant audit.TenantID, want bool) {
	t.Helper()
	if got := must[bool](t)(s.HasSubscribers(t.Context(), tenant)); got != want {
		t.Fatalf("HasSubscribers = %v, want %v", got, want)
	}
}

func streamNeverOpened(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	s.add(t, tenant, someIDs(0, 3))
	s.wantSubscribers(t, tenant, false)
	s.wantHead(t, tenant, 0)
	s.wantExpired(t, tenant, -1, 0, 1, 1<<62)
	head := s.open(t, tenant)
	s.wantSubscribers(t, tenant, true)
	s.wantHead(t, tenant, head)
	s.wantSegments(t, tenant, head, 10)
	s.wantExpired(t, tenant, -1, 0, head-1, head+1, 1<<62)
	s.add(t, tenant, someIDs(0, 3)) // which it had no place for before
	s.wantSegments(t, tenant, head, 10, someIDs(0, 3))
}

func streamInOrder(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	var want [][]audit.EntryID
	for i := range 25 {
		ids := someIDs(10*i, 10*i+1+i%7)
		slices.Reverse(ids) // the order is that of the call, not that of time
		s.add(t, tenant, ids)
		want = append(want, ids)
		s.wantHead(t, tenant, head+int64(i)+1)
	}
	for _, limit := range []int{1, 4, 25, 100} {
		for from := 0; from < len(want); from += limit {
			s.wantSegments(t, tenant, head+int64(from), limit, want[from:min(from+limit, len(want))]...)
		}
	}
	s.wantSegments(t, tenant, head, 0)
	s.wantSegments(t, tenant, head+25, 10)
	s.wantExpired(t, tenant, head-1, head+26)
}

func streamIsIdempotent(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	s.add(t, tenant, nil)
	s.add(t, tenant, []audit.EntryID{someID(2), someID(1), someID(2), someID(1)})
	s.add(t, tenant, someIDs(1, 3))                                               // it has all of them
	s.add(t, tenant, []audit.EntryID{someID(5), someID(1), someID(4), someID(5)}) // and one of these
	s.add(t, tenant, someIDs(0, 7))
	s.add(t, tenant, someIDs(0, 7))
	s.wantHead(t, tenant, head+3)
	s.wantSegments(t, tenant, head, 10, []audit.EntryID{someID(2), someID(1)}, []audit.EntryID{someID(5), someID(4)},
		[]audit.EntryID{someID(0), someID(3), someID(6)})
}

func streamLargeSegments(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	s.add(t, tenant, someIDs(0, 3000))
	s.add(t, tenant, someIDs(1500, 3001))
	s.wantSegments(t, tenant, head, 2, someIDs(0, 3000), someIDs(3000, 3001))
}

func streamCloses(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour)))
	s.add(t, tenant, someIDs(0, 2))
	s.advance(time.Hour - time.Millisecond)
	s.wantSubscribers(t, tenant, true)
	s.add(t, tenant, someIDs(2, 4))
	s.advance(time.Millisecond)
	s.wantSubscribers(t, tenant, false)
	s.add(t, tenant, someIDs(4, 6))
	s.wantHead(t, tenant, head+2)
	s.wantSegments(t, tenant, head, 10, someIDs(0, 2), someIDs(2, 4)) // what it has can be read
}

func streamStaysOpen(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := must[int64](t)(s.Open(t.Context(), tenant, s.in(2*time.Hour)))
	s.add(t, tenant, someIDs(0, 2))
	if got := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour))); got != head+1 { // until then it is open anyway
		t.Fatalf("Open = %d, want the last segment %d", got, head+1)
	}
	s.advance(90 * time.Minute)
	s.wantSubscribers(t, tenant, true)
	if got := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour))); got != head+1 {
		t.Fatalf("Open = %d, want the last segment %d", got, head+1)
	}
	s.advance(45 * time.Minute)
	s.wantSubscribers(t, tenant, true)
	s.add(t, tenant, someIDs(0, 4))
	s.wantSegments(t, tenant, head, 10, someIDs(0, 2), someIDs(2, 4))
}

func streamReopens(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	first := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour)))
	s.add(t, tenant, someIDs(0, 2))
	s.add(t, tenant, someIDs(2, 4))
	s.advance(time.Hour)
	second := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour)))
	if second <= first+2 {
		t.Fatalf("the number after reopening is %d, want one after %d", second, first+2)
	}
	s.wantSubscribers(t, tenant, true)
	s.wantHead(t, tenant, second)
	s.wantExpired(t, tenant, first-1, first, first+1, first+2, second-1, second+1)
	s.wantSegments(t, tenant, second, 10)
	s.add(t, tenant, someIDs(3, 6)) // the new stream has nothing of the old one
	s.wantSegments(t, tenant, second, 10, someIDs(3, 6))
	s.wantExpired(t, tenant, first, first+2, second-1)
	s.advance(time.Hour)
	third := must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour)))
	s.wantExpired(t, tenant, first, second, second+1)
	s.wantSegments(t, tenant, third, 10)
}

func streamExpires(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	s.add(t, tenant, someIDs(0, 2))
	s.advance(time.Hour)
	s.add(t, tenant, someIDs(2, 4))
	s.open(t, tenant)
	s.advance(stream.Retention - time.Hour - time.Millisecond)
	s.wantSegments(t, tenant, head, 10, someIDs(0, 2), someIDs(2, 4))
	s.advance(time.Millisecond)
	s.wantExpired(t, tenant, head)
	s.wantSegments(t, tenant, head+1, 10, someIDs(2, 4))
	s.add(t, tenant, someIDs(4, 6)) // with which the adapter may remove what is expired
	s.wantExpired(t, tenant, head)
	s.wantSegments(t, tenant, head+1, 10, someIDs(2, 4), someIDs(4, 6))
	s.open(t, tenant)
	s.advance(stream.Retention - time.Millisecond)
	s.wantExpired(t, tenant, head, head+1)
	s.wantSegments(t, tenant, head+2, 10, someIDs(4, 6))
	s.wantSegments(t, tenant, head+3, 10)
	s.advance(time.Millisecond)
	s.wantHead(t, tenant, head+3)
}

// streamExpiresApart: the ids of a segment that expires are also in a later one.
func streamExpiresApart(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	must[int64](t)(s.Open(t.Context(), tenant, s.in(time.Hour)))
	s.add(t, tenant, someIDs(0, 3))
	s.advance(time.Hour)
	head := s.open(t, tenant)
	s.add(t, tenant, someIDs(0, 3))
	s.advance(stream.Retention - time.Hour)
	s.add(t, tenant, someIDs(3, 4)) // with which the adapter may remove what is expired
	s.add(t, tenant, someIDs(0, 4))
	s.wantSegments(t, tenant, head, 10, someIDs(0, 3), someIDs(3, 4))
}

func streamOpensConcurrently(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	last := int64(-1)
	for range 5 {
		until := s.in(time.Hour)
		numbers := make([]int64, 8)
		var openers sync.WaitGroup
		for i := range numbers {
			openers.Go(func() {
				var err error
				if numbers[i], err = s.Open(t.Context(), tenant, until); err != nil {
					t.Error(err)
				}
			})
		}
		openers.Wait()
		if slices.Min(numbers) != slices.Max(numbers) {
			t.Fatalf("8 concurrent Opens: got numbers %v, want the same number from each", numbers)
		}
		if numbers[0] <= last {
			t.Fatalf("8 concurrent Opens: got number %d, want more than %d", numbers[0], last)
		}
		s.wantHead(t, tenant, numbers[0])
		s.add(t, tenant, someIDs(0, 2))
		s.wantSegments(t, tenant, numbers[0], 10, someIDs(0, 2))
		last = numbers[0] + 1
		s.advance(time.Hour)
	}
}

// streamAppendsConcurrently has many workers append overlapping batches, some
// of them again, while another follows the stream.
func streamAppendsConcurrently(t *testing.T, s streamUnderTest) {
	const total, batch = 240, 12
	tenant := newTenant(t)
	head := s.open(t, tenant)
	var appenders sync.WaitGroup
	for w := range 8 {
		appenders.Go(func() {
			for from := 0; from < total; from += batch {
				start := (from + 3*w*batch) % total
				ids := append(someIDs(start, start+batch), someIDs(max(start-batch/2, 0), start)...)
				for range 1 + w%2 {
					if err := s.Append(t.Context(), tenant, ids); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	seen := make(chan []stream.Segment)
	done := make(chan struct{})
	go func() {
		defer close(seen)
		seen <- s.follow(t, tenant, head, done)
	}()
	appenders.Wait()
	close(done)
	segments := <-seen
	var ids []audit.EntryID
	for i, segment := range segments {
		if segment.Number != head+1+int64(i) {
			t.Fatalf("%+v: got number %d, want %d", segment, segment.Number, head+1+int64(i))
		}
		if len(segment.IDs) == 0 {
			t.Fatalf("%+v: got no IDs, want some", segment)
		}
		ids = append(ids, segment.IDs...)
	}
	slices.SortFunc(ids, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	if !slices.Equal(ids, someIDs(0, total)) {
		t.Fatalf("the stream has %d ids, want each of %d once", len(ids), total)
	}
	s.wantHead(t, tenant, head+int64(len(segments)))
	again := must[[]stream.Segment](t)(s.Read(t.Context(), tenant, head, len(segments)+1))
	same(t, again, segments) // the order is the same for everybody
}

// follow reads the segments after the position until done, and then the rest.
func (s streamUnderTest) follow(t *testing.T, tenant audit.TenantID, after int64, done <-chan struct{}) []stream.Segment {
	var all []stream.Segment
	for last := false; ; {
		segments, err := s.Read(t.Context(), tenant, after, 5)
		if err != nil {
			t.Errorf("Read after %d: %v", after, err)
			return all
		}
		if len(segments) > 0 {
			all = append(all, segments...)
			after = segments[len(segments)-1].Number
			continue
		}
		if last {
			return all
		}
		select {
		case <-done:
			last = true // one more look
		default:
		}
	}
}

// streamLosesNothing opens, appends and reads with several workers while time passes and the
// stream sometimes starts again. Ids that were appended to an open stream after Open returned
// must occur once.
func streamLosesNothing(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	var expired, found atomic.Int64
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			for i := range 30 {
				until := s.in(time.Hour)
				head, err := s.Open(t.Context(), tenant, until)
				if err == nil {
					err = s.Append(t.Context(), tenant, []audit.EntryID{someID(1000*w + i)})
				}
				if err != nil {
					t.Error(err)
					return
				}
				switch n, err := s.countAfter(t, tenant, head, someID(1000*w+i)); {
				case err == nil && n == 1:
					found.Add(1)
				case s.now().Before(until):
					t.Errorf("id %d.%d came %d times after %d (error %v) while the stream was open, want once", w, i, n, head, err)
				default:
					expired.Add(1)
				}
				if w == 0 && i%3 == 0 {
					s.advance(time.Hour)
				}
			}
		})
	}
	workers.Wait()
	if found.Load() == 0 {
		t.Fatal("the stream was never open for long enough, want it open at least once")
	}
	t.Logf("%d found, %d appended while the stream closed", found.Load(), expired.Load())
}

// countAfter counts how often the id occurs after the position.
func (s streamUnderTest) countAfter(t *testing.T, tenant audit.TenantID, after int64, id audit.EntryID) (n int, err error) {
	for {
		segments, err := s.Read(t.Context(), tenant, after, 100)
		if err != nil || len(segments) == 0 {
			return n, err
		}
		for _, segment := range segments {
			if slices.Contains(segment.IDs, id) {
				n++
			}
			after = segment.Number
		}
	}
}

func streamKeepsTenantsApart(t *testing.T, s streamUnderTest) {
	mine := newTenant(t)
	yours, theirs := mine+"-2", mine+"0" // in a text's order one lies right before a slash, the other behind
	head := s.open(t, mine)
	s.add(t, mine, someIDs(0, 2))
	s.wantSubscribers(t, yours, false)
	s.add(t, yours, someIDs(0, 2))
	s.wantExpired(t, yours, head)
	for _, other := range []audit.TenantID{yours, theirs} {
		first := s.open(t, other)
		s.add(t, other, someIDs(1, 4)) // the same id in another tenant is another entry
		s.wantSegments(t, other, first, 10, someIDs(1, 4))
	}
	s.add(t, mine, someIDs(2, 4))
	s.wantSegments(t, mine, head, 10, someIDs(0, 2), someIDs(2, 4))
	s.wantHead(t, mine, head+2)
}

func streamPurges(t *testing.T, s streamUnderTest) {
	mine := newTenant(t)
	yours := mine + "-2"
	if n := purgeAll(t, s, mine, 10); n != 0 {
		t.Fatalf("Purge of an unknown tenant removed %d records, want none", n)
	}
	head, kept := s.open(t, mine), s.open(t, yours)
	for i := range 15 {
		s.add(t, mine, someIDs(10*i, 10*i+3))
		s.add(t, yours, someIDs(10*i, 10*i+3))
	}
	if n := purgeAll(t, s, mine, 4); n < 16 {
		t.Fatalf("Purge removed %d records, want at least the stream and its 15 segments", n)
	}
	s.wantSubscribers(t, mine, false)
	s.wantHead(t, mine, 0)
	s.wantExpired(t, mine, head, head+15)
	s.wantHead(t, yours, kept+15)
	s.wantSegments(t, yours, kept+14, 10, someIDs(140, 143))
	if n := purgeAll(t, s, yours, 1000); n < 16 {
		t.Fatalf("Purge removed %d records, want at least the stream and its 15 segments", n)
	}
}

func streamOpensInPurge(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	for i := range 5 {
		s.add(t, tenant, someIDs(10*i, 10*i+3))
	}
	for limit := range 3 {
		must[int](t)(s.Purge(t.Context(), tenant, limit))
	}
	s.wantSubscribers(t, tenant, false)
	again := s.open(t, tenant)
	s.add(t, tenant, someIDs(0, 6))
	s.wantSegments(t, tenant, again, 10, someIDs(0, 6))
	if again <= head+5 {
		s.wantExpired(t, tenant, again-1)
	} else {
		s.wantExpired(t, tenant, head, head+4, head+5)
	}
	purgeAll(t, s, tenant, 100)
	s.wantExpired(t, tenant, head, again)
}

func streamCancelled(t *testing.T, s streamUnderTest) {
	tenant := newTenant(t)
	head := s.open(t, tenant)
	ctx := cancelled(t)
	_, openErr := s.Open(ctx, tenant, s.in(time.Hour))
	_, subscribersErr := s.HasSubscribers(ctx, tenant)
	_, headErr := s.Head(ctx, tenant)
	_, readErr := s.Read(ctx, tenant, head, 10)
	_, purgeErr := s.Purge(ctx, tenant, 10)
	for _, err := range []error{openErr, subscribersErr, headErr, readErr, purgeErr, s.Append(ctx, tenant, someIDs(0, 3))} {
		wantError(t, err, context.Canceled)
	}
	s.add(t, tenant, someIDs(0, 3))
	s.wantSegments(t, tenant, head, 10, someIDs(0, 3))
}
