package arrival

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/backoff"
	"github.com/ocelot-audit/ocelot/pkg/envelope"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Reconciler gives places to entries that have none because their message to Orderer was lost.
// It compares the log with the system of record, for the days that the register has. Several
// may work on one tenant at the same time, beside orderers. It is safe for concurrent use.
type Reconciler struct {
	Log    Log
	Store  search.IDLister
	Reader Reader
	Nudger *Nudger // nil: there are no live streams
	// Publish gets each result. It is called concurrently.
	Publish func(Reconciliation) error
	Now     func() time.Time

	width int64 // for tests; 0: maxCompared
}

// Reconciliation is the result for one tenant and receipt.
type Reconciliation struct {
	Tenant audit.TenantID
	activity.Receipt
	Stored int64 // entries with timestamps on the day in the system of record
	Placed int64 // places of such entries, also of entries that were removed
	// Repaired are the entries that got their places, Pending those that were received less
	// than PlaceAfter ago and have none.
	Repaired, Pending int64
	// Lag is the time since the oldest entry without a place was received; zero if each has one.
	Lag time.Duration
}

const (
	// PlaceAfter is how long after its receipt an entry without a place gets one.
	PlaceAfter = time.Hour
	// CheckInterval is the time between two checks of a receipt.
	CheckInterval = time.Hour
	// minCheckInterval is the shortest time until a receipt with pending entries is checked again.
	minCheckInterval = 5 * time.Minute
	// EnoughChecks is how many checks without a difference a receipt needs. A process that
	// stores entries touches their days more often than CheckInterval, so the second check
	// sees all of them.
	EnoughChecks = 2

	// maxCompared bounds the ids that are compared at once. They have 8 MB.
	maxCompared = 1 << 19
	// readAtOnce bounds the entries without a place that are read together.
	readAtOnce = 100
)

// maxSkew bounds the difference of two clocks.
const maxSkew = 25 * time.Hour

// Check compares the day of a receipt and gives places to the entries that lack them, on a day with many entries in
// several steps. It is the Check of an activity.Task for activity.Places.
func (r *Reconciler) Check(ctx context.Context, tenant *audit.Tenant, day activity.Day) (activity.Outcome, error) {
	c := &placing{
		Reconciler: r, day: day, now: r.Now(), after: day.After, width: cmp.Or(r.width, maxCompared),
		state: state{Found: Reconciliation{Tenant: tenant.ID, Receipt: day.Receipt}},
	}
	rest, err := c.step(ctx)
	if err == nil && rest == (activity.Progress{}) {
		err = r.Publish(c.state.Found)
	}
	if err != nil {
		return activity.Outcome{}, fmt.Errorf("compare the arrival log of %s on %s: %w", tenant.ID, day.Day.Format(time.DateOnly), err)
	}
	found, unexplained := &c.state.Found, c.isUnexplained()
	switch checks := day.Checks + 1; {
	case rest != activity.Progress{}:
		return activity.Outcome{Stopped: true, Progress: rest}, nil
	case found.Pending > 0:
		return activity.Outcome{Due: c.now.Add(min(max(PlaceAfter-found.Lag, minCheckInterval), CheckInterval))}, nil
	case found.Repaired > 0, unexplained, checks < EnoughChecks:
		if found.Repaired > 0 || unexplained {
			checks = 0
		}
		return activity.Outcome{Checks: checks, Due: c.now.Add(CheckInterval)}, nil
	default:
		return activity.Outcome{Checks: checks}, nil
	}
}

// state is what the steps of the comparison of a day leave to the next one.
type state struct {
	Found    Reconciliation `json:"found"`
	Restored int64          `json:"restored,omitempty"` // entries without a place that were restored: they get none
	Left     []timeRange    `json:"left,omitempty"`     // what is to be compared by ids
}

// placing is one step of the comparison of a day.
type placing struct {
	*Reconciler
	day   activity.Day
	now   time.Time
	state state
	after audit.EntryID // the last id of the first range of state.Left that was compared; zero: none
	width int64         // maxCompared

	verified int64
	pruned   *pruned
	without  []audit.EntryID // entries without a place, not yet read
	overdue  []audit.EntryID // of them, those that get one
}

// isUnexplained reports whether there are more entries than places, although none without one was found.
func (c *placing) isUnexplained() bool {
	found := &c.state.Found
	return found.Stored-c.state.Restored > found.Placed && found.Pending+found.Repaired == 0
}

