package conformance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
)

// ArrivalLog keeps arrival logs.
type ArrivalLog interface {
	arrival.Log
	jobs.CountedPurger
}

// Arrivals tests an adapter of arrival.Log and jobs.CountedPurger.
func Arrivals(t *testing.T, open func(t *testing.T) ArrivalLog) {
	for name, test := range map[string]func(t *testing.T, l ArrivalLog){
		"EmptyLog":                 arrivalsEmpty,
		"SegmentsFollowOneAnother": arrivalsInOrder,
		"ATakenPlaceIsAConflict":   arrivalsTaken,
		"AMessageIsPlacedOnce":     arrivalsPlacedOnce,
		"LargeSegments":            arrivalsLarge,
		"TenantsAreApart":          arrivalsApart,
		"PruningKeepsTheLast":      arrivalsPruned,
		"PruningUnderAReader":      arrivalsPrunedUnderReader,
		"PlacesOfADay":             arrivalsOfDay,
		"SegmentsOfTheReconciler":  arrivalsRepaired,
		"PurgeForgetsOneTenant":    arrivalsPurged,
		"AppendersAtOnce":          arrivalsAppendedAtOnce,
		"OrderersAtOnce":           arrivalsOrderedAtOnce,
		"ReconcilersAtOnce":        arrivalsReconciledAtOnce,
		"CancelledCalls":           arrivalsCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// arrivalTime is when the segments of the tests were written.
var arrivalTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// arrivalSegment returns a segment with count ids that follow from first. Its message has the
// number first.
func arrivalSegment(first int64, count int) arrival.Segment {
	s := arrival.Segment{First: first, Messages: []audit.MessageID{messageNumber(first)}, WrittenAt: arrivalTime}
	for i := range count {
		s.IDs = append(s.IDs, entryNumber(first+int64(i)))
	}
	return s
}

func messageNumber(n int64) (id audit.MessageID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func entryNumber(n int64) audit.EntryID {
	var random [10]byte
	binary.BigEndian.PutUint64(random[2:], uint64(n))
	return audit.NewEntryID(arrivalTime, random)
}

// appendArrivals appends segments with these numbers of ids to an empty log.
func appendArrivals(t *testing.T, l ArrivalLog, tenant audit.TenantID, counts ...int) []arrival.Segment {
	t.Helper()
	var segments []arrival.Segment
	first := int64(1)
	for _, count := range counts {
		s := arrivalSegment(first, count)
		noError(t, l.Append(t.Context(), tenant, s))
		s.Messages = nil // Read leaves them out
		segments, first = append(segments, s), s.Last()+1
	}
	return segments
}

func wantArrivals(t *testing.T, l ArrivalLog, tenant audit.TenantID, after int64, limit int, want []arrival.Segment) {
	t.Helper()
	got := must[[]arrival.Segment](t)(l.Read(t.Context(), tenant, after, limit))
	if len(got) == 0 && len(want) == 0 {
		return
	}
	for i := range got {
		got[i].Messages = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("read up to %d segments after %d (-want +got):\n%s", limit, after, diff)
	}
}

func wantArrivalHead(t *testing.T, l ArrivalLog, tenant audit.TenantID, want int64) {
	t.Helper()
	if got := must[arrival.Head](t)(l.Head(t.Context(), tenant)).Last; got != want {
		t.Fatalf("head %d, want %d", got, want)
	}
}

func arrivalsEmpty(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	wantArrivalHead(t, l, tenant, 0)
	for _, after := range []int64{0, 7} {
		wantArrivals(t, l, tenant, after, 10, nil)
	}
	if placed := must[[]audit.MessageID](t)(l.Placed(t.Context(), tenant, []audit.MessageID{{1}})); len(placed) > 0 {
		t.Fatalf("placed %v, want none", placed)
	}
	if n := must[int](t)(l.Prune(t.Context(), tenant, arrivalTime, 10)); n != 0 {
		t.Fatalf("pruned %d segments, want 0", n)
	}
}

func arrivalsInOrder(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	segments := appendArrivals(t, l, tenant, 3, 1, 5, 2)
	wantArrivalHead(t, l, tenant, 11)
	for after := range int64(14) {
		next := slices.IndexFunc(segments, func(s arrival.Segment) bool { return s.Last() > after })
		if next < 0 {
			next = len(segments)
		}
		for _, limit := range []int{1, 2, 100} {
			wantArrivals(t, l, tenant, after, limit, segments[next:min(next+limit, len(segments))])
		}
	}
}

func arrivalsTaken(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	segments := appendArrivals(t, l, tenant, 3, 2)
	for _, first := range []int64{1, 4} {
		late := arrivalSegment(first, 9)
		late.Messages = []audit.MessageID{messageNumber(99)}
		wantError(t, l.Append(t.Context(), tenant, late), audit.ErrConflict)
	}
	wantArrivalHead(t, l, tenant, 5)
	wantArrivals(t, l, tenant, 0, 10, segments)
	if placed := must[[]audit.MessageID](t)(l.Placed(t.Context(), tenant, []audit.MessageID{messageNumber(99)})); len(placed) > 0 {
		t.Fatalf("placed %v although the place was taken, want none", placed)
	}
}

func arrivalsPlacedOnce(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	first := arrivalSegment(1, 2)
	first.Messages = []audit.MessageID{messageNumber(1), messageNumber(2)}
	noError(t, l.Append(t.Context(), tenant, first))
	second := arrivalSegment(3, 2)
	second.Messages = []audit.MessageID{messageNumber(3), messageNumber(2)}
	wantError(t, l.Append(t.Context(), tenant, second), audit.ErrConflict)
	wantArrivalHead(t, l, tenant, 2)
	asked := []audit.MessageID{messageNumber(1), messageNumber(2), messageNumber(3)}
	placed := must[[]audit.MessageID](t)(l.Placed(t.Context(), tenant, asked))
	slices.SortFunc(placed, func(a, b audit.MessageID) int { return slices.Compare(a[:], b[:]) })
	if !slices.Equal(placed, asked[:2]) {
		t.Fatalf("placed %v, want %v", placed, asked[:2])
	}
	second.Messages = second.Messages[:1]
	noError(t, l.Append(t.Context(), tenant, second))
	wantArrivalHead(t, l, tenant, 4)
}

func arrivalsLarge(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	segments := appendArrivals(t, l, tenant, 10_000, 1, 20_000)
	wantArrivalHead(t, l, tenant, 30_001)
	wantArrivals(t, l, tenant, 9_999, 3, segments)
	wantArrivals(t, l, tenant, 10_000, 3, segments[1:])
}

func arrivalsApart(t *testing.T, l ArrivalLog) {
	tenant, other := newTenant(t), newTenant(t)
	segments := appendArrivals(t, l, tenant, 2, 2)
	wantArrivalHead(t, l, other, 0)
	wantArrivals(t, l, other, 0, 10, nil)
	if placed := must[[]audit.MessageID](t)(l.Placed(t.Context(), other, []audit.MessageID{messageNumber(1)})); len(placed) > 0 {
		t.Fatalf("the other tenant's log has %v, want none", placed)
	}
	mine := appendArrivals(t, l, other, 1) // with a message of the same id
	wantArrivals(t, l, other, 0, 10, mine)
	wantArrivals(t, l, tenant, 0, 10, segments)
}

func arrivalsPruned(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	var segments []arrival.Segment
	for i, count := range []int{2, 3, 1, 4} {
		s := arrivalSegment(int64([]int{1, 3, 6, 7}[i]), count)
		s.WrittenAt = arrivalTime.Add(time.Duration(i) * time.Hour)
		noError(t, l.Append(t.Context(), tenant, s))
		s.Messages = nil
		segments = append(segments, s)
	}
	for _, step := range []struct {
		before     time.Duration
		limit      int
		want, left int
	}{{0, 10, 0, 4}, {time.Hour, 10, 1, 3}, {1000 * time.Hour, 1, 1, 2}, {1000 * time.Hour, 10, 1, 1}, {1000 * time.Hour, 10, 0, 1}} {
		if n := must[int](t)(l.Prune(t.Context(), tenant, arrivalTime.Add(step.before), step.limit)); n != step.want {
			t.Fatalf("pruned %d segments written before %s, want %d", n, step.before, step.want)
		}
		for _, after := range []int64{0, 1} { // places that may be pruned
			wantArrivals(t, l, tenant, after, 10, segments[4-step.left:])
		}
	}
	wantArrivalHead(t, l, tenant, 10)
	noError(t, l.Append(t.Context(), tenant, arrivalSegment(11, 1)))
	wantArrivalHead(t, l, tenant, 11)
}

// arrivalsPrunedUnderReader: a reader that stands in a segment continues at the oldest one that
// is left.
func arrivalsPrunedUnderReader(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	segments := appendArrivals(t, l, tenant, 3, 3, 3)
	later := arrivalSegment(10, 2)
	later.WrittenAt = arrivalTime.Add(time.Hour)
	noError(t, l.Append(t.Context(), tenant, later))
	later.Messages = nil
	const at = 2 // within the first segment
	wantArrivals(t, l, tenant, at, 1, segments[:1])
	if n := must[int](t)(l.Prune(t.Context(), tenant, arrivalTime.Add(time.Minute), 2)); n != 2 {
		t.Fatalf("pruned %d segments, want 2", n)
	}
	wantArrivals(t, l, tenant, at, 10, []arrival.Segment{segments[2], later})
	wantArrivals(t, l, tenant, 8, 10, []arrival.Segment{segments[2], later}) // within the oldest that is left
	must[int](t)(l.Prune(t.Context(), tenant, arrivalTime.AddDate(9, 0, 0), 10))
	for _, after := range []int64{0, at, 8, 9, 10} {
		wantArrivals(t, l, tenant, after, 10, []arrival.Segment{later})
	}
	wantArrivals(t, l, tenant, 11, 10, nil)
}

// mixedSegment returns a segment with two ids of the day of arrivalTime and one of the day before.
func mixedSegment(first int64) arrival.Segment {
	s := arrivalSegment(first, 2)
	s.IDs = append(s.IDs, audit.NewEntryID(arrivalTime.AddDate(0, 0, -1), [10]byte{9: byte(first)}))
	return s
}

// visitedIDs returns the ids of the segments of a day, in their order.
func visitedIDs(t *testing.T, l ArrivalLog, tenant audit.TenantID, day time.Time) []audit.EntryID {
	t.Helper()
	var all []audit.EntryID
	noError(t, l.VisitDay(t.Context(), tenant, day, func(ids []audit.EntryID) { all = append(all, ids...) }))
	slices.SortFunc(all, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	return all
}

func arrivalsOfDay(t *testing.T, l ArrivalLog) {
	tenant, other := newTenant(t), newTenant(t)
	today := arrivalTime.Truncate(24 * time.Hour)
	yesterday := today.AddDate(0, 0, -1)
	wantPlaces := func(day time.Time, want int64) {
		t.Helper()
		if got := must[int64](t)(l.PlacesOn(t.Context(), tenant, day)); got != want {
			t.Fatalf("%d places on %s, want %d", got, day.Format(time.DateOnly), want)
		}
	}
	wantPlaces(today, 0)
	if got := visitedIDs(t, l, tenant, today); len(got) > 0 {
		t.Fatalf("visited %v of an empty log, want none", got)
	}
	appendArrivals(t, l, other, 5)
	first, second := mixedSegment(1), arrivalSegment(4, 1)
	noError(t, l.Append(t.Context(), tenant, first))
	noError(t, l.Append(t.Context(), tenant, second))
	wantPlaces(today, 3)
	wantPlaces(yesterday, 1)
	wantPlaces(yesterday.AddDate(0, 0, -1), 0)
	if got, want := len(visitedIDs(t, l, tenant, today)), 4; got != want { // those of yesterday among them
		t.Fatalf("visited %d ids of today's segments, want %d", got, want)
	}
	if got, want := visitedIDs(t, l, tenant, yesterday), []audit.EntryID{first.IDs[2], first.IDs[0], first.IDs[1]}; !slices.Equal(got, want) {
		t.Fatalf("visited %v of yesterday's segments, want %v", got, want)
	}
	must[int](t)(l.Prune(t.Context(), tenant, arrivalTime.Add(time.Hour), 10))
	wantPlaces(today, 1)
	wantPlaces(yesterday, 0)
}

func arrivalsRepaired(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	repairedAt := arrivalTime.Add(time.Minute)
	noError(t, l.Append(t.Context(), tenant, mixedSegment(1)))
	if got := must[arrival.Head](t)(l.Head(t.Context(), tenant)).RepairedAt; !got.IsZero() {
		t.Fatalf("a log without repairs was repaired at %s, want never", got)
	}
	repair := mixedSegment(4)
	repair.Repair, repair.RepairedAt = true, repairedAt
	noError(t, l.Append(t.Context(), tenant, repair))
	after := arrivalSegment(7, 1)
	after.RepairedAt = repairedAt
	noError(t, l.Append(t.Context(), tenant, after))
	if got := must[arrival.Head](t)(l.Head(t.Context(), tenant)); got != (arrival.Head{Last: 7, RepairedAt: repairedAt}) {
		t.Fatalf("head %+v, want the place 7, repaired at %s", got, repairedAt)
	}
	repair.Messages, after.Messages = nil, nil
	wantArrivals(t, l, tenant, 3, 10, []arrival.Segment{repair, after})
	asked := slices.Concat(mixedSegment(1).IDs, repair.IDs, after.IDs, []audit.EntryID{entryNumber(99)})
	got := must[[]audit.EntryID](t)(l.Repaired(t.Context(), tenant, asked))
	slices.SortFunc(got, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	if want := []audit.EntryID{repair.IDs[2], repair.IDs[0], repair.IDs[1]}; !slices.Equal(got, want) {
		t.Fatalf("the reconciler placed %v, want %v", got, want)
	}
	if got := must[[]audit.EntryID](t)(l.Repaired(t.Context(), newTenant(t), asked)); len(got) > 0 {
		t.Fatalf("the reconciler placed %v of another tenant, want none", got)
	}
}

func arrivalsPurged(t *testing.T, l ArrivalLog) {
	tenant, other := newTenant(t), newTenant(t)
	appendArrivals(t, l, tenant, 2, 3, 1, 2)
	kept := appendArrivals(t, l, other, 3)
	purgeWhole(t, l, tenant, 3)
	wantArrivalHead(t, l, tenant, 0)
	wantArrivals(t, l, tenant, 0, 10, nil)
	if placed := must[[]audit.MessageID](t)(l.Placed(t.Context(), tenant, []audit.MessageID{messageNumber(1)})); len(placed) > 0 {
		t.Fatalf("the purged log has %v, want none", placed)
	}
	if n := must[int64](t)(l.PlacesOn(t.Context(), tenant, arrivalTime)); n != 0 {
		t.Fatalf("the purged log has %d places on a day, want 0", n)
	}
	wantArrivals(t, l, other, 0, 10, kept)
}

// arrivalsAppendedAtOnce: of appenders with the same first place, one succeeds.
func arrivalsAppendedAtOnce(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	const appenders = 8
	results := make([]error, appenders)
	var running sync.WaitGroup
	for i := range appenders {
		running.Go(func() {
			s := arrivalSegment(1, i+1)
			s.Messages = []audit.MessageID{messageNumber(int64(i))}
			results[i] = l.Append(t.Context(), tenant, s)
		})
	}
	running.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("appenders %d and %d both got place 1, want one", winner, i)
		case err == nil:
			winner = i
		default:
			wantError(t, err, audit.ErrConflict)
		}
	}
	wantArrivalHead(t, l, tenant, int64(winner+1))
}

// orderedTenants finds every tenant.
type orderedTenants struct{}

func (orderedTenants) Tenant(_ context.Context, id audit.TenantID) (audit.Tenant, error) {
	return audit.Tenant{ID: id, Settings: audit.DefaultSettings()}, nil
}

// arrivalsOrderedAtOnce: several orderers get the messages of one tenant in different batches
// and orders, each message more than once.
func arrivalsOrderedAtOnce(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	const orderers, messages, perMessage = 4, 60, 3
	var bodies []string
	want := map[audit.EntryID]bool{}
	for m := range messages {
		a := envelope.Arrival{Message: messageNumber(int64(m))}
		for i := range perMessage {
			a.IDs = append(a.IDs, entryNumber(int64(m*perMessage+i)))
			want[a.IDs[i]] = true
		}
		bodies = append(bodies, must[[]string](t)(envelope.PackArrivals(tenant, []envelope.Arrival{a}))...)
	}
	var running sync.WaitGroup
	for n := range orderers {
		running.Go(func() {
			o := &arrival.Orderer{Log: l, Tenants: orderedTenants{}, Now: time.Now}
			rotated := slices.Concat(bodies[n*messages/orderers/2:], bodies[:n*messages/orderers/2])
			for batch := range slices.Chunk(rotated, n+3) {
				for _, err := range o.Order(t.Context(), append(batch[:len(batch):len(batch)], batch[0])) {
					if err != nil {
						t.Errorf("orderer %d: %v, want nil", n, err)
					}
				}
			}
		})
	}
	running.Wait()
	next := int64(1)
	for _, s := range must[[]arrival.Segment](t)(l.Read(t.Context(), tenant, 0, 10*messages)) {
		if s.First != next {
			t.Fatalf("a segment begins at %d, want %d", s.First, next)
		}
		for _, id := range s.IDs {
			if !want[id] {
				t.Fatalf("entry %s has two places or was never sent, want one place", id)
			}
			delete(want, id)
		}
		next = s.Last() + 1
	}
	if len(want) > 0 {
		t.Fatalf("%d entries have no place, want 0", len(want))
	}
}

// storedIDs is a system of record with entries of these ids, in rising order, which were
// received at arrivalTime.
type storedIDs []audit.EntryID

func (s storedIDs) Count(_ context.Context, _ audit.TenantID, from, to time.Time) (n int64, err error) {
	for _, id := range s {
		if !id.Time().Before(from) && id.Time().Before(to) {
			n++
		}
	}
	return n, nil
}

func (s storedIDs) IDs(_ context.Context, _ audit.TenantID, from, to time.Time, after audit.EntryID, limit int) (ids []audit.EntryID, err error) {
	for _, id := range s {
		if !id.Time().Before(from) && id.Time().Before(to) && slices.Compare(id[:], after[:]) > 0 && len(ids) < min(limit, 7) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (s storedIDs) EntriesByID(_ context.Context, tenant audit.TenantID, ids []audit.EntryID) (entries []audit.Entry, err error) {
	for _, id := range ids {
		if slices.Contains(s, id) {
			entries = append(entries, audit.Entry{ID: id, Tenant: tenant, Timestamp: id.Time(), ReceivedAt: arrivalTime})
		}
	}
	return entries, nil
}

// arrivalsReconciledAtOnce: reconcilers and orderers place the same entries at the same time. The
// messages of some entries are lost.
func arrivalsReconciledAtOnce(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	const messages, perMessage, lost = 40, 3, 9
	var bodies []string
	var stored storedIDs
	for n := range int64(messages*perMessage + lost) {
		stored = append(stored, entryNumber(n))
	}
	for m := range messages {
		a := envelope.Arrival{Message: messageNumber(int64(m)), Received: arrivalTime, IDs: stored[m*perMessage : (m+1)*perMessage]}
		bodies = append(bodies, must[[]string](t)(envelope.PackArrivals(tenant, []envelope.Arrival{a}))...)
	}
	now := func() time.Time { return arrivalTime.Add(2 * time.Hour) }
	record, day := audit.Tenant{ID: tenant}, arrivalTime.Truncate(24*time.Hour)
	var running sync.WaitGroup
	for n := range 2 {
		running.Go(func() {
			o := &arrival.Orderer{Log: l, Tenants: orderedTenants{}, Now: now}
			for batch := range slices.Chunk(slices.Concat(bodies[10*n:], bodies[:10*n]), n+3) {
				for _, err := range o.Order(t.Context(), batch) {
					if err != nil {
						t.Errorf("orderer %d: %v, want nil", n, err)
					}
				}
			}
		})
		running.Go(func() {
			r := &arrival.Reconciler{Log: l, Store: stored, Reader: stored, Now: now, Publish: func(arrival.Reconciliation) error { return nil }}
			for range 3 {
				if _, err := r.Check(t.Context(), &record, activity.Day{Tenant: tenant, Receipt: activity.Receipt{Received: day, Day: day}}); err != nil {
					t.Errorf("reconciler %d: %v, want nil", n, err)
				}
			}
		})
	}
	running.Wait()
	var placed []audit.EntryID
	for _, s := range must[[]arrival.Segment](t)(l.Read(t.Context(), tenant, 0, 10*messages)) {
		if want := int64(len(placed)) + 1; s.First != want {
			t.Fatalf("a segment begins at %d, want %d", s.First, want)
		}
		placed = append(placed, s.IDs...)
	}
	slices.SortFunc(placed, func(a, b audit.EntryID) int { return slices.Compare(a[:], b[:]) })
	if diff := cmp.Diff([]audit.EntryID(stored), placed); diff != "" {
		t.Fatalf("entries with a place (-want +got):\n%s", diff)
	}
}

func arrivalsCancelled(t *testing.T, l ArrivalLog) {
	tenant := newTenant(t)
	segments := appendArrivals(t, l, tenant, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"head":   func() error { _, err := l.Head(ctx, tenant); return err },
		"append": func() error { return l.Append(ctx, tenant, arrivalSegment(2, 1)) },
		"placed": func() error { _, err := l.Placed(ctx, tenant, []audit.MessageID{{1}}); return err },
		"read":   func() error { _, err := l.Read(ctx, tenant, 0, 1); return err },
		"count":  func() error { _, err := l.PlacesOn(ctx, tenant, arrivalTime); return err },
		"visit":  func() error { return l.VisitDay(ctx, tenant, arrivalTime, func([]audit.EntryID) {}) },
		"repaired": func() error {
			_, err := l.Repaired(ctx, tenant, []audit.EntryID{entryNumber(1)})
			return err
		},
		"prune": func() error { _, err := l.Prune(ctx, tenant, arrivalTime.Add(time.Hour), 1); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	wantArrivals(t, l, tenant, 0, 10, segments)
}

// BenchmarkOrder measures the messages and the places of one tenant that one orderer handles, in
// batches of 100 messages.
func BenchmarkOrder(b *testing.B, log arrival.Log, perMessage int) {
	const tenant, messages = "acme", 100
	o := &arrival.Orderer{Log: log, Tenants: orderedTenants{}, Now: time.Now}
	places, handled := 0, 0
	for b.Loop() {
		b.StopTimer()
		arrivals := make([]envelope.Arrival, messages)
		for i := range arrivals {
			handled++
			a := &arrivals[i]
			a.Received = epoch
			binary.BigEndian.PutUint64(a.Message[:], uint64(handled))
			for range perMessage {
				places++
				a.IDs = append(a.IDs, audit.DeriveEntryID(tenant, epoch, fmt.Sprint(places)))
			}
		}
		bodies, err := envelope.PackArrivals(tenant, arrivals)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for _, err := range o.Order(b.Context(), bodies) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(handled)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(places)/b.Elapsed().Seconds(), "places/s")
}
