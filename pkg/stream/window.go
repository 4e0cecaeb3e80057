package stream

import (
	"context"
	"fmt"
	"sync"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// window caches what the deliveries of one queue message read of a tenant's stream, so
// that the segments are read once for all subscribers.
type window struct {
	*Service
	tenant audit.Tenant // as at the message's delivery
	// stored are the entries of the message itself. They need not be read.
	stored map[audit.EntryID]*search.Candidate

	mu     sync.Mutex
	read   map[int64][]Segment                           // by the number before them
	loaded map[int64]map[audit.EntryID]*search.Candidate // by the segment's number
}

// maxWindow is how many segments and reads a window caches. A segment of a thousand
// entries has about a megabyte.
const maxWindow = 2 * readSegments

func newWindow(s *Service, tenant audit.Tenant, entries []audit.Entry) *window {
	w := &window{
		Service: s, tenant: tenant, stored: make(map[audit.EntryID]*search.Candidate, len(entries)),
		read: map[int64][]Segment{}, loaded: map[int64]map[audit.EntryID]*search.Candidate{},
	}
	for i := range entries {
		w.stored[entries[i].ID] = search.NewCandidate(entries[i])
	}
	return w
}

// after returns the next segments. At the end of the stream it returns none.
func (w *window) after(ctx context.Context, number int64) ([]Segment, error) {
	w.mu.Lock()
	segments, known := w.read[number]
	w.mu.Unlock()
	if known {
		return segments, nil
	}
	segments, err := w.Segments.Read(ctx, w.tenant.ID, number, readSegments)
	if err != nil || len(segments) == 0 { // not cached: the stream grows at its end
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.read) >= maxWindow {
		clear(w.read)
	}
	w.read[number] = segments
	return segments, nil
}

// candidates returns the segment's entries that still exist.
func (w *window) candidates(ctx context.Context, segment Segment) (map[audit.EntryID]*search.Candidate, error) {
	w.mu.Lock()
	found, known := w.loaded[segment.Number]
	w.mu.Unlock()
	if known {
		return found, nil
	}
	found = make(map[audit.EntryID]*search.Candidate, len(segment.IDs))
	var missing []audit.EntryID
	for _, id := range segment.IDs {
		if c := w.stored[id]; c != nil {
			found[id] = c
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		entries, err := w.Reader.EntriesByID(ctx, w.tenant.ID, missing)
		if err != nil {
			return nil, fmt.Errorf("read %d entries of %s: %w", len(missing), w.tenant.ID, err)
		}
		for i := range entries {
			found[entries[i].ID] = search.NewCandidate(entries[i])
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.loaded) >= maxWindow {
		clear(w.loaded)
	}
	w.loaded[segment.Number] = found
	return found, nil
}
