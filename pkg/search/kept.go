package search

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// Keep returns those of the entries that an answer may show, in their order. It may change the list.
type Keep func(ctx context.Context, entries []audit.Entry) ([]audit.Entry, error)

// Match narrows a list to entries that have all of the tokens, and of these to what Keep keeps; nil: all.
type Match struct {
	Tokens []audit.ValueToken
	Keep   Keep
}

const (
	// maxKeptReads bounds the reads for one page whose entries are not all kept. Those after a page of which
	// nothing is kept are of audit.MaxPageLimit entries, so that short pages do not tell of a few such entries.
	maxKeptReads = 50
	// keptRetry is when to try again after that. The index loses what is not kept within minutes.
	keptRetry = time.Minute
)

// errManyNotKept says that a page was not found in maxKeptReads reads.
var errManyNotKept = errors.New("too many of the entries that match are not kept")

// readPage reads a page, and reports whether that is degraded.
type readPage func(ctx context.Context, request audit.PageRequest) (page audit.Page, degraded bool, err error)

// page returns the page that read reads, without what is not kept.
func (m *Match) page(ctx context.Context, request audit.PageRequest, read readPage) (page audit.Page, degraded bool, err error) {
	if m.Keep == nil {
		return read(ctx, request)
	}
	r := keptReader{read: read, keep: m.Keep}
	page, err = r.page(ctx, request)
	return page, r.degraded, err
}

// keptReader reads pages of the entries that keep keeps. No page is empty because of others, and no cursor is
// the place of one. A page with others in its middle is shorter.
type keptReader struct {
	read     readPage
	keep     Keep
	reads    int
	degraded bool // of any read
}

// next is read, a limited number of times. The entries of kept are those of page that are kept.
func (r *keptReader) next(ctx context.Context, request audit.PageRequest) (page audit.Page, kept []audit.Entry, err error) {
	if r.reads++; r.reads > maxKeptReads {
		return audit.Page{}, nil, &audit.UnavailableError{RetryAfter: keptRetry, Err: errManyNotKept}
	}
	page, degraded, err := r.read(ctx, request)
	r.degraded = r.degraded || degraded
	if err == nil {
		kept, err = r.keep(ctx, slices.Clone(page.Entries))
	}
	return page, kept, err
}

// page returns the first page that has a kept entry. Its first and its last entry are kept, and so is one of
// the entries that follow, if there are more.
func (r *keptReader) page(ctx context.Context, request audit.PageRequest) (audit.Page, error) {
	whole := request.Limit
	for {
		page, kept, err := r.next(ctx, request)
		if err != nil {
			return audit.Page{}, err
		}
		if len(kept) == 0 {
			if !page.More {
				return audit.Page{}, nil
			}
			request.From, request.Limit = far(request, page), audit.MaxPageLimit
			continue
		}
		before, after := edges(page.Entries, kept, request.Backwards)
		switch {
		case before > 0: // read up to them, for the position
			request.Limit = before
			skipped, _, err := r.next(ctx, request)
			if err != nil {
				return audit.Page{}, err
			}
			if skipped.Last != nil {
				request.From = far(request, skipped)
			}
			request.Limit = whole
		case len(page.Entries) > whole:
			request.Limit = whole
		case after > 0:
			request.Limit = len(page.Entries) - after
		default:
			page.Entries = kept
			if page.More {
				page.More, err = r.follows(ctx, request, far(request, page), whole)
			}
			return page, err
		}
	}
}

// follows reports whether a kept entry follows a position.
func (r *keptReader) follows(ctx context.Context, request audit.PageRequest, from *audit.Position, limit int) (bool, error) {
	for request.From, request.Limit = from, limit; ; {
		page, kept, err := r.next(ctx, request)
		if err != nil || len(kept) > 0 || !page.More {
			return len(kept) > 0, err
		}
		request.From, request.Limit = far(request, page), audit.MaxPageLimit
	}
}

// far is the position of the page's entry that is farthest in the direction of the request.
func far(request audit.PageRequest, page audit.Page) *audit.Position {
	if request.Backwards {
		return page.First
	}
	return page.Last
}

// edges returns how many entries before the first kept one are not kept, and after the last one, in the
// direction of the request.
func edges(entries, kept []audit.Entry, backwards bool) (before, after int) {
	first := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.ID == kept[0].ID })
	last := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.ID == kept[len(kept)-1].ID })
	before, after = first, len(entries)-1-last
	if backwards {
		before, after = after, before
	}
	return before, after
}
