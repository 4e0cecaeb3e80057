package arrival

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

const (
	// MaxLoad is the most entries that Walk reads at once. An entry has up to
	// audit.MaxEntryBytes.
	MaxLoad = 128
	// minSegments and maxSegments bound the segments of one read. It doubles while they are small.
	minSegments = 8
	maxSegments = 128
)

// Walk reads a tenant's log place by place. Every reader of the log uses it. A Walk is for one
// goroutine.
type Walk struct {
	Log    Log
	Reader Reader
	Tenant audit.TenantID
	// After is the last place that was read.
	After int64

	segments []Segment // read ahead: the first one has a place after After
	count    int       // of the next read of segments
}

// Place is a place of the log with its entry.
type Place struct {
	Number int64
	Entry  *audit.Entry // nil: it was removed
	id     audit.EntryID
}

// Next returns up to limit places after After, at most MaxLoad, and moves After to the last of
// them. It returns none at the end of the log. Places that were pruned are passed over. After
// an error nothing has moved.
//
// A place without an entry has no entry in the system of record: Reader asks the primary for
// what a secondary lacks.
func (w *Walk) Next(ctx context.Context, limit int) ([]Place, error) {
	if more, err := w.More(ctx); err != nil || !more {
		return nil, err
	}
	places := w.ahead(min(limit, MaxLoad))
	ids := make([]audit.EntryID, len(places))
	for i := range places {
		ids[i] = places[i].id
	}
	stored, err := w.Reader.EntriesByID(ctx, w.Tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("read %d entries of %s: %w", len(ids), w.Tenant, err)
	}
	byID := make(map[audit.EntryID]*audit.Entry, len(stored))
	for i := range stored {
		byID[stored[i].ID] = &stored[i]
	}
	for i := range places {
		places[i].Entry = byID[places[i].id]
	}
	w.After = places[len(places)-1].Number
	for len(w.segments) > 0 && w.segments[0].Last() <= w.After {
		w.segments = w.segments[1:]
	}
	return places, nil
}

// ahead returns up to limit places of the segments that were read ahead, without their entries.
func (w *Walk) ahead(limit int) []Place {
	places := make([]Place, 0, limit)
	for i := range w.segments {
		s := &w.segments[i]
		first := max(w.After+1, s.First)
		for j, id := range s.IDs[first-s.First:] {
			if len(places) == limit {
				return places
			}
			places = append(places, Place{Number: first + int64(j), id: id})
		}
	}
	return places
}

// More reports whether the log has a place after After.
func (w *Walk) More(ctx context.Context) (bool, error) {
	if len(w.segments) > 0 {
		return true, nil
	}
	w.count = min(max(2*w.count, minSegments), maxSegments)
	segments, err := w.Log.Read(ctx, w.Tenant, w.After, w.count)
	w.segments = segments
	return len(segments) > 0, err
}

// logName names the log of a tenant for its cursors. They are valid with any filter and scope:
// a cursor is a place, and every reader checks what its caller may read.
func logName(tenant audit.TenantID) string { return "arrival\n" + string(tenant) }

// Cursor returns the cursor that stands after a place. The feed and the live stream have the
// same cursors.
func Cursor(signer *cursor.Signer, tenant audit.TenantID, place int64) string {
	return signer.Sign(logName(tenant), binary.BigEndian.AppendUint64(nil, uint64(place)))
}

// ParseCursor returns the place of a cursor of this tenant. It reports false for any other text.
func ParseCursor(signer *cursor.Signer, tenant audit.TenantID, text string) (place int64, ok bool) {
	payload, err := signer.Parse(logName(tenant), text)
	if err != nil || len(payload) != 8 {
		return 0, false
	}
	number := binary.BigEndian.Uint64(payload)
	return int64(number), number <= math.MaxInt64
}