// step compares the day from where the last step stopped. It returns the Progress of the next one; zero: the end of
// the day is reached.
func (c *placing) step(ctx context.Context) (rest activity.Progress, err error) {
	if c.day.State != "" {
		err = json.Unmarshal([]byte(c.day.State), &c.state)
	}
	repaired := c.state.Found.Repaired
	if err == nil {
		err = c.compare(ctx)
	}
	if err == nil && c.state.Found.Repaired > repaired && c.Nudger != nil {
		err = c.Nudger.Nudge(ctx, []audit.TenantID{c.state.Found.Tenant}, nil)[0]
	}
	if err != nil || len(c.state.Left) == 0 {
		return activity.Progress{}, err
	}
	text, err := json.Marshal(c.state)
	return activity.Progress{After: c.after, State: string(text)}, err
}

// compare compares the day by its counts, and by its ids only if these differ. The places are
// counted first, so that an entry that is stored meanwhile makes the counts differ. What is left when the time
// is up stays in state.Left.
func (c *placing) compare(ctx context.Context) error {
	begins := c.day.State == ""
	if begins {
		if same, err := c.counts(ctx); err != nil || same {
			return err
		}
	}
	// Places up to this head are seen below. place looks at the later ones.
	head, err := c.Log.Head(ctx, c.state.Found.Tenant)
	if err != nil {
		return err
	}
	c.verified = head.Last
	if begins {
		if c.state.Left, err = c.ranges(ctx); err != nil {
			return err
		}
	}
	for stopped := false; len(c.state.Left) > 0 && !stopped; {
		if stopped, err = c.comparePart(ctx, c.state.Left[0]); err != nil {
			return err
		}
		if !stopped {
			c.state.Left, c.after = c.state.Left[1:], audit.EntryID{}
			stopped = c.day.TimeUp(c.Now())
		}
	}
	if err := c.read(ctx); err != nil {
		return err
	}
	return c.place(ctx)
}

// counts counts the places and the entries of the day. It reports whether there are as many.
func (c *placing) counts(ctx context.Context) (same bool, err error) {
	found := &c.state.Found
	if found.Placed, err = c.Log.PlacesOn(ctx, found.Tenant, c.day.Day); err != nil {
		return false, err
	}
	found.Stored, err = c.Store.Count(ctx, found.Tenant, c.day.Day, c.day.Day.Add(oneDay))
	return found.Stored == found.Placed, err
}

