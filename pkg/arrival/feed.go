package arrival

import (
	"context"
	"fmt"
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

	// minLoad is the fewest entries that are read at once.
	minLoad = 16
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
	return FeedPage{Entries: r.entries, Next: Cursor(f.Cursors, tenant.ID, r.at), More: more}, nil
}

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
		return head.Last, nil
	}
	place, ok := ParseCursor(f.Cursors, tenant, text)
	if !ok {
		return 0, audit.Invalid("?"+search.ParamCursor, "invalid_cursor", `must be a cursor that this tenant's feed or stream gave, or "now"`)
	}
	return place, nil
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
	walk := &Walk{Log: r.Log, Reader: r.Reader, Tenant: r.tenant.ID, After: r.at}
	for !r.full() {
		places, err := walk.Next(ctx, min(max(minLoad, r.limit-len(r.entries)), MaxPlaces-r.places))
		if err != nil || len(places) == 0 {
			return false, err
		}
		if full := r.take(places); full {
			return true, nil
		}
	}
	return walk.More(ctx)
}

// full reports whether the request has reached a limit. However slow the log is, each request
// reads some places.
func (r *feedRead) full() bool {
	return len(r.entries) >= r.limit || r.places >= MaxPlaces || r.places > 0 && r.Now().After(r.deadline)
}

// take adds the entries that match. It reports whether the page ended before all places.
func (r *feedRead) take(places []Place) (full bool) {
	now := r.Now()
	for _, p := range places {
		e := p.Entry
		if e != nil && r.tenant.Settings.IsVisible(e, now) && search.NewCandidate(*e).Matches(r.filter) && !r.add(e) {
			return true
		}
		r.at = p.Number
		r.places++
	}
	return false
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
