package mongostore

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// ErrNoIndex reports that no index of MongoDB answers a request. It is always
// wrapped in an *audit.UnavailableError, because the search index may answer later.
var ErrNoIndex = errors.New("mongodb: no index answers this")

// noIndexRetryAfter is how long a caller should wait for the search index.
const noIndexRetryAfter = 30 * time.Second

func noIndex(format string, args ...any) error {
	return &audit.UnavailableError{RetryAfter: noIndexRetryAfter, Err: fmt.Errorf("%w: %s", ErrNoIndex, fmt.Sprintf(format, args...))}
}

// maxScans is how many ranges of an index one query may merge. MongoDB merges up
// to 200 sorted ranges. It sorts more than 200 ranges in memory.
const maxScans = 100

// MongoDB limits the size of a query and its depth, to 100 levels. A condition
// takes two levels.
const (
	maxConditions = 500
	maxLevels     = 20
)

// plan says how one index of a partition answers a filter. MongoDB reads in the
// index's order the entries that match equals and time, and skips those that do
// not match rest. Time is a range of _id, which begins with it.
type plan struct {
	index  string
	time   audit.Time
	equals bson.D
	rest   bson.A
	// anyResourceType is set if the index has the resource type between the fields
	// of equals and _id, and the filter does not name one. The query must then
	// list all resource types.
	anyResourceType bool
	// empty is set if no entry can match.
	empty bool
}

// indexedFields are the fields with an index, the most selective first.
var indexedFields = [...]struct {
	field audit.Field
	index string
	lean  bool // IndexesLean has it too
}{
	{audit.FieldResourceID, indexResource, true}, {audit.FieldUserID, indexUser, true},
	{audit.FieldAction, indexAction, false}, {audit.FieldSeverity, indexSeverity, false},
}

// newPlan plans a filter. It returns ErrNoIndex if no index answers it, and an
// *audit.ValidationError if the filter is too complex.
func newPlan(filter audit.Filter, indexes Indexes) (plan, error) {
	p := plan{index: indexID, time: audit.Time{From: filter.From, To: filter.To}}
	var equals []audit.Equals
	var rest []audit.Expr
	for _, e := range conditions(filter.Where) {
		switch e := e.(type) {
		case audit.Time:
			p.time = intersect(p.time, e)
		case audit.Equals:
			if len(e.Values) == 0 {
				p.empty = true
			}
			equals = append(equals, e)
		default:
			rest = append(rest, e)
		}
	}
	if p.empty {
		return p, nil
	}
	if err := p.choose(indexes, equals, &rest); err != nil {
		return p, err
	}
	if err := p.addRest(rest...); err != nil || filter.Unexpired == nil {
		return p, err
	}
	return p, p.addRest(filter.Unexpired) // it needs no index, and has limits of its own
}

// addRest adds conditions that no index answers.
func (p *plan) addRest(exprs ...audit.Expr) error {
	c := compiler{}
	for _, e := range exprs {
		condition, err := c.compile(e, maxLevels)
		if err != nil {
			return err
		}
		p.rest = append(p.rest, condition)
	}
	return nil
}

// conditions returns the conditions that must all hold. It flattens nested Ands.
func conditions(e audit.Expr) []audit.Expr {
	switch e := e.(type) {
	case nil:
		return nil
	case audit.And:
		var all []audit.Expr
		for _, part := range e {
			all = append(all, conditions(part)...)
		}
		return all
	}
	return []audit.Expr{e}
}

// intersect returns the time range that lies in both.
func intersect(a, b audit.Time) audit.Time {
	if a.From.IsZero() || b.From.After(a.From) {
		a.From = b.From
	}
	if a.To.IsZero() || !b.To.IsZero() && b.To.Before(a.To) {
		a.To = b.To
	}
	return a
}

