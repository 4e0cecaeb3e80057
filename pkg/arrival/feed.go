package arrival

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/access"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
	"github.com/ocelot-audit/ocelot/pkg/search"
)

// Limits of one request to the feed.
const (
	// MaxPlaces is the most places that a request looks at.
	MaxPlaces = 10_000
	// MaxTime is how long a request looks for entries.
	MaxTime = 5 * time.Second

	// minLoad and maxLoad bound the entries that are read at once. An entry has up to
	// audit.MaxEntryBytes.
	minLoad = 16
	maxLoad = 128
	// minSegments and maxSegments bound the segments of one read. It doubles while they are small.
	minSegments = 8
	maxSegments = 128
)

// restOfPage is the size of a page without its entries, in bytes.
const restOfPage = 1 << 10

// FromNow is the cursor of a feed that begins at the end of the log.
const FromNow = "now"

// Feed reads a tenant's entries in the order of their arrival. It is safe for concurrent use.
type Feed struct {
	Log     Log
	Reader  Reader
	Cursors *cursor.Signer
	Now     func() time.Time
}

// FeedPage is a page of the feed. Next is the cursor after what was read, which is more than
// Entries if a filter leaves some out. More reports whether the log continues there.
type FeedPage struct {
	Entries []audit.Entry
	Next    string
	More    bool
}

// Read answers GET /logs/feed. query has the query parameters: filters, limit and cursor.
// Unknown or faulty ones are an *audit.ValidationError. Without a cursor the page begins at
// the oldest place that is left. The caller has read the tenant's record for this request.
func (f *Feed) Read(ctx context.Context, tenant audit.Tenant, scope access.Scope, query url.Values) (FeedPage, error) {
	request, err := search.ParseFeed(query)
	if err != nil {
		return FeedPage{}, err
	}
	r := &feedRead{
		Feed: f, tenant: &tenant, filter: request.Filter, limit: request.Limit, deadline: f.Now().Add(MaxTime), size: restOfPage,
	}
	r.filter.Where = audit.All(r.filter.Where, scope.Expr())
	if r.at, err = f.start(ctx, tenant.ID, request.Cursor); err != nil {
		return FeedPage{}, err
	}
	more := false
	if request.Cursor != FromNow {
		if more, err = r.run(ctx); err != nil {
			return FeedPage{}, fmt.Errorf("feed of %s after %d: %w", tenant.ID, r.at, err)
		}
	}
	return FeedPage{Entries: r.entries, Next: f.Cursors.Sign(feedName(tenant.ID), binary.BigEndian.AppendUint64(nil, uint64(r.at))), More: more}, nil
}

// feedName names the feed of a tenant. Its cursors are valid with any filter and scope: a
// cursor is a place, and every request checks what its caller may read.
func feedName(tenant audit.TenantID) string { return "feed\n" + string(tenant) }

// start returns the place after which a request begins.
func (f *Feed) start(ctx context.Context, tenant audit.TenantID, text string) (int64, error) {
	switch text {
	case "":
		return 0, nil
	case FromNow:
		head, err := f.Log.Head(ctx, tenant)
		if err != nil {
			return 0, fmt.Errorf("feed of %s: %w", tenant, err)
		}
		return head, nil
	}
	payload, err := f.Cursors.Parse(feedName(tenant), text)
	if err != nil {
		return 0, audit.Invalid("?"+search.ParamCursor, "invalid_cursor", `must be a cursor that this tenant's feed gave, or "now"`)
	}
	if len(payload) != 8 || binary.BigEndian.Uint64(payload) > math.MaxInt64 {
		return 0, audit.Invalid("?"+search.ParamCursor, "invalid_cursor", "must be a cursor of this feed")
	}
	return int64(binary.BigEndian.Uint64(payload)), nil
}

// feedRead is one request.
type feedRead struct {
	*Feed
	tenant   *audit.Tenant
	filter   audit.Filter
	limit    int
	deadline time.Time

	at      int64 // the last place that was read
	places  int   // how many were read
	size    int   // of the page, in bytes
	scratch []byte
	entries []audit.Entry
}

// run reads until the page is full or the request has reached a limit. It reports whether
// places follow.
func (r *feedRead) run(ctx context.Context) (more bool, err error) {
	for count := minSegments; ; count = min(2*count, maxSegments) {
		segments, err := r.Log.Read(ctx, r.tenant.ID, r.at, count)
		if err != nil || len(segments) == 0 {
			return false, err
		}
		for i := range segments {
			full, err := r.segment(ctx, &segments[i])
			if err != nil {
				return false, err
			}
			if full {
				return r.follows(ctx, segments[len(segments)-1].Last())
			}
		}
	}
}

// follows reports whether the log has a place after the last one that was read. last is a
// place that it has.
func (r *feedRead) follows(ctx context.Context, last int64) (bool, error) {
	if r.at < last {
		return true, nil
	}
	segments, err := r.Log.Read(ctx, r.tenant.ID, r.at, 1)
	return len(segments) > 0, err
}

// segment reads the places of a segment after the last one that was read. It reports whether
// the page is full.
func (r *feedRead) segment(ctx context.Context, s *Segment) (full bool, err error) {
	r.at = max(r.at, s.First-1) // places before the oldest were pruned
	for r.at < s.Last() {
		if r.full() {
			return true, nil
		}
		ids := s.IDs[r.at-s.First+1:]
		ids = ids[:min(len(ids), max(minLoad, min(maxLoad, r.limit-len(r.entries))), MaxPlaces-r.places)]
		if full, err = r.load(ctx, ids); err != nil || full {
			return full, err
		}
	}
	return r.full(), nil
}

// full reports whether the request has reached a limit. However slow the log is, each request
// reads some places.
func (r *feedRead) full() bool {
	return len(r.entries) >= r.limit || r.places >= MaxPlaces || r.places > 0 && r.Now().After(r.deadline)
}

// load reads the entries at the next places and adds those that match. It reports whether the
// page ended before all of them.
func (r *feedRead) load(ctx context.Context, ids []audit.EntryID) (full bool, err error) {
	stored, err := r.Reader.EntriesByID(ctx, r.tenant.ID, ids)
	if err != nil {
		return false, err
	}
	byID := make(map[audit.EntryID]*audit.Entry, len(stored))
	for i := range stored {
		byID[stored[i].ID] = &stored[i]
	}
	now := r.Now()
	for _, id := range ids {
		e := byID[id] // nil: it was removed
		if e != nil && r.tenant.Settings.IsVisible(e, now) && search.NewCandidate(*e).Matches(r.filter) {
			if !r.add(e) {
				return true, nil
			}
		}
		r.at++
		r.places++
	}
	return false, nil
}

// add adds an entry to the page, unless the page has no room for it.
func (r *feedRead) add(e *audit.Entry) bool {
	r.scratch = entryjson.AppendPublic(r.scratch[:0], e, r.tenant.Settings.ExpiryOf(e))
	size := r.size + len(r.scratch) + len(",")
	if len(r.entries) == r.limit || len(r.entries) > 0 && size > audit.MaxPageBytes {
		return false
	}
	r.size, r.entries = size, append(r.entries, *e)
	return true
}