// timeRange is a range of timestamps.
type timeRange struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// ranges returns the parts of the day to compare by ids. A day with many entries is counted
// hour by hour, and an hour that differs is divided by its places.
func (c *placing) ranges(ctx context.Context) ([]timeRange, error) {
	if max(c.state.Found.Stored, c.state.Found.Placed) <= c.width {
		return []timeRange{{c.day.Day, c.day.Day.Add(oneDay)}}, nil
	}
	var minutes [24 * 60]int64 // of the places
	err := c.Log.VisitDay(ctx, c.state.Found.Tenant, c.day.Day, func(ids []audit.EntryID) {
		for i := range ids {
			if at := ids[i].Time().Sub(c.day.Day); at >= 0 && at < oneDay {
				minutes[at/time.Minute]++
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var parts []timeRange
	for hour := range 24 {
		ofHour := minutes[hour*60 : hour*60+60]
		placed := int64(0)
		for _, n := range ofHour {
			placed += n
		}
		from := c.day.Day.Add(time.Duration(hour) * time.Hour)
		stored, err := c.Store.Count(ctx, c.state.Found.Tenant, from, from.Add(time.Hour))
		if err != nil {
			return nil, err
		}
		if stored != placed {
			parts = append(parts, c.divide(from, ofHour)...)
		}
	}
	return parts, nil
}

// divide divides an hour into parts with at most width places, or of one minute.
func (c *placing) divide(from time.Time, minutes []int64) []timeRange {
	parts := []timeRange{{From: from}}
	size := int64(0)
	for i, n := range minutes {
		at := from.Add(time.Duration(i) * time.Minute)
		if size += n; i > 0 && size > c.width {
			parts[len(parts)-1].To = at
			parts, size = append(parts, timeRange{From: at}), n
		}
	}
	parts[len(parts)-1].To = from.Add(time.Hour)
	return parts
}

// comparePart compares a part of the day by its ids, from those on that follow after. It reports whether it stopped
// before the end because the time is up.
func (c *placing) comparePart(ctx context.Context, part timeRange) (stopped bool, err error) {
	var placed []audit.EntryID
	err = c.Log.VisitDay(ctx, c.state.Found.Tenant, c.day.Day, func(ids []audit.EntryID) {
		for _, id := range ids {
			if at := id.Time(); !at.Before(part.From) && at.Before(part.To) {
				placed = append(placed, id)
			}
		}
	})
	if err != nil {
		return false, err
	}
	slices.SortFunc(placed, compareIDs)
	for {
		ids, err := c.Store.IDs(ctx, c.state.Found.Tenant, part.From, part.To, c.after, search.MaxIDs)
		if err != nil || len(ids) == 0 {
			return false, err
		}
		for _, id := range ids {
			c.after = id
			if _, found := slices.BinarySearchFunc(placed, id, compareIDs); found {
				continue
			}
			if c.without = append(c.without, id); len(c.without) < readAtOnce {
				continue
			}
			if err := c.read(ctx); err != nil {
				return false, err
			}
			if c.day.TimeUp(c.Now()) {
				return true, nil
			}
		}
		if c.day.TimeUp(c.Now()) {
			return true, nil
		}
	}
}

func compareIDs(a, b audit.EntryID) int { return bytes.Compare(a[:], b[:]) }

// read reads the entries without a place, and places those that are overdue once they are many.
func (c *placing) read(ctx context.Context) error {
	if len(c.without) == 0 {
		return nil
	}
	entries, err := c.Reader.EntriesByID(ctx, c.state.Found.Tenant, c.without)
	if err != nil {
		return err
	}
	c.without = c.without[:0]
	for i := range entries {
		e := &entries[i]
		mayBePruned, err := c.mayBePruned(ctx, e.ReceivedAt)
		if err != nil {
			return err
		}
		switch age := c.now.Sub(e.ReceivedAt); {
		case !e.RestoredUntil.IsZero():
			c.state.Restored++
		case mayBePruned:
		case age < PlaceAfter:
			c.state.Found.Pending++
			c.state.Found.Lag = max(c.state.Found.Lag, age)
		default:
			c.overdue = append(c.overdue, e.ID)
			c.state.Found.Lag = max(c.state.Found.Lag, age)
		}
	}
	if len(c.overdue) < maxSegment {
		return nil
	}
	return c.place(ctx)
}

// pruned says what a log lost.
type pruned struct {
	before time.Time // places of entries that were received later were not pruned
}

// mayBePruned reports whether the place of an entry that was received at the time may have
// been pruned. Such an entry has had its time in the feed.
func (c *placing) mayBePruned(ctx context.Context, receivedAt time.Time) (bool, error) {
	if receivedAt.After(c.now.Add(-keptAfterRetention)) {
		return false, nil // no retention is so short that its segment could be pruned
	}
	if c.pruned == nil {
		oldest, err := c.Log.Read(ctx, c.state.Found.Tenant, 0, 1)
		if err != nil {
			return false, err
		}
		c.pruned = &pruned{}
		if len(oldest) > 0 && oldest[0].First > 1 {
			c.pruned.before = oldest[0].WrittenAt.Add(maxSkew)
		}
	}
	return receivedAt.Before(c.pruned.before), nil
}

// place appends a segment with the entries that are overdue. First it leaves out those that
// got a place since the log was compared. No segment can come in between: its number would be
// taken.
func (c *placing) place(ctx context.Context) error {
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		head, err := c.Log.Head(ctx, c.state.Found.Tenant)
		if err == nil {
			err = c.verify(ctx, head.Last)
		}
		if err != nil || len(c.overdue) == 0 {
			return err
		}
		s := c.segment(&head)
		if err = c.Log.Append(ctx, c.state.Found.Tenant, s); err == nil {
			c.state.Found.Repaired += int64(len(s.IDs))
			c.verified, c.overdue = s.Last(), nil
			return nil
		}
		if !errors.Is(err, audit.ErrConflict) {
			return err
		}
		if err := backoff.Sleep(ctx, appendDelays.Delay(attempt)); err != nil {
			return err
		}
	}
	return errLost
}

// verify removes the entries from overdue that have a place after the verified ones, and
// verifies the log up to a head.
func (c *placing) verify(ctx context.Context, head int64) error {
	for c.verified < head {
		segments, err := c.Log.Read(ctx, c.state.Found.Tenant, c.verified, maxSegments)
		if err != nil {
			return err
		}
		if len(segments) == 0 {
			return fmt.Errorf("the log ends at %d and before", head)
		}
		placed := map[audit.EntryID]bool{}
		for i := range segments {
			for _, id := range segments[i].IDs {
				placed[id] = true
			}
		}
		c.overdue = slices.DeleteFunc(c.overdue, func(id audit.EntryID) bool { return placed[id] })
		c.verified = segments[len(segments)-1].Last()
	}
	return nil
}

// segment returns the next segment. Its message follows from its entries, so that two
// reconcilers cannot both append it.
func (c *placing) segment(head *Head) Segment {
	written := c.Now().UTC().Truncate(time.Millisecond)
	repaired := written
	if !repaired.After(head.RepairedAt) {
		repaired = head.RepairedAt.Add(time.Millisecond)
	}
	sum := sha256.Sum256(envelope.PackIDs(c.overdue))
	return Segment{
		First: head.Last + 1, IDs: c.overdue, Messages: []audit.MessageID{audit.MessageID(sum[:])}, WrittenAt: written,
		Repair: true, RepairedAt: repaired,
	}
}