// choose chooses the index. It moves the conditions that the index answers to
// p.equals, and the others to rest.
func (p *plan) choose(indexes Indexes, equals []audit.Equals, rest *[]audit.Expr) error {
	scans := 1
	move := func(field audit.Field) bool {
		i := slices.IndexFunc(equals, func(e audit.Equals) bool { return e.Field == field && scans*len(e.Values) <= maxScans })
		if i < 0 {
			return false
		}
		scans *= len(equals[i].Values)
		p.equals = append(p.equals, bson.E{Key: string(field), Value: in(spellings(equals[i]))})
		equals = slices.Delete(slices.Clone(equals), i, i+1)
		return true
	}
	for _, candidate := range indexedFields {
		if (candidate.lean || indexes == IndexesFull) && move(candidate.field) {
			p.index = candidate.index
			break
		}
	}
	if p.index == indexAction {
		p.anyResourceType = !move(audit.FieldResourceType)
	}
	if p.index == indexID && len(equals)+len(*rest) > 0 {
		return noIndex("a filter needs a field with an index, with up to %d values", maxScans)
	}
	for _, e := range equals {
		*rest = append(*rest, e)
	}
	return nil
}

// compiler translates conditions into MongoDB's query language.
type compiler struct{ count int }

// compile returns the condition of an expression with up to that many levels. It
// returns ErrNoIndex for fields that MongoDB compares in another way than Ocelot.
func (c *compiler) compile(e audit.Expr, levels int) (bson.D, error) {
	if c.count++; c.count > maxConditions || levels == 0 {
		return nil, audit.Invalid("?q", "too_complex", "must have at most %d conditions, nested up to %d levels deep", maxConditions, maxLevels)
	}
	switch e := e.(type) {
	case audit.And:
		return c.list("$and", e, everything, levels)
	case audit.Or:
		return c.list("$or", e, nothing, levels)
	case audit.Not:
		inner, err := c.compile(e.Expr, levels-1)
		return bson.D{{Key: "$nor", Value: bson.A{inner}}}, err
	case audit.Time:
		return timeCondition(fieldTimestamp, e.From, e.To), nil
	case audit.Received:
		return timeCondition(fieldReceivedAt, e.From, e.To), nil
	case audit.Equals:
		if _, ok := e.Field.MetadataPath(); ok {
			return nil, noIndex("MongoDB does not compare metadata by its spelling")
		}
		return bson.D{{Key: string(e.Field), Value: in(spellings(e))}}, nil
	}
	if _, ok := e.(audit.Text); !ok {
		return nil, noIndex("only the search index answers prefixes, networks, has, comparisons of numbers and encrypted values")
	}
	return nil, noIndex("only the search index finds words of the message")
}

func (c *compiler) list(operator string, parts []audit.Expr, empty func() bson.D, levels int) (bson.D, error) {
	if len(parts) == 0 {
		return empty(), nil
	}
	list := make(bson.A, len(parts))
	for i, part := range parts {
		condition, err := c.compile(part, levels-1)
		if err != nil {
			return nil, err
		}
		list[i] = condition
	}
	return bson.D{{Key: operator, Value: list}}, nil
}

// spellings returns the values of a condition as documents spell them. Documents have addresses as
// they were sent, so an IPv4 address can stand there in its IPv4-mapped form.
func spellings(e audit.Equals) []string {
	values := e.Values
	if e.Field == audit.FieldIPAddress {
		for _, value := range e.Values {
			if address, err := netip.ParseAddr(value); err == nil && address.Is4() {
				values = append(slices.Clip(values), netip.AddrFrom16(address.As16()).String())
			}
		}
	}
	return values
}

// everything returns a condition that every document matches, nothing one that none matches.
func everything() bson.D { return bson.D{} }

func nothing() bson.D { return bson.D{{Key: fieldKey, Value: in(nil)}} }

func timeCondition(field string, from, to time.Time) bson.D {
	bounds := bson.D{}
	if !from.IsZero() {
		bounds = append(bounds, bson.E{Key: "$gte", Value: from})
	}
	if !to.IsZero() {
		bounds = append(bounds, bson.E{Key: "$lt", Value: to})
	}
	if len(bounds) == 0 {
		return everything()
	}
	return bson.D{{Key: field, Value: bounds}}
}

// query returns the query for the tenant's entries with these keys.
func (p *plan) query(tenant audit.TenantID, keys keyRange) bson.D {
	query := append(ofTenant(tenant), p.equals...)
	query = append(query, keys.condition())
	if len(p.rest) > 0 {
		query = append(query, bson.E{Key: "$and", Value: p.rest})
	}
	return query
}
