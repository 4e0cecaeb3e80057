package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// The queries of a page without an expression, in both directions, and that of entries with keys.
const (
	findAllRising = `SELECT ` + entryColumns + ` FROM indexed_keys k CROSS JOIN entries e ON e.key = k.key` + joinDocs + `
		WHERE k.tenant = ? AND k.key BETWEEN ? AND ? ORDER BY k.key LIMIT ?`
	findAllFalling = `SELECT ` + entryColumns + ` FROM indexed_keys k CROSS JOIN entries e ON e.key = k.key` + joinDocs + `
		WHERE k.tenant = ? AND k.key BETWEEN ? AND ? ORDER BY k.key DESC LIMIT ?`
	findKeys = `SELECT ` + entryColumns + ` FROM json_each(?) k CROSS JOIN entries e ON e.key = k.value` + joinDocs
)

// Find implements search.Index.
func (x *Index) Find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	page, err := x.find(ctx, tenant, filter, request)
	if err != nil {
		return audit.Page{}, fmt.Errorf("find entries of %s: %w", tenant, err)
	}
	return page, nil
}

func (x *Index) find(ctx context.Context, tenant audit.TenantID, filter audit.Filter, request audit.PageRequest) (audit.Page, error) {
	if request.Limit < 1 || request.Limit > audit.MaxPageLimit {
		return audit.Page{}, audit.Invalid("?limit", "out_of_range", "must be from 1 to %d", audit.MaxPageLimit)
	}
	falling := (request.Order == audit.NewestFirst) != request.Backwards
	bounds, err := spanFrom(request.From, falling)
	if err != nil {
		return audit.Page{}, err
	}
	number, known, err := x.db.number(ctx, tenant)
	if err != nil || !known {
		return audit.Page{}, err
	}
	plan, err := newPlan(number, filter)
	if err != nil {
		return audit.Page{}, err
	}
	r := pageReader{ctx: ctx, tenant: number, docs: docReader{tenant: tenant}, falling: falling, limit: request.Limit, maxBytes: request.MaxBytes, scanLimits: x.scan}
	err = x.db.long.snapshot(ctx, tenant, func(c *conn) error {
		r.docs.conn = c
		x.openValues(plan.values, c, number, tenant)
		r.matches = matcher{cache: x.db.writer.segments, conn: c}
		if bounds, err = c.occupied(ctx, plan, bounds); err != nil {
			return err
		}
		if joinsTerms(filter.Where) {
			if bounds, err = r.scan(filter, plan.hull().intersect(bounds)); err != nil || r.more {
				return err
			}
		}
		r.matches.within = plan.hull().intersect(bounds)
		for p, err := range plan.within(bounds, falling) {
			if err != nil {
				return err
			}
			if more, err := r.read(p); err != nil || !more {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return audit.Page{}, err
	}
	return r.page(request.Backwards), nil
}

// occupied returns the part of a range from the tenant's first key to its last one. It
// avoids full-text searches of ranges without entries if rules divide the range into many.
// Otherwise it returns the range.
func (c *conn) occupied(ctx context.Context, p *plan, s span) (span, error) {
	if len(p.expiries) == 0 || s.empty() {
		return s, nil
	}
	args := []any{p.compiler.tokens.tenant, s.first, s.last}
	err := c.row(ctx, firstKeyIn, args, []any{&s.first})
	if err == nil {
		err = c.row(ctx, lastKeyIn, args, []any{&s.last})
	}
	if errors.Is(err, sql.ErrNoRows) {
		return span{0, -1}, nil
	}
	return s, err
}

const (
	firstKeyIn = `SELECT key FROM indexed_keys WHERE tenant = ? AND key BETWEEN ? AND ? ORDER BY key LIMIT 1`
	lastKeyIn  = `SELECT key FROM indexed_keys WHERE tenant = ? AND key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1`
)

// spanFrom returns the keys after the position in the direction of the list.
func spanFrom(from *audit.Position, falling bool) (span, error) {
	s := everything
	if from == nil {
		return s, nil
	}
	key, err := strconv.ParseInt(from.Tie, 10, 64)
	switch {
	case err != nil || !timeOf(key).Equal(from.Time):
		return s, audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list returned")
	}
	return s.after(key, falling), nil
}

// pageReader reads one page.
type pageReader struct {
	ctx      context.Context
	tenant   int64
	docs     docReader
	matches  matcher
	falling  bool
	limit    int
	maxBytes int
	scanLimits

	keys    []int64
	entries []audit.Entry
	bytes   int
	more    bool
}

// documentRest is the size, in bytes, of what an entry's text has beside its document.
const documentRest = 200

// read adds the piece's entries to the page. more is false if the page is full.
func (r *pageReader) read(p piece) (more bool, err error) {
	if p.empty() {
		return true, nil
	}
	rest := r.limit + 1 - len(r.entries)
	query, args := findAllRising, []any{r.tenant, p.first, p.last, rest}
	switch {
	case p.match != nil:
		found, err := r.find(p, rest)
		if err != nil || len(found) == 0 {
			return true, err
		}
		query, args = findKeys, []any{jsonKeys(found)}
	case r.falling:
		query = findAllFalling
	}
	err = r.docs.each(r.ctx, query, args, func() (bool, error) {
		if len(r.entries) == r.limit {
			r.more = true // the row need not be read
			return false, nil
		}
		doc, entry, err := r.current()
		if err == nil {
			r.add(doc, entry)
		}
		return !r.more, err
	})
	return !r.more, err
}

// find returns the first keys that a piece with an expression matches.
func (r *pageReader) find(p piece, most int) (keys []int64, err error) {
	for key, err := range r.matches.keys(r.ctx, p, r.falling) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); len(keys) == most {
			break
		}
	}
	return keys, nil
}

// jsonKeys returns keys as findKeys gets them.
func jsonKeys(keys []int64) string {
	text := []byte{'['}
	for i, key := range keys {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, key, 10)
	}
	return string(append(text, ']'))
}

// current returns the current row's document and entry.
func (r *pageReader) current() (doc []byte, entry audit.Entry, err error) {
	if doc, err = r.docs.document(r.ctx); err != nil {
		return nil, audit.Entry{}, err
	}
	if entry, err = r.docs.parse(doc); err != nil {
		return nil, audit.Entry{}, fmt.Errorf("entry with key %d: %w", r.docs.key, err)
	}
	return doc, entry, nil
}

// add adds the current row's entry to the page. If the page is full, it sets more instead.
func (r *pageReader) add(doc []byte, entry audit.Entry) {
	size := len(doc) + documentRest
	if len(r.entries) == r.limit || r.maxBytes > 0 && len(r.entries) > 0 && r.bytes+size > r.maxBytes {
		r.more = true
		return
	}
	r.keys = append(r.keys, r.docs.key)
	r.entries = append(r.entries, entry)
	r.bytes += size
}

func (r *pageReader) page(backwards bool) audit.Page {
	if backwards {
		slices.Reverse(r.keys)
		slices.Reverse(r.entries)
	}
	page := audit.Page{Entries: r.entries, More: r.more}
	if n := len(r.keys); n > 0 {
		page.First, page.Last = positionOf(r.keys[0]), positionOf(r.keys[n-1])
	}
	return page
}

func positionOf(key int64) *audit.Position {
	return &audit.Position{Time: timeOf(key), Tie: strconv.FormatInt(key, 10)}
}
